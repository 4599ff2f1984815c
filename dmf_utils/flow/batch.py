"""What flow and descent do before they step: check the arguments and lay out the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dmf_utils._support.blas import BY_TORCH, fastest_products
from dmf_utils.factorization.initialization import Start, factor_shapes
from dmf_utils.factorization.product import prefix_products, product_matrix, sweep_back
from dmf_utils.problems.base import Problem
from dmf_utils.problems.sensing import MatrixSensing
from dmf_utils.problems.stacking import is_own, stack

__all__ = ["Factorizations", "prepare", "runs_together", "with_gradients_in"]

_CACHED_BYTES = 2**21  # of scratch memory; with more, runs of 60×60 and larger are slower


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
    if dtype not in (torch.float64, torch.float32):
        raise ValueError(
            f"dtype must be torch.float64 or torch.float32, got {dtype}; coarser numbers resolve "
            "no flow"
        )
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
    if any(W.is_complex() for W in factors):
        raise TypeError("start has complex factors; pass their real parts")
    return [W.detach().to(torch.float64) for W in factors]


class Factorizations:
    """B factorizations of one depth and shape as flat states ``(B, P)``, with their problem.

    Parameters
    ----------
    problem : Problem
        Common to all, or a stack of B.
    shapes : sequence of (int, int)
        Shapes of ``[W_1, ..., W_N]``.
    count : int
        B.
    gradient_problem : Problem, optional
        The same problem in the precision in which gradients are computed, if that is another.
    """

    def __init__(
        self,
        problem: Problem,
        shapes: Sequence[tuple[int, int]],
        count: int,
        gradient_problem: Problem | None = None,
    ) -> None:
        self.problem, self.count, self.is_own = problem, count, is_own(problem)
        self.gradient_problem = problem if gradient_problem is None else gradient_problem
        self.shapes = list(shapes)
        self.sizes = [rows * columns for rows, columns in shapes]
        self.are_alike = len(set(self.shapes)) == 1
        self._kept: dict[tuple[int, torch.dtype], list[Tensor]] = {}  # scratch memory
        self.products = BY_TORCH
        if self.is_own and problem.data.device.type == "cpu":
            columns = self.shapes[0][1]
            least = min(((*shape, columns) for shape in self.shapes[1:]), key=math.prod, default=())
            self.products = fastest_products(*least) if least else BY_TORCH
        # A problem may offer gradients from the factors, without the product matrix.
        self.from_factors = self.is_own and getattr(
            problem, "prefers_factors", lambda shapes: False
        )(self.shapes)

    def __len__(self) -> int:
        return self.count

    def factors(self, states: Tensor) -> list[Tensor]:
        """Factors ``(B, d_j, d_{j-1})`` as views of the states ``(B, P)``."""
        if self.are_alike:
            return list(states.view(-1, len(self.shapes), *self.shapes[0]).unbind(1))
        pieces = states.split(self.sizes, dim=1)
        return [W.view(-1, *shape) for W, shape in zip(pieces, self.shapes, strict=True)]

    def take(self, indices: Sequence[int]) -> Factorizations:
        """Those at `indices`, for a batch that has become smaller."""
        if list(indices) == list(range(self.count)):
            return self
        one, other, first = self.problem, self.gradient_problem, indices[0]
        together = list(indices) == list(range(first, first + len(indices)))
        # A slice is a view; an index copies.
        at = slice(first, first + len(indices)) if together else torch.tensor(list(indices))
        chosen = one.take(at)
        in_gradients = chosen if other is one else other.take(at)
        taken = Factorizations(chosen, self.shapes, len(indices), in_gradients)
        taken._kept = self._kept  # they step one after the other: one memory is enough
        return taken

    def gradient(self, states: Tensor, out: Tensor) -> Tensor:
        r"""Write :math:`\partial\varphi/\partial(W_1 \dots W_N)` into `out`, return the losses.

        In the precision of `states`, which is that of the problem or of `gradient_problem`.
        """
        return self.gradient_at(self.factors(states), self.factors(out))

    def gradient_at(self, factors: Sequence[Tensor], out: Sequence[Tensor]) -> Tensor:
        """The same for factors instead of states."""
        if self.from_factors:
            return self.problem_for(factors[0]).loss_and_factor_gradients(factors, out)
        return self.gradients_at(factors, out)[0]

    def gradients_at(
        self, factors: Sequence[Tensor], out: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and the product with the gradient there, both ``(B, d, d')``.

        The product is scratch memory, to be used before the next gradient.
        """
        prefixes = self._prefixes(factors)
        loss, gradient = self.problem_for(prefixes[-1]).loss_and_gradient(prefixes[-1])
        sweep_back(factors, prefixes, gradient, out, self.products)
        return loss, prefixes[-1], gradient

    def slope_at(self, factors: Sequence[Tensor], out: Sequence[Tensor]) -> None:
        """The gradient only, which a stage within a step needs."""
        if self.from_factors:
            self.problem_for(factors[0]).loss_and_factor_gradients(factors, out)
            return
        prefixes = self._prefixes(factors)
        problem = self.problem_for(prefixes[-1])
        if self.is_own:
            gradient = problem.unchecked_gradient(prefixes[-1])
        else:
            gradient = problem.loss_and_gradient(prefixes[-1])[1]
        sweep_back(factors, prefixes, gradient, out, self.products)

    def _prefixes(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """Prefix products; in memory of its own, unless a problem of the user's might keep them."""
        first = factors[0]
        key = len(first), first.dtype
        if self.is_own and key not in self._kept:
            sizes = [(len(first), W.shape[1], first.shape[2]) for W in factors[1:]]
            self._kept[key] = [first.new_empty(size) for size in sizes]
        return prefix_products(factors, self._kept.get(key), self.products)

    def problem_for(self, W: Tensor) -> Problem:
        """The problem in the precision of `W`."""
        return self.problem if W.dtype == torch.float64 else self.gradient_problem

    def loss(self, states: Tensor) -> Tensor:
        """Losses ``(B,)``."""
        if self.from_factors:
            return self.problem_for(states).loss_and_factor_gradients(self.factors(states))
        return self.loss_of_product(product_matrix(self.factors(states)))

    def loss_of_product(self, W: Tensor) -> Tensor:
        """Losses ``(B,)`` at product matrices ``(B, d, d')``, in their precision."""
        problem = self.problem_for(W)
        return problem.unchecked_loss(W) if self.is_own else problem.loss_and_gradient(W)[0]


def with_gradients_in(
    precision: torch.dtype, batch: Factorizations, device: torch.device | str
) -> Factorizations:
    """The batch, computing its gradients in another precision than that of its states."""
    if not hasattr(batch.problem, "to"):
        raise TypeError(
            "gradient_dtype needs a problem with a method to(device, dtype), which "
            f"{type(batch.problem).__name__} has not; leave gradient_dtype out"
        )
    coarse = batch.problem.to(device, precision)
    return Factorizations(batch.problem, batch.shapes, len(batch), coarse)


def runs_together(batch: Factorizations, states: Tensor, dtype: torch.dtype) -> int:
    """How many runs step as one: what larger ones work in would not stay in the cache.

    Small products gain from company. Measurements are read once for all, a graphics card fills
    itself with many, and what a problem of the user's gains is not known: there it is all of them.
    """
    if not batch.is_own or isinstance(batch.problem, MatrixSensing) or states.is_cuda:
        return len(states)
    of_one = 9 * states.shape[1] * dtype.itemsize
    return max(1, min(len(states), _CACHED_BYTES // of_one))
