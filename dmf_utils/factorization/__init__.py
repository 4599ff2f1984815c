r"""Deep matrix factorizations :math:`W = W_N \cdots W_1`: product, initialization, norms.

Factors are listed first to last, ``[W_1, ..., W_N]``. Its names are those of the package's own
face. It imports ``_support`` only.
"""
