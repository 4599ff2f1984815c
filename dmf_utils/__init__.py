"""Deep matrix factorization: problems, gradient flow and descent, and what judges them.

The numerics behind the book that recomputes *Implicit Regularization in Deep Matrix
Factorization* (Arora, Cohen, Hu, Luo, NeurIPS 2019). Modules that bring heavier dependencies are
imported by name: ``from dmf_utils import claims, convex, plotting, sweep``.
"""

from dmf_utils.descent import gradient_descent
from dmf_utils.factorization import (
    balanced,
    balanced_factors,
    balancedness_gap,
    factor_gradients,
    gaussian,
    identity,
    product_matrix,
)
from dmf_utils.flow import gradient_flow
from dmf_utils.norms import (
    effective_rank,
    nuclear_norm,
    numerical_rank,
    schatten_norm,
    singular_values,
)
from dmf_utils.problems import (
    FullObservation,
    MatrixCompletion,
    MatrixSensing,
    low_rank_matrix,
)
from dmf_utils.trajectory import Record, Status, Trajectory

__all__ = [
    "FullObservation",
    "MatrixCompletion",
    "MatrixSensing",
    "Record",
    "Status",
    "Trajectory",
    "balanced",
    "balanced_factors",
    "balancedness_gap",
    "effective_rank",
    "factor_gradients",
    "gaussian",
    "gradient_descent",
    "gradient_flow",
    "identity",
    "low_rank_matrix",
    "nuclear_norm",
    "numerical_rank",
    "product_matrix",
    "schatten_norm",
    "singular_values",
]
