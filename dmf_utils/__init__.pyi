from .factorization.initialization import (
    balanced as balanced,
    balanced_factors as balanced_factors,
    gaussian as gaussian,
    identity as identity,
)
from .factorization.norms import (
    effective_rank as effective_rank,
    nuclear_norm as nuclear_norm,
    numerical_rank as numerical_rank,
    schatten_norm as schatten_norm,
    singular_values as singular_values,
)
from .factorization.product import (
    balancedness_gap as balancedness_gap,
    factor_gradients as factor_gradients,
    product_matrix as product_matrix,
)
from .flow.descent import gradient_descent as gradient_descent
from .flow.flow import gradient_flow as gradient_flow
from .flow.settings import Settings as Settings
from .flow.trajectory import Record as Record, Status as Status, Trajectory as Trajectory
from .problems.base import low_rank_matrix as low_rank_matrix
from .problems.completion import MatrixCompletion as MatrixCompletion
from .problems.full_observation import FullObservation as FullObservation
from .problems.sensing import MatrixSensing as MatrixSensing
