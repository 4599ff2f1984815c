r"""Chebyshev steps whose stages follow only what is stiff.

Most stages of a step are there for its stability, and what is stiff is what the few large singular
values of the factors do. Let :math:`P_j` be orthonormal bases of the largest directions at each
hidden layer, ``(h, k)``, and none at both ends. The blocks :math:`C_j = P_{j+1}^\top W_j P_j` are
a factorization of hidden size `k` for the problem :math:`C \mapsto \ell(R + C_N \cdots C_1)`, where
`R` is the rest of the product at the start of the step. The stages follow the blocks in it, or in
what `reduced_problem` has instead. What this leaves out of the slope is known at the start of the
step, and taken to go on changing as it did over the step before.

The gradient at the end is that of all factors, so the estimated error knows what was left out. The
bases are orthonormal, so nothing but that error depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dmf_utils._support.blas import multiply
from dmf_utils.flow.batch import Factorizations
from dmf_utils.flow.reduced_problem import NearbySensing, ShiftedCompletion
from dmf_utils.flow.step import ORIGIN, POINT, Workspace

__all__ = ["ReducedStages", "may_be_reduced"]

_BASES_LAST = 5  # steps
# Of a step times curvature, that what is left out may have, for each stage, and at most: what
# follows from it is a shorter step now and then, which the more stages pay for.
_STIFF_REST, _MOST_STIFF_REST = 0.008, 0.7
_PAUSE = 10  # steps, before it is asked again whether the rest is stiff
_KINDS = ShiftedCompletion, NearbySensing


def may_be_reduced(batch: Factorizations) -> bool:
    """Whether there is something to save: hidden layers, and large products or measurements."""
    has_hidden = len(batch.shapes) > 2 and batch.is_own
    on_processor = has_hidden and batch.problem.data.device.type == "cpu"
    return on_processor and any(kind.serves(batch) for kind in _KINDS)


class ReducedStages:
    """Of one run: the bases, and how what they leave out of the slope changes.

    Parameters
    ----------
    batch : Factorizations
        Of this run alone.
    """

    def __init__(self, batch: Factorizations) -> None:
        self.batch = batch
        self.bases: list[Tensor | None] = []  # of every layer
        self.change: Tensor | None = None  # of what is left out, in unit time
        self._next_change: Tensor | None = None
        self._inner: Workspace | None = None  # of the blocks
        self._problem: Factorizations | None = None  # which they are in the step under way
        self._of_blocks: Tensor | None = None  # what they would do if their slope did not change
        self._rest = next(kind for kind in _KINDS if kind.serves(batch))(batch)
        self._at_origin: Tensor | None = None  # what is known of the product where a step begins
        self._at_end: Tensor | None = None
        self._left_out = 0.0  # of the largest curvature, at most
        self._age, self._pause = _BASES_LAST, 0

    def enters(self, state: Tensor, stages: int, stiffness: float, dtype: torch.dtype) -> bool:
        """Whether the next step is to be made so.

        Parameters
        ----------
        state : Tensor, shape (P,)
            Where it begins.
        stages : int
        stiffness : float
            The largest curvature times the longest step, that are stable with them.
        dtype : torch.dtype
            Of the gradients.
        """
        if stages < self._rest.least_stages:
            return False
        if self._pause > 0:
            self._pause -= 1
            return False
        if self._age >= _BASES_LAST or self.bases[1].dtype != dtype:
            self._find_bases([W[0] for W in self.batch.factors(state[None].to(dtype))])
        # What is left out is stepped as by Euler's method, and stable only if it is not stiff.
        most = min(_MOST_STIFF_REST, _STIFF_REST * stages)
        if self._left_out * stiffness > most:
            self._pause, self._age = _PAUSE, _BASES_LAST
            return False
        return True

    def accept(self) -> None:
        """The step was accepted; if it was a whole one, nothing is known of the rest."""
        self.change, self._next_change = self._next_change, None
        self._at_origin, self._at_end = self._at_end, None
        self._age += 1

    def release(self) -> None:
        """The run is done: free what is made of the bases, which may be large."""
        self._inner = self._problem = None  # which know the problem of the blocks
        self._rest.release()

    def reject(self) -> None:
        """The step was rejected: what it found of the rest is not so, and bases are made anew."""
        self._next_change, self._age, self._at_end = None, _BASES_LAST, None

    def gradient_at(self, factors: Sequence[Tensor], out: Sequence[Tensor]) -> Tensor:
        """As that of the batch; and what the next step needs to know where it begins is kept."""
        losses, self._at_end = self._rest.gradient_at(factors, out)
        return losses

    @property
    def n_extra(self) -> int:
        """Gradients of all factors within the last step, besides the one at its end."""
        return self._rest.n_extra

    def prepare(
        self, workspace: Workspace, to: int, h: float, missed: float
    ) -> tuple[Factorizations, Workspace]:
        """The blocks with their problem, and their rows as `chebyshev_step` begins with them.

        Parameters
        ----------
        workspace : Workspace
            With the origin, the gradient there and what is expected in their rows.
        to : int
            The row for what all factors would do if their slope did not change, times the step.
        h : float
            The step.
        missed : float
            Of what is expected, the share that the method misses.
        """
        memory, row, factors = workspace.of_first(1)
        whole = torch.add(missed * row[1], row[2], alpha=-h, out=row[to])
        if self.change is not None:
            whole.add_(self.change, alpha=0.5 * h**2)
        origin = [W[0] for W in factors[ORIGIN]]
        blocks = self._blocks(row[ORIGIN])
        known = self._at_origin
        if known is not None and known.dtype != memory.dtype:
            known = None
        problem, self._at_origin = self._rest.for_blocks(origin, blocks, known)
        batch = Factorizations(problem, [tuple(C.shape) for C in blocks], 1)
        if self._inner is None or self._inner.memory.dtype != memory.dtype:
            self._inner = Workspace(batch, memory.new_zeros(1, memory.shape[1], sum(batch.sizes)))
        _, inner, inner_factors = self._inner.of_first(1)
        inner[ORIGIN][0] = _flat(blocks)
        batch.slope_at(inner_factors[ORIGIN], out=inner_factors[2])
        # Of the blocks as of all factors: added to their slope, a constant makes up for the rest.
        self._of_blocks = _flat(self._blocks(whole))
        inner[1][0] = (self._of_blocks + h * inner[2][0]) / missed
        self._problem = batch
        return batch, self._inner

    def complete(self, last: Tensor, made: Tensor, scale: float) -> None:
        """Make of what `prepare` wrote into the row `last` the last stage of all factors.

        Parameters
        ----------
        last : Tensor, shape (1, P)
        made : Tensor, shape (1, R)
            The last stage of the blocks.
        scale : float
            Of a stage, the distance from the origin over it.
        """
        self._add(made[0] - self._of_blocks / scale, last.div_(scale))

    def look_back(self, workspace: Workspace, made: Tensor, scale: float, h: float) -> None:
        """Keep how fast what the blocks leave out has changed; the gradient at the end is known."""
        _, row, _ = workspace.of_first(1)
        _, inner, factors = self._inner.of_first(1)
        torch.add(inner[ORIGIN], made, alpha=scale, out=inner[POINT])
        self._problem.slope_at(factors[POINT], out=factors[3])
        change = row[2] - row[3]
        self._add((inner[3] - inner[2])[0], change)
        self._next_change = change.div_(h)

    def _blocks(self, flat: Tensor) -> list[Tensor]:
        """``P_{j+1}' W_j P_j`` for the factors ``W_j`` in a row ``(1, P)``."""
        blocks = [W[0] for W in self.batch.factors(flat)]
        blocks = [
            W if P is None else multiply(W, P) for W, P in zip(blocks, self.bases, strict=False)
        ]
        return [
            W if P is None else multiply(P.T, W)
            for W, P in zip(blocks, self.bases[1:], strict=True)
        ]

    def _add(self, blocks: Tensor, to: Tensor) -> None:
        """Add ``P_{j+1} C_j P_j'`` for the blocks ``C_j`` in ``(R,)`` to the row ``(1, P)``."""
        pieces = self._problem.factors(blocks[None])
        for W, C, lower, upper in zip(
            self.batch.factors(to), pieces, self.bases, self.bases[1:], strict=False
        ):
            C = C[0] if lower is None else C[0] @ lower.T
            W[0].add_(C) if upper is None else W[0].addmm_(upper, C)

    def _find_bases(self, factors: Sequence[Tensor]) -> None:
        r"""By subspace iteration with :math:`W_j W_j^\top + W_{j+1}^\top W_{j+1}`."""
        turns, found = 1, self.bases[1:-1]
        if not found or found[0].dtype != factors[0].dtype:
            hidden, random = [len(W) for W in factors[:-1]], torch.Generator().manual_seed(0)
            size = self._rest.size
            turns, found = 4, [torch.randn(h, size, generator=random) for h in hidden]
        self._age, self._left_out = 0, 0.0
        self._rest.forget_bases()
        for j, (lower, upper) in enumerate(pairwise(factors)):
            for _ in range(turns):
                basis = found[j].to(lower)
                found[j], R = torch.linalg.qr(lower @ (lower.T @ basis) + upper.T @ (upper @ basis))
            sizes = R.diagonal().abs()
            # Of the largest curvature, each of the N layers has a share.
            share = float(sizes.min() / sizes.max()) / len(factors)
            self._left_out = max(self._left_out, share)
        self.bases = [None, *found, None]


def _flat(blocks: Sequence[Tensor]) -> Tensor:
    return torch.cat([C.reshape(-1) for C in blocks])
