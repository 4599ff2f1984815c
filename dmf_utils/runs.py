"""What flow and descent do before they step: check the arguments and lay out the batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dmf_utils.factorization import Start, factor_shapes
from dmf_utils.problems import Problem, stack
from dmf_utils.steppers import Factorizations

__all__ = ["prepare"]


def prepare(
    problem: Problem | Sequence[Problem],
    depth: int,
    start: Start | Sequence[Tensor] | Sequence[Start],
    hidden: int | None,
    device: torch.device | str,
    dtype: torch.dtype,
) -> tuple[Factorizations, Tensor, bool]:
    """The batch, its states ``(B, P)`` at time 0, and whether a single run was asked for.

    Raises
    ------
    TypeError
        If `problem` or `start` is of another kind.
    ValueError
        If numbers of problems and starts, or shapes, do not fit.
    """
    single = not isinstance(problem, (list, tuple))
    problems = [problem] if single else list(problem)
    for one in problems:
        if not (hasattr(one, "shape") and hasattr(one, "loss_and_gradient")):
            raise TypeError(f"problem must be a Problem such as MatrixCompletion, got {one!r}")
    starts = [start]
    if isinstance(start, (list, tuple)) and not _are_factors(start):
        single, starts = False, list(start)
    if not problems or not starts:
        raise ValueError("problem and start must not be empty sequences")
    count = max(len(problems), len(starts))
    for name, given in (("problem", problems), ("start", starts)):
        if len(given) not in (1, count):
            raise ValueError(
                f"{name} has {len(given)} members, but the batch has {count}; give one, or {count}"
            )
    problems = problems * (count // len(problems))
    starts = starts * (count // len(starts))
    made = [
        _factors(one, tuple(p.shape), depth, hidden)
        for p, one in zip(problems, starts, strict=True)
    ]
    shapes = [tuple(W.shape) for W in made[0]]
    if any([tuple(W.shape) for W in factors] != shapes for factors in made):
        raise ValueError("the starts of a batch must have factors of the same shapes")
    states = torch.stack([torch.cat([W.reshape(-1) for W in factors]) for factors in made])
    if not torch.isfinite(states).all():
        raise ValueError("start has NaN or infinite entries")
    joined = stack(problems)
    if hasattr(joined, "to"):
        joined = joined.to(device, dtype)
    return Factorizations(joined, shapes, count), states.to(device, dtype), single


def _are_factors(start: Sequence[object]) -> bool:
    return all(isinstance(member, Tensor) for member in start) and len(start) > 0


def _factors(
    start: Start | Sequence[Tensor], shape: tuple[int, int], depth: int, hidden: int | None
) -> list[Tensor]:
    if hasattr(start, "factors"):
        return start.factors(shape, depth, hidden)
    factors = list(start) if isinstance(start, (list, tuple)) else []
    if not _are_factors(factors) or any(W.ndim != 2 for W in factors):
        raise TypeError(
            "start must be a Start such as gaussian(norm=1e-2, seed=0), or a list of tensors "
            f"[W_1, ..., W_N], each a matrix; got {start!r}"
        )
    sizes = [tuple(W.shape) for W in factors]
    chained = all(upper[1] == lower[0] for lower, upper in pairwise(sizes))
    if not chained or (sizes[-1][0], sizes[0][1]) != shape:
        raise ValueError(
            f"start has factors of shapes {sizes}, whose product W_N ... W_1 is not of the "
            f"problem's shape {shape}; list them first to last"
        )
    narrowest = min(size[0] for size in sizes)
    if narrowest < min(shape):
        factor_shapes(shape, len(factors), narrowest)  # for its warning
    return [W.detach().to(torch.float64) for W in factors]
