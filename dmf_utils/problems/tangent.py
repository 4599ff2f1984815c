r"""Matrix sensing near a matrix, for changes that leave its row or its column space in place.

Most changes of a product of few large singular values are of this kind, and then a measurement
matrix :math:`A_i` is known by :math:`A_i V` and :math:`U^\top A_i`: there are
:math:`k (d + d')` numbers instead of :math:`d d'` to read for each measurement.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmf_utils.problems import small_kernels
from dmf_utils.problems.base import SquaredLoss

__all__ = ["TangentSensing"]


class TangentSensing(SquaredLoss):
    r"""The gradient near a matrix, up to what changes outside the tangent space.

    .. math:: \nabla\ell(W) \approx G + P \mathcal A^* \mathcal A P (W - W_0), \qquad
        P X = X V V^\top + U U^\top X (I - V V^\top)

    Its loss is the change of the loss from :math:`W_0` in the same approximation. As it is made,
    :math:`W_0` and the gradient `G` there are zero: `near` says what they are.

    Parameters
    ----------
    operator : Tensor, shape (m, d·d')
        The measurement matrices.
    left, right : Tensor, shapes (d, k) and (d', k)
        `U` and `V`, orthonormal.
    scale : float
        The number `c` in front of the sum of squares.
    rows : int
        How many measurement matrices stay in the cache: they are read twice.
    memory : Tensor, shape (m, k (d + d')), optional
        Where to write what is known of the measurements: that of an earlier one, which would else
        be there beside the new one.
    """

    def __init__(
        self,
        operator: Tensor,
        left: Tensor,
        right: Tensor,
        scale: float,
        rows: int,
        memory: Tensor | None = None,
    ) -> None:
        (d, k), d_prime = left.shape, len(right)
        self.shape, self.ground_truth = (d, d_prime), None
        self.left, self.right, self._scale = left, right, scale
        self.data = self.origin = self.at_origin = operator.new_zeros(d, d_prime)
        size = len(operator), k * (d + d_prime)
        self.measured = operator.new_empty(size) if memory is None else memory
        if small_kernels.serve(operator):
            arrays = (part.numpy() for part in (operator, left, right, self.measured))
            small_kernels.bases_measured(*arrays)
            return
        for A, out in zip(operator.split(rows), self.measured.split(rows), strict=True):
            A = A.view(-1, d, d_prime)
            out[:, : k * d] = (A @ right).flatten(1)
            out[:, k * d :] = (left.mT @ A).flatten(1)

    def near(self, origin: Tensor, gradient: Tensor) -> TangentSensing:
        """This problem near :math:`W_0`, where the gradient is `gradient`; both (d, d')."""
        return self._changed(
            data=origin,
            origin=origin,
            at_origin=gradient,
            left=self.left.to(origin),
            right=self.right.to(origin),
        )

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Change of the loss ``(B,)``, and gradient ``(B, d, d')``, at `W` ``(B, d, d')``."""
        U, V, moved = self.left, self.right, W - self.origin
        beside = moved @ V
        above = U.mT @ moved - (U.mT @ beside) @ V.mT
        at = torch.cat([beside.flatten(-2), above.flatten(-2)], dim=-1).to(self.measured)
        # Changes are small beside what they change: what is rounded off of them is smaller still.
        squares, back = (part.to(W) for part in self._squares_and_slopes(at))
        back.mul_(2 * self._scale)
        of_beside, of_above = back.split([U.numel(), V.numel()], dim=-1)
        of_beside, of_above = of_beside.view(beside.shape), of_above.view(above.shape)
        loss = self._scale * squares + (self.at_origin * moved).sum((-2, -1))
        gradient = self.at_origin + U @ of_above + (of_beside - U @ (of_above @ V)) @ V.mT
        return loss, gradient

    def _squares_and_slopes(self, at: Tensor) -> tuple[Tensor, Tensor]:
        if len(at) == at.ndim - 1 == 1 and small_kernels.serve(self.measured, at):
            found = small_kernels.squares_and_slopes_of_one(self.measured.numpy(), at[0].numpy())
            return tuple(torch.from_numpy(part)[None] for part in found)
        residual = at @ self.measured.mT
        return torch.linalg.vecdot(residual, residual), residual @ self.measured
