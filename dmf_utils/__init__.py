"""Deep matrix factorization: problems, gradient flow and descent, and what judges them.

The numerics behind the book that recomputes *Implicit Regularization in Deep Matrix
Factorization* (Arora, Cohen, Hu, Luo, NeurIPS 2019). Modules that bring heavier dependencies are
imported by name: ``from dmf_utils import claims, convex, plotting, sweep``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "FullObservation": "problems",
    "MatrixCompletion": "problems",
    "MatrixSensing": "problems",
    "Record": "trajectory",
    "Status": "trajectory",
    "Trajectory": "trajectory",
    "balanced": "factorization",
    "balanced_factors": "factorization",
    "balancedness_gap": "factorization",
    "effective_rank": "norms",
    "factor_gradients": "factorization",
    "gaussian": "factorization",
    "gradient_descent": "descent",
    "gradient_flow": "flow",
    "identity": "factorization",
    "low_rank_matrix": "problems",
    "nuclear_norm": "norms",
    "numerical_rank": "norms",
    "product_matrix": "factorization",
    "schatten_norm": "norms",
    "singular_values": "norms",
}


def __getattr__(name: str) -> Any:
    """A name of `__all__`, imported when first asked for: torch takes seconds to load."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
