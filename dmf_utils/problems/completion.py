"""Matrix completion: some entries of a matrix are observed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dmf_utils._support.checks import as_float64, check_finite, whole_number
from dmf_utils.problems.base import (
    OBSERVATION_STREAM,
    Reduction,
    SquaredLoss,
    check_ground_truth,
    check_shape,
    loss_scale,
    low_rank_matrix,
)
from dmf_utils.problems.observed_entries import ObservedEntries

__all__ = ["MatrixCompletion"]


class MatrixCompletion(SquaredLoss):
    r"""Matrix completion: observed entries :math:`y_{ij}`, :math:`(i, j) \in \Omega`.

    .. math:: \ell(W) = c \sum_{(i,j) \in \Omega} (W_{ij} - y_{ij})^2, \qquad
        c = 1/|\Omega| \text{ ("mean")} \quad\text{or}\quad 1/2 \text{ ("half\_sum")}

    Make one with `random`, `from_entries` or `from_mask`.

    Parameters
    ----------
    mask : Tensor of bool, shape (d, d')
        True where an entry is observed.
    values : Tensor, shape (d, d')
        Observed values; what stands at unobserved places is ignored.
    ground_truth : Tensor, shape (d, d'), optional
        For `error` only.
    reduction : {"mean", "half_sum"}
        Scale `c` of the loss.

    Attributes
    ----------
    shape : (int, int)
    n_observed : int
    mask, values, ground_truth : Tensor
        `values` is zero where unobserved.

    Raises
    ------
    ValueError
        For shapes that do not fit, NaN or infinite observed values, or no observation.
    """

    _PARTS = ("_weights", "data", "_loss_factor")

    def __init__(
        self,
        mask: Tensor,
        values: Tensor,
        ground_truth: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        mask = torch.as_tensor(mask).clone()
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be of dtype bool, got {mask.dtype}; use `mask != 0`")
        values = as_float64(values, "values")
        if mask.ndim != 2 or mask.shape != values.shape:
            raise ValueError(
                f"mask and values must be matrices of one shape (d, d'), got {tuple(mask.shape)} "
                f"and {tuple(values.shape)}"
            )
        self.n_observed = int(mask.sum())
        if self.n_observed == 0:
            raise ValueError("mask has no observed entry: there is nothing to fit; observe some")
        values = torch.where(mask, values, 0.0)
        check_finite("values", values)
        self.shape = (mask.shape[0], mask.shape[1])
        self.mask, self.values = mask, values
        self.ground_truth = check_ground_truth(ground_truth, self.shape)
        self.reduction = reduction
        # The gradient is 2c(mask*W - values): one fused multiply-add with these two, and the loss
        # is |gradient|²/(4c).
        twice = torch.tensor(2 * loss_scale(reduction, self.n_observed), dtype=values.dtype)
        self._weights, self.data = mask * twice, -values * twice
        self._loss_factor = 1 / (2 * twice)
        self._sparse: dict[torch.dtype, ObservedEntries] = {}  # made when first asked for

    @classmethod
    def random(
        cls,
        shape: tuple[int, int],
        rank: int,
        n_observed: int,
        seed: int,
        reduction: Reduction = "mean",
    ) -> MatrixCompletion:
        """Random instance: `low_rank_matrix`, observed at places drawn without replacement.

        The ground truth of a seed does not depend on `n_observed`, and the observed entries of a
        smaller `n_observed` are among those of a larger one.

        Parameters
        ----------
        shape : (int, int)
        rank : int
            Rank of the ground truth.
        n_observed : int
            Number of observed entries, from 1 to d·d'.
        seed : int

        Raises
        ------
        ValueError
            If `n_observed` or `rank` is out of range.
        """
        truth = low_rank_matrix(shape, rank, seed)
        if not 1 <= whole_number(n_observed, "n_observed", 1) <= truth.numel():
            raise ValueError(
                f"n_observed must be between 1 and d·d' = {truth.numel()}, got {n_observed!r}"
            )
        places = np.random.default_rng([seed, OBSERVATION_STREAM]).permutation(truth.numel())
        mask = torch.zeros(truth.numel(), dtype=torch.bool)
        mask[torch.from_numpy(places[:n_observed])] = True
        return cls(mask.view(truth.shape), truth, truth, reduction)

    @classmethod
    def from_entries(
        cls,
        rows: Sequence[int] | Tensor,
        columns: Sequence[int] | Tensor,
        values: Sequence[float] | Tensor,
        shape: tuple[int, int],
        ground_truth: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> MatrixCompletion:
        """Instance from triplets (row, column, value), counted from 0.

        A place that is given twice with one value counts once.

        Raises
        ------
        ValueError
            For lengths that do not match, an index out of range, or a place given twice with
            different values; the message names the first such triplet.
        """
        shape = check_shape(shape)
        i, j = (_as_index(name, index) for name, index in (("rows", rows), ("columns", columns)))
        y = as_float64(values, "values")
        if not (i.shape == j.shape == y.shape and y.ndim == 1):
            raise ValueError(
                "rows, columns and values must be of one length, got "
                f"{tuple(i.shape)}, {tuple(j.shape)} and {tuple(y.shape)}"
            )
        check_finite("values", y)
        for name, index, size in (("rows", i, shape[0]), ("columns", j, shape[1])):
            outside = (index < 0) | (index >= size)
            if outside.any():
                at = int(outside.nonzero()[0])
                raise ValueError(
                    f"{name}[{at}] = {int(index[at])} is outside 0…{size - 1} "
                    f"(shape {shape}); indices count from 0"
                )
        dense = torch.zeros(tuple(shape), dtype=y.dtype)
        mask = torch.zeros(tuple(shape), dtype=torch.bool)
        dense[i, j], mask[i, j] = y, True
        differing = (dense[i, j] != y).nonzero()
        if differing.numel():
            at = int(differing[0])
            raise ValueError(
                f"entry ({int(i[at])}, {int(j[at])}) is observed more than once with different "
                f"values, among them {float(y[at])!r} and {float(dense[i[at], j[at]])!r}; keep one"
            )
        return cls(mask, dense, ground_truth, reduction)

    @classmethod
    def from_mask(
        cls,
        matrix: Tensor,
        mask: Tensor | None = None,
        ground_truth: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> MatrixCompletion:
        """Instance from a matrix and a mask; without a mask, NaN marks what is unobserved."""
        matrix = as_float64(matrix, "matrix")
        return cls(~torch.isnan(matrix) if mask is None else mask, matrix, ground_truth, reduction)

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at once, for the engine: no check of the shape."""
        gradient = self.unchecked_gradient(W)
        size = torch.linalg.vector_norm(gradient, dim=(-2, -1))
        return self._loss_factor * size.square(), gradient

    def unchecked_gradient(self, W: Tensor) -> Tensor:
        """Gradient alone, for the engine: no check of the shape."""
        return torch.addcmul(self.data, W, self._weights)

    def prefers_factors(self, shapes: Sequence[tuple[int, int]]) -> bool:
        r"""Whether the engine should ask for `loss_and_factor_gradients`, and form no product.

        The rule is measured (`benchmarks/sparse_gradients.py`): of at least 90,000 entries at most
        an eighth is observed; a fifteenth where hidden layers have 300 units or more, whose dense
        products are the fastest. Smaller matrices are cheaper than the handling of sparse ones.

        Parameters
        ----------
        shapes : sequence of (int, int)
            Of the factors.
        """
        size = self.shape[0] * self.shape[1]
        is_one = self._weights.ndim == 2 and self._weights.device.type == "cpu"
        if not is_one or len(shapes) < 2 or size < 90_000:
            return False
        narrowest = min(rows for rows, _ in shapes[:-1])
        return (15 if narrowest >= 300 else 8) * self.n_observed <= size

    def observed_entries(self, dtype: torch.dtype = torch.float64) -> ObservedEntries:
        """The observed entries in the form that products at them need, made once."""
        if dtype not in self._sparse:
            scale = loss_scale(self.reduction, self.n_observed)
            self._sparse[dtype] = ObservedEntries(self.mask, self.values, scale, dtype)
        return self._sparse[dtype]

    def loss_and_factor_gradients(
        self, factors: Sequence[Tensor], out: Sequence[Tensor] | None = None
    ) -> Tensor:
        r"""Losses at the product of the factors, which is taken at the observed entries only.

        With hidden size `h` the last product costs :math:`O(m h)` instead of :math:`O(d d' h)`.

        Parameters
        ----------
        factors : sequence of Tensor
            ``[W_1, ..., W_N]``, N at least 2, of shapes ``(B, d_j, d_{j-1})``.
        out : sequence of Tensor, optional
            Where to write the gradients of the factors.

        Returns
        -------
        Tensor, shape (B,)
        """
        entries = self.observed_entries(factors[0].dtype)
        return torch.stack(
            [
                entries.loss_and_factor_gradients(
                    [W[b] for W in factors], None if out is None else [W[b] for W in out]
                )
                for b in range(len(factors[0]))
            ]
        )

    def shifted(self, by: Tensor) -> MatrixCompletion:
        r"""With the gradient of :math:`W \mapsto \ell(W + B)` for a matrix `B`, for the engine."""
        return self._changed(data=torch.addcmul(self.data, by, self._weights), _sparse={})

    def shifted_at_entries(self, by: Tensor) -> MatrixCompletion:
        """The same for a matrix of which the observed entries ``(m,)`` are given."""
        return self._changed(_sparse={by.dtype: self.observed_entries(by.dtype).shifted(by)})

    def to(self, device: torch.device | str, dtype: torch.dtype) -> MatrixCompletion:
        """This problem on another device, in another precision, for the engine."""
        return self._with(lambda part: part.to(device, dtype))

    def take(self, indices: Tensor | slice) -> MatrixCompletion:
        """The problems of a stack at `indices`; a single problem is its own choice."""
        return self if self._weights.ndim == 2 else self._with(lambda part: part[indices])

    def _with(self, change: Callable[[Tensor], Tensor]) -> MatrixCompletion:
        return self._changed(**{name: change(getattr(self, name)) for name in self._PARTS})

    def stacked(self, problems: Sequence[MatrixCompletion]) -> MatrixCompletion:
        """The `problems`, all of one shape, as one for a batch, for the engine."""
        parts = {name: torch.stack([getattr(p, name) for p in problems]) for name in self._PARTS}
        return self._changed(ground_truth=None, **parts)


def _as_index(name: str, index: object) -> Tensor:
    made = torch.as_tensor(index)
    if made.numel() == 0:
        return torch.zeros(made.shape, dtype=torch.int64)
    if made.is_floating_point() or made.is_complex() or made.dtype == torch.bool:
        raise TypeError(f"{name} must be whole numbers, got dtype {made.dtype}")
    return made.to(torch.int64)
