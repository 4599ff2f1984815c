"""The problem that the blocks of a reduced step see, for each kind of problem."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_utils.factorization.product import product_matrix, sweep_back
from dmf_utils.flow.batch import Factorizations
from dmf_utils.problems.base import Problem
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.lockstep import Shared
from dmf_utils.problems.sensing import MatrixSensing
from dmf_utils.problems.tangent import TangentSensing

__all__ = ["NearbySensing", "ShiftedCompletion"]

_LEAST_HIDDEN = 100  # with smaller products, the handling of blocks takes longer
_LEAST_AT_ENTRIES, _LEAST_HIDDEN_OF_MANY = 2**20, 32
_LEAST_MEASURED = 2**20  # entries of all measurement matrices: fewer stay in the cache
_MOST_KEPT_BYTES = 2**27  # of what is measured on a tangent space


class ShiftedCompletion:
    """Shifted by the rest of the product. What is saved is products of large hidden layers."""

    def __init__(self, batch: Factorizations) -> None:
        self.batch, self.gradient_at = batch, batch.gradient_at
        hidden = [rows for rows, _ in batch.shapes[:-1]]
        self.size = 8 + min(hidden) // 20  # of the blocks
        # From so many stages on it pays: the larger the products, the fewer.
        self.least_stages = 3 if min(map(min, batch.shapes)) >= 300 else 4
        self.n_extra = 0

    @staticmethod
    def serves(batch: Factorizations) -> bool:
        """Whether it is a problem of this kind, and large enough."""
        problem, hidden = batch.problem, min(rows for rows, _ in batch.shapes[:-1])
        if not isinstance(problem, MatrixCompletion):
            return False
        has_many = batch.from_factors and problem.n_observed * hidden >= _LEAST_AT_ENTRIES
        return hidden >= (_LEAST_HIDDEN_OF_MANY if has_many else _LEAST_HIDDEN)

    def for_blocks(self, factors: Sequence[Tensor], blocks: Sequence[Tensor]) -> Problem:
        """The problem for the product of the `blocks`, which begin with those of `factors`."""
        problem = self.batch.problem_for(factors[0])
        if self.batch.from_factors:
            entries = problem.observed_entries(factors[0].dtype)
            return problem.shifted_at_entries(entries.product(factors) - entries.product(blocks))
        return problem.shifted(product_matrix(factors) - product_matrix(blocks))

    def accept(self) -> None:
        """The step was accepted."""

    def reject(self) -> None:
        """The step was rejected."""

    def forget_bases(self) -> None:
        """The bases are no longer those of before."""


class NearbySensing:
    """Near the start of the step. What is saved is reading all measurement matrices."""

    size, least_stages = 8, 8

    def __init__(self, batch: Factorizations) -> None:
        self.batch = batch
        self.n_extra = 0  # gradients in the last step, besides those of its stages
        self._tangent: TangentSensing | None = None
        self._at_origin: Tensor | None = None  # gradient with respect to the product there
        self._at_end: Tensor | None = None

    @classmethod
    def serves(cls, batch: Factorizations) -> bool:
        """Whether it is a problem of this kind, and large enough."""
        problem = batch.problem
        while isinstance(problem, Shared):
            problem = problem.problem
        if not isinstance(problem, MatrixSensing):
            return False
        kept = cls.size * sum(problem.shape) * problem.n_measurements * 8
        is_large = problem.operator.numel() >= _LEAST_MEASURED and kept <= _MOST_KEPT_BYTES
        return is_large and min(map(min, batch.shapes)) >= 4 * cls.size

    def for_blocks(self, factors: Sequence[Tensor], blocks: Sequence[Tensor]) -> Problem:
        """The problem for the product of the `blocks`, which begin with those of `factors`."""
        self.n_extra = 0
        if self._tangent is None:
            coarse = self.batch.gradient_problem
            bases = [torch.linalg.qr(W)[0].to(coarse.data) for W in (blocks[-1], blocks[0].mT)]
            self._tangent = coarse.on_tangent_space(*bases)
        if self._at_origin is None or self._at_origin.dtype != factors[0].dtype:
            problem, W = self.batch.problem_for(factors[0]), product_matrix(factors)
            self._at_origin, self.n_extra = problem.unchecked_gradient(W[None])[0], 1
        return self._tangent.near(product_matrix(blocks), self._at_origin)

    def gradient_at(self, factors: Sequence[Tensor], out: Sequence[Tensor]) -> Tensor:
        """As that of the batch, and kept: where this step ends, the next one begins."""
        prefixes = self.batch.prefixes(factors)
        losses, gradient = self.batch.problem_for(factors[0]).loss_and_gradient(prefixes[-1])
        sweep_back(factors, prefixes, gradient, out)
        self._at_end = gradient[0]
        return losses

    def accept(self) -> None:
        """The step was accepted."""
        self._at_origin, self._at_end = self._at_end, None

    def reject(self) -> None:
        """The step was rejected."""
        self._at_end = None

    def forget_bases(self) -> None:
        """The bases are no longer those of before."""
        self._tangent = None
