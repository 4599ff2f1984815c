"""A gradient that needs the product at the observed entries only, beside the dense one."""

from __future__ import annotations

import warnings
from itertools import product

import torch

from dmf_utils import MatrixCompletion, gaussian
from dmf_utils.flow.batch import prepare
from dmf_utils.sweep.cost import least_seconds

SHAPES = [(100, 100), (400, 400), (943, 1682), (2000, 2000)]
SHARES = [0.01, 0.063, 0.125, 0.25]
KINDS = [(2, 30), (2, None), (3, None)]  # depth and hidden size


def ratios(shapes: list[tuple[int, int]] = SHAPES) -> None:
    """Print, for each size and share of observed entries, how much faster the sparse one is."""
    print("\nSparse beside dense gradients: times as fast, in double and single precision")
    for shape, share in product(shapes, SHARES):
        problem = MatrixCompletion.random(shape, 3, int(share * shape[0] * shape[1]), seed=0)
        seen = []
        for depth, hidden in KINDS:
            found = [f"{_ratio(problem, depth, hidden, dtype):.2f}" for dtype in _PRECISIONS]
            name = "full" if hidden is None else str(hidden)
            chosen = problem.prefers_factors([(hidden or min(shape), shape[1])] * depth)
            mark = " (taken)" if chosen else ""
            seen.append(f"depth {depth}, hidden {name}: {' / '.join(found)}{mark}")
        print(f"  {shape[0]}×{shape[1]}, {share:.1%} observed")
        print(f"    {'; '.join(seen)}", flush=True)


_PRECISIONS = (torch.float64, torch.float32)


def _ratio(problem: MatrixCompletion, depth: int, hidden: int | None, dtype: torch.dtype) -> float:
    """Time of a dense gradient over that of a sparse one, of the same factors."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", UserWarning)  # a narrow hidden size limits the rank
        start = gaussian(1e-2, seed=0)
        batch, states, _ = prepare(problem, depth, start, hidden, "cpu", torch.float64)
        states = states.to(dtype)
        batch.gradient_problem = problem.to("cpu", dtype)
        out = torch.empty_like(states)

        def gradient() -> None:
            batch.slope_at(batch.factors(states), batch.factors(out))

        spent = []
        for batch.from_factors in (False, True):
            spent.append(least_seconds(gradient))
    return spent[0] / spent[1]
