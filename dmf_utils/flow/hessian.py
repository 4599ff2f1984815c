r"""The Hessian of the loss on the factors times directions, exactly, where the loss is quadratic.

Nothing is differenced: a direction that waits at 1e-12 beside factors of size 1 keeps its digits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_utils.factorization.product import prefix_products
from dmf_utils.problems.base import SquaredLoss

__all__ = ["Linearized", "Turned"]


class Turned:
    r"""A quadratic loss in other orthonormal bases, :math:`M \mapsto \ell(Q M R^\top)`.

    Parameters
    ----------
    problem : SquaredLoss
        For matrices ``(1, d, d')``.
    left, right : Tensor, shape (d, d) and (d', d')
        `Q` and `R`, orthogonal.
    """

    def __init__(self, problem: SquaredLoss, left: Tensor, right: Tensor) -> None:
        self.problem, self.left, self.right = problem, left, right
        at_zero = torch.zeros(1, len(left), len(right)).to(left)
        self.at_zero = problem.unchecked_gradient(at_zero)
        self.size = float(torch.linalg.vector_norm(self.at_zero))

    def loss_and_gradient(self, M: Tensor) -> tuple[Tensor, Tensor]:
        """Loss ``(1,)`` and gradient ``(1, d, d')`` at `M` of shape ``(1, d, d')``."""
        loss, gradient = self.problem.loss_and_gradient(self.left @ M @ self.right.mT)
        return loss, self.left.mT @ gradient @ self.right

    def change(self, M: Tensor) -> Tensor:
        """Change of the gradient along `M`, both of shape ``(1, d, d')``: linear in `M`."""
        W = self.left @ M @ self.right.mT
        size = float(torch.linalg.vector_norm(W))
        # Scaled up, so that the gradient at zero does not round `M` off.
        share = self.size / size if size > 0 and self.size > 0 else 1.0
        change = (self.problem.unchecked_gradient(share * W) - self.at_zero) / share
        return self.left.mT @ change @ self.right


class Linearized:
    r"""The gradient of :math:`\varphi` at one point, and its Hessian there times directions.

    Parameters
    ----------
    problem : Turned
    factors : list of Tensor, shape (1, d_j, d_{j-1})
        ``[W_1, ..., W_N]``.

    Attributes
    ----------
    loss : float
    gradient : Tensor, shape (P,)
        With respect to all factors, flat.
    """

    def __init__(self, problem: Turned, factors: Sequence[Tensor]) -> None:
        self.problem, self.factors = problem, list(factors)
        self.prefixes = prefix_products(self.factors)
        loss, gradient = problem.loss_and_gradient(self.prefixes[-1])
        self.loss = float(loss)
        self.parts = [gradient]  # of W_N ... W_1, of W_{N-1} ... W_1, and so on
        for W in reversed(self.factors[1:]):
            self.parts.append(W.mT @ self.parts[-1])
        self.parts.reverse()
        slopes = [self.parts[0]]
        slopes += [g @ P.mT for g, P in zip(self.parts[1:], self.prefixes[:-1], strict=True)]
        self.gradient = torch.cat([slope.reshape(-1) for slope in slopes])
        self.sizes = [W.numel() for W in self.factors]

    def hessian_times(self, direction: Tensor) -> Tensor:
        r"""Derivative of the gradient along a direction ``(P,)``, of the same shape.

        By the product rule, forward through the prefixes and back: as many matrix products as two
        gradients take.
        """
        pieces = direction.split(self.sizes)
        along = [d.view(W.shape) for d, W in zip(pieces, self.factors, strict=True)]
        changes = [along[0]]  # of the prefixes
        for j in range(1, len(along)):
            changes.append(along[j] @ self.prefixes[j - 1] + self.factors[j] @ changes[-1])
        change = self.problem.change(changes[-1])
        out = []
        for j in range(len(along) - 1, 0, -1):
            of_slope = change @ self.prefixes[j - 1].mT + self.parts[j] @ changes[j - 1].mT
            out.append(of_slope.reshape(-1))
            change = along[j].mT @ self.parts[j] + self.factors[j].mT @ change
        out.append(change.reshape(-1))
        return torch.cat(out[::-1])
