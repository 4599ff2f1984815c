"""The problem that the blocks of a reduced step see, for each kind of problem."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_utils.factorization.product import product_matrix
from dmf_utils.flow.batch import Factorizations
from dmf_utils.problems.base import Problem
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.lockstep import Shared
from dmf_utils.problems.sensing import MatrixSensing
from dmf_utils.problems.tangent import TangentSensing

__all__ = ["NearbySensing", "ShiftedCompletion"]

_LEAST_HIDDEN = 100  # with smaller products, the handling of blocks takes longer
# Where the product is taken at observed entries only, it is they that cost: times hidden units.
_LEAST_AT_ENTRIES, _LEAST_HIDDEN_OF_MANY = 2**20, 32
_LEAST_MEASURED = 2**20  # entries of all measurement matrices: fewer stay in the cache
_MOST_KEPT_BYTES = 2**27  # of what is measured on a tangent space


class ShiftedCompletion:
    """Shifted by the rest of the product. What is saved is products of large hidden layers."""

    n_extra = 0

    def __init__(self, batch: Factorizations) -> None:
        self.batch = batch
        hidden = [rows for rows, _ in batch.shapes[:-1]]
        self.size = 8 + min(hidden) // 20  # of the blocks
        # From so many stages on it pays: the larger the products, the fewer.
        self.least_stages = 3 if min(map(min, batch.shapes)) >= 300 else 4

    @staticmethod
    def serves(batch: Factorizations) -> bool:
        """Whether it is a problem of this kind, and large enough."""
        problem, hidden = batch.problem, min(rows for rows, _ in batch.shapes[:-1])
        if not isinstance(problem, MatrixCompletion):
            return False
        has_many = batch.from_factors and problem.n_observed * hidden >= _LEAST_AT_ENTRIES
        return hidden >= (_LEAST_HIDDEN_OF_MANY if has_many else _LEAST_HIDDEN)

    def for_blocks(
        self, factors: Sequence[Tensor], blocks: Sequence[Tensor], product: Tensor | None
    ) -> tuple[Problem, Tensor]:
        """The problem for the product of the `blocks`, and the product of the `factors`.

        Parameters
        ----------
        factors, blocks : sequence of Tensor
            Where the step begins.
        product : Tensor, optional
            Of the factors, or its observed entries, if it is known.
        """
        problem = self.batch.problem_for(factors[0])
        if self.batch.from_factors:
            entries = problem.observed_entries(factors[0].dtype)
            product = entries.product(factors) if product is None else product
            return problem.shifted_at_entries(product - entries.product(blocks)), product
        product = product_matrix(factors) if product is None else product
        return problem.shifted(product - product_matrix(blocks)), product

    def gradient_at(
        self, factors: Sequence[Tensor], out: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Losses as of the batch, whose gradients are written into `out`; and the product."""
        if not self.batch.from_factors:
            losses, product, _ = self.batch.gradients_at(factors, out)
            return losses, product[0].clone()
        entries = self.batch.problem_for(factors[0]).observed_entries(factors[0].dtype)
        product = torch.empty_like(entries.values)
        of_one, out_of_one = ([W[0] for W in of] for of in (factors, out))
        return entries.loss_and_factor_gradients(of_one, out_of_one, product)[None], product

    def forget_bases(self) -> None:
        """The bases are no longer those of before."""

    def release(self) -> None:
        """The run is done."""


class NearbySensing:
    """Near the start of the step. What is saved is reading all measurement matrices."""

    size, least_stages = 8, 8

    def __init__(self, batch: Factorizations) -> None:
        self.batch = batch
        self.n_extra = 0  # gradients in the last step, besides those of its stages
        self._tangent: TangentSensing | None = None
        self._memory: Tensor | None = None  # of the bases before

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

    def for_blocks(
        self, factors: Sequence[Tensor], blocks: Sequence[Tensor], gradient: Tensor | None
    ) -> tuple[Problem, Tensor]:
        """The problem for the product of the `blocks`, and the gradient at that of the `factors`.

        Parameters
        ----------
        factors, blocks : sequence of Tensor
            Where the step begins.
        gradient : Tensor, shape (d, d'), optional
            With respect to the product of the factors, if it is known.
        """
        if self._tangent is None:
            coarse = self.batch.gradient_problem
            bases = [torch.linalg.qr(W)[0].to(coarse.data) for W in (blocks[-1], blocks[0].mT)]
            self._tangent = coarse.on_tangent_space(*bases, self._memory)
            self._memory = self._tangent.measured
        self.n_extra = int(gradient is None)
        if gradient is None:
            problem = self.batch.problem_for(factors[0])
            gradient = problem.unchecked_gradient(product_matrix(factors)[None])[0]
        return self._tangent.near(product_matrix(blocks), gradient), gradient

    def gradient_at(
        self, factors: Sequence[Tensor], out: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Losses as of the batch, gradients into `out`; and that with respect to the product."""
        losses, _, gradient = self.batch.gradients_at(factors, out)
        return losses, gradient[0]

    def forget_bases(self) -> None:
        """The bases are no longer those of before."""
        self._tangent = None

    def release(self) -> None:
        """The run is done: nothing more is made of bases."""
        self._tangent = self._memory = None
