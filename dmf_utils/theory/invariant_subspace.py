r"""Compression of the flow where its factors move in small invariant subspaces.

From factors :math:`W_j(0) = \epsilon O_j` with :math:`O_j` orthogonal, and a target of rank
:math:`r` that is seen in full, all but :math:`2r` singular values of each factor stay equal to one
number :math:`\rho(t)`, and their singular vectors stay as they are. What is left is a flow on
factors with :math:`2r` rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmf_utils._support import checks
from dmf_utils.factorization.product import product_matrix

__all__ = ["Compression", "compress"]


@dataclass(frozen=True)
class Compression:
    """A flow on small factors that stands for one on large factors."""

    factors: list[Tensor]
    """N factors (2r, 2r) at time 0."""
    target: Tensor
    """(2r, 2r): what their product has to reach."""
    left: Tensor
    """(d, 2r): the rows' space of the small product, orthonormal columns."""
    right: Tensor
    """(d, 2r): the columns' space of the small product, orthonormal columns."""
    rest: Tensor
    """(d, d): the partial isometry that the number rho multiplies."""
    scale: float
    """The size epsilon of the factors at time 0, which is rho there."""

    def expand(self, product: Tensor, time: float) -> Tensor:
        r"""The product matrix of the large flow from that of the small one.

        .. math:: W = L\, \tilde W R^\top + \rho^N C, \qquad
            \rho^{-(2N-2)}(t) = \epsilon^{-(2N-2)} + (2N-2)\, t ,

        for the loss :math:`\tfrac12 \|W - Y\|_F^2`; at depth 1, :math:`\rho = \epsilon e^{-t}`.
        """
        depth = len(self.factors)
        if depth == 1:
            rest = self.scale * float(torch.exp(torch.tensor(-time, dtype=torch.float64)))
        else:
            power = 2 * depth - 2
            rest = (self.scale**-power + power * time) ** (-depth / power)
        return self.left @ product @ self.right.T + rest * self.rest


def compress(factors: Any, target: Any, rank: int) -> Compression:
    r"""Find the invariant subspaces of a flow from scaled orthogonal factors.

    The :math:`d - 2r` directions :math:`v` with :math:`Y v = 0` and :math:`Y^\top W(0) v = 0` never
    meet the target: they pass through all factors and shrink by the same number. Their complement
    is invariant.

    Parameters
    ----------
    factors : [W_1, ..., W_N]
        Square, each a multiple of an orthogonal matrix, all with the same multiple.
    target : (d, d) array
        :math:`Y`, of rank at most `rank`.
    rank : int
        From 1, with ``2 * rank`` below d.

    Returns
    -------
    Compression

    Raises
    ------
    ValueError
        If the factors are not such, or the target's rank is larger.

    References
    ----------
    C. Yaras et al., *The law of parsimony in gradient descent for learning deep linear networks*
    (2023); S. M. Kwon et al., *Efficient low-dimensional compression of overparameterized models*,
    AISTATS 2024.
    """
    made = [checks.matrix(W, f"factors[{j}]") for j, W in enumerate(factors)]
    d = made[0].shape[1]
    eye = torch.eye(d, dtype=torch.float64)
    scale = float(torch.linalg.matrix_norm(made[0])) / d**0.5
    for j, W in enumerate(made):
        if W.shape != (d, d) or (W.T @ W / scale**2 - eye).abs().max() > 1e-9:
            raise ValueError(
                f"factors[{j}] must be {scale:.3g} times an orthogonal ({d}, {d}) matrix, as "
                "factors[0] is by its norm"
            )
    Y = checks.matrix(target, "target", (d, d))
    rank = checks.whole_number(rank, "rank", 1)
    if 2 * rank >= d:
        raise ValueError(f"rank must be below half of {d} for a compression, got {rank}")
    s = torch.linalg.svdvals(Y)
    if s[rank] > 1e-9 * s[0]:
        raise ValueError(
            f"target has a rank above {rank}: its next singular value is {float(s[rank]):.1e}"
        )
    whole = product_matrix(made) / scale ** len(made)  # orthogonal
    met = torch.cat([Y, Y.T @ whole])  # directions that meet the target
    basis = torch.linalg.svd(met).Vh.T
    right, other = basis[:, : 2 * rank], basis[:, 2 * rank :]
    left = whole @ right
    small = scale * torch.eye(2 * rank, dtype=torch.float64)
    return Compression(
        factors=[small.clone() for _ in made],
        target=left.T @ Y @ right,
        left=left,
        right=right,
        rest=whole @ other @ other.T,
        scale=scale,
    )
