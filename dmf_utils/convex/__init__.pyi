from .nuclear_norm import min_nuclear_norm as min_nuclear_norm
