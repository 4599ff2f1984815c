"""When a run is stepped linearly implicitly: where something waits, and that costs less."""

from __future__ import annotations

import torch
from torch import Tensor

from dmf_utils.flow.batch import Factorizations
from dmf_utils.flow.chebyshev import MAX_STAGES, chebyshev_stages
from dmf_utils.flow.rosenbrock import RosenbrockSteps
from dmf_utils.flow.step_size import StepControl
from dmf_utils.flow.waiting import is_swallowed
from dmf_utils.problems.base import SquaredLoss

__all__ = ["may_rest", "rests", "will_rest"]


def may_rest(batch: Factorizations, state: Tensor) -> bool:
    """Whether a run may be stepped by `RosenbrockSteps`: its Hessian must be known exactly.

    Parameters
    ----------
    batch : Factorizations
        Of this run alone.
    state : Tensor, shape (P,)
    """
    is_quadratic = batch.is_own and isinstance(batch.problem, SquaredLoss)
    # Ratings avoid their product matrix, which the bases would need.
    is_small = len(batch.shapes) > 1 and not batch.from_factors
    return is_quadratic and is_small and state.dtype == torch.float64 and state.device.type == "cpu"


def will_rest(run: StepControl, batch: Factorizations, state: Tensor) -> bool:
    """Whether a run is stepped so at the latest when its steps are as long as they may be."""
    if not may_rest(batch, state):
        return False
    # At rest, steps of Dormand–Prince grow to some three over the largest curvature, no further.
    curvature = run.curvature if run.is_stiff and run.curvature is not None else 1 / run.step
    stages = chebyshev_stages(min(run.longest, 1e100), curvature)
    return run.resting is not None or stages > run.most_explicit


def rests(run: StepControl, batch: Factorizations, state: Tensor, origin: Tensor) -> bool:
    """Whether the next step of a run is linearly implicit; what makes such steps is set.

    Parameters
    ----------
    run : StepControl
        With the largest curvature known.
    batch : Factorizations
        Of this run alone.
    state, origin : Tensor, shape (P,)
        Where it is, and where it began.
    """
    stages = chebyshev_stages(run.step, run.curvature)
    if run.resting is not None and stages < run.resting.cost:
        run.most_explicit = max(MAX_STAGES, 2 * run.resting.cost)
        run.resting = None
    elif run.resting is None and stages > run.most_explicit and may_rest(batch, state):
        factors, first = ([W[0].clone() for W in batch.factors(of[None])] for of in (state, origin))
        # New bases would draw a sign for a mode that has decayed below rounding.
        if not is_swallowed(first, factors):
            run.resting = RosenbrockSteps(batch.problem, factors)
    return run.resting is not None
