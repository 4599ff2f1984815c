r"""A product matrix at its observed entries only, and the gradients of the factors from there.

With :math:`P = W_{N-1} \cdots W_1` the product is :math:`W_N P`. Its :math:`m` observed entries
cost :math:`O(m h)`, `h` the hidden size, and so do :math:`G P^\top` and :math:`W_N^\top G` with the
sparse gradient :math:`G`. What remains are products of the factors below the last, which are as
wide as :math:`W_1`. If there are more columns than rows, the product is parted above
:math:`W_1` instead: then what remains is as high as :math:`W_N`.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_utils._support.blas import multiply

__all__ = ["ObservedEntries"]


class ObservedEntries:
    r"""The entries :math:`y_{ij}`, :math:`(i, j) \in \Omega`, as sparse matrices need them.

    Parameters
    ----------
    mask : Tensor of bool, shape (d, d')
    values : Tensor, shape (d, d')
    scale : float
        `c` in :math:`\ell(W) = c \sum_\Omega (W_{ij} - y_{ij})^2`.
    dtype : torch.dtype
    """

    def __init__(self, mask: Tensor, values: Tensor, scale: float, dtype: torch.dtype) -> None:
        rows, self._columns = mask.nonzero(as_tuple=True)
        self._values = values[rows, self._columns].to(dtype)
        self._shape, self._scale = tuple(mask.shape), scale
        self._is_wide = mask.shape[1] > mask.shape[0]
        self._row_ends = _ends(mask.sum(1))
        # The same entries column by column: the gradient's transpose, without computing it anew.
        self._by_column = torch.argsort(self._columns, stable=True)
        self._rows, self._column_ends = rows[self._by_column], _ends(mask.sum(0))
        with warnings.catch_warnings():
            # "Sparse CSR tensor support is in beta state", once in a process.
            warnings.simplefilter("ignore", UserWarning)
            self._empty = self.matrix(torch.zeros_like(self._values))

    @property
    def values(self) -> Tensor:
        """Observed values ``(m,)``, row by row."""
        return self._values

    def at(self, left: Tensor, right: Tensor) -> Tensor:
        """The product of `left` and `right` at the observed entries, ``(m,)``."""
        return torch.sparse.sampled_addmm(self._empty, left, right, beta=0.0).values()

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        """The product of ``[W_1, ..., W_N]``, at least two, at the observed entries ``(m,)``."""
        parted = 1 if self._is_wide else len(factors) - 1
        left, right = factors[parted:], factors[:parted]
        return self.at(*(functools.reduce(multiply, part[::-1]) for part in (left, right)))

    def shifted(self, by: Tensor) -> ObservedEntries:
        """For the loss at a product to whose observed entries ``(m,)`` `by` is added."""
        other = copy.copy(self)
        other._values = self._values - by
        return other

    def matrix(self, entries: Tensor) -> Tensor:
        """The sparse matrix ``(d, d')`` with these observed entries."""
        return torch.sparse_csr_tensor(self._row_ends, self._columns, entries, self._shape)

    def transpose(self, entries: Tensor) -> Tensor:
        """Its transpose ``(d', d)``."""
        at = entries[self._by_column]
        return torch.sparse_csr_tensor(self._column_ends, self._rows, at, self._shape[::-1])

    def loss_and_factor_gradients(
        self,
        factors: Sequence[Tensor],
        out: Sequence[Tensor] | None,
        product: Tensor | None = None,
    ) -> Tensor:
        """Loss ``()`` at the factors ``[W_1, ..., W_N]``; their gradients are written into `out`.

        Parameters
        ----------
        factors : sequence of Tensor
            At least two, of shapes ``(d_j, d_{j-1})``.
        out : sequence of Tensor, or None
            None for the loss alone.
        product : Tensor, shape (m,), optional
            Where to write the observed entries of the product.
        """
        return (self._parted_above_first if self._is_wide else self._parted_below_last)(
            factors, out, product
        )

    def _parted_below_last(
        self, factors: Sequence[Tensor], out: Sequence[Tensor] | None, product: Tensor | None
    ) -> Tensor:
        prefixes = [factors[0]]
        for W in factors[1:-1]:
            prefixes.append(multiply(W, prefixes[-1]))
        loss, slopes = self._loss_and_slopes(factors[-1], prefixes[-1], product)
        if out is None:
            return loss
        out[-1].copy_(self.matrix(slopes) @ prefixes[-1].T.contiguous())
        below = (self.transpose(slopes) @ factors[-1]).T
        for j in range(len(factors) - 2, 0, -1):
            multiply(below, prefixes[j - 1].T, out=out[j])
            below = multiply(factors[j].T, below)
        out[0].copy_(below)
        return loss

    def _parted_above_first(
        self, factors: Sequence[Tensor], out: Sequence[Tensor] | None, product: Tensor | None
    ) -> Tensor:
        suffixes = [factors[-1]]  # W_N, W_N W_{N-1}, and so on
        for W in factors[-2:0:-1]:
            suffixes.append(multiply(suffixes[-1], W))
        loss, slopes = self._loss_and_slopes(suffixes[-1], factors[0], product)
        if out is None:
            return loss
        out[0].copy_((self.transpose(slopes) @ suffixes[-1]).T)
        above = self.matrix(slopes) @ factors[0].T.contiguous()
        for j in range(1, len(factors) - 1):
            multiply(suffixes[-1 - j].T, above, out=out[j])
            above = multiply(above, factors[j].T)
        out[-1].copy_(above)
        return loss

    def _loss_and_slopes(
        self, left: Tensor, right: Tensor, product: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Loss ``()`` at the product of two matrices, and its gradient's entries ``(m,)``."""
        residual = self.at(left, right)
        if product is not None:
            product.copy_(residual)
        residual.sub_(self._values)
        loss = self._scale * residual.square().sum()
        return loss, residual.mul_(2 * self._scale)


def _ends(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
