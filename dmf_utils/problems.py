r"""Problems: a loss on the product matrix, its gradient, and the error against the ground truth.

Every problem evaluates one matrix ``(d, d')`` or a batch ``(B, d, d')``. `stack` joins problems of
one kind and shape, so that each matrix of the batch meets its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "FullObservation",
    "MatrixCompletion",
    "MatrixSensing",
    "Problem",
    "low_rank_matrix",
    "stack",
]

Reduction = Literal["mean", "half_sum"]


class Problem(Protocol):
    """What flow and descent ask of a problem; any loss with a gradient can be written as one."""

    shape: tuple[int, int]

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Loss ``(B,)`` and gradient ``(B, d, d')`` at `W` of shape ``(B, d, d')``."""
        ...


def low_rank_matrix(shape: tuple[int, int], rank: int, seed: int) -> Tensor:
    r"""Random ground truth :math:`W^* = c\,U V^\top` with :math:`\|W^*\|_F = \sqrt{d d'}`.

    `U` and `V` have `rank` columns of independent standard normal entries; `c` makes the entries
    of :math:`W^*` have mean square one.

    Parameters
    ----------
    shape : (int, int)
        ``(d, d')``.
    rank : int
        From 0 (the zero matrix) to ``min(d, d')``.
    seed : int
        Seed of the draw.

    Returns
    -------
    Tensor, shape (d, d')

    Raises
    ------
    ValueError
        If `shape` or `rank` is out of range.

    References
    ----------
    The paper's experiments, where :math:`d = d' = 100` and the rank is 5.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be two positive sizes (d, d'), got {tuple(shape)!r}")
    rows, columns = shape
    if not 0 <= rank <= min(shape):
        raise ValueError(f"rank must be between 0 and min(d, d') = {min(shape)}, got {rank!r}")
    rng = np.random.default_rng([seed, _TRUTH_STREAM])
    left, right = rng.standard_normal((rows, rank)), rng.standard_normal((columns, rank))
    W = torch.from_numpy(left @ right.T)
    return W if rank == 0 else W * (math.sqrt(rows * columns) / torch.linalg.matrix_norm(W))


_TRUTH_STREAM, _OBSERVATION_STREAM = 2, 3  # a seed's streams of random numbers, kept apart


class _SquaredLoss:
    """What the squared losses share: checks, scale of the loss, error, choice within a stack."""

    shape: tuple[int, int]
    ground_truth: Tensor | None

    def loss(self, W: Tensor) -> Tensor:
        """Loss at `W` of shape ``(d, d')`` or ``(B, d, d')``; a tensor of shape ``()`` or ``(B,)``."""
        return self.loss_and_gradient(self._checked(W))[0]

    def gradient(self, W: Tensor) -> Tensor:
        r"""Gradient :math:`\nabla\ell(W)`, of the shape of `W`."""
        return self.loss_and_gradient(self._checked(W))[1]

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def error(self, W: Tensor) -> Tensor:
        r"""Mean squared error over all entries, :math:`\|W - W^*\|_F^2 / (d d')`.

        Raises
        ------
        ValueError
            If the problem has no ground truth.
        """
        if self.ground_truth is None:
            raise ValueError(
                "the problem has no ground truth to compare with; pass ground_truth=... when "
                "making it, or judge by held-out entries"
            )
        return (self._checked(W) - self.ground_truth).square().mean((-2, -1))

    def _checked(self, W: Tensor) -> Tensor:
        W = torch.as_tensor(W)
        if tuple(W.shape[-2:]) != self.shape:
            raise ValueError(f"W must have shape (..., {self.shape}), got {tuple(W.shape)}")
        return W


class MatrixCompletion(_SquaredLoss):
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

    def __init__(
        self,
        mask: Tensor,
        values: Tensor,
        ground_truth: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        mask = torch.as_tensor(mask)
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be of dtype bool, got {mask.dtype}; use `mask != 0`")
        values = _as_float(values)
        if mask.ndim != 2 or mask.shape != values.shape:
            raise ValueError(
                f"mask and values must be matrices of one shape (d, d'), got {tuple(mask.shape)} "
                f"and {tuple(values.shape)}"
            )
        self.n_observed = int(mask.sum())
        if self.n_observed == 0:
            raise ValueError("mask has no observed entry: there is nothing to fit; observe some")
        values = torch.where(mask, values, 0.0)
        _check_finite("values", values)
        self.shape = (mask.shape[0], mask.shape[1])
        self.mask, self.values = mask, values
        self.ground_truth = _check_ground_truth(ground_truth, self.shape)
        self.reduction = reduction
        scale = _loss_scale(reduction, self.n_observed)
        self._set_weights(mask, values, torch.tensor(scale, dtype=values.dtype))

    def _set_weights(self, mask: Tensor, values: Tensor, scale: Tensor) -> None:
        # The gradient is 2c(mask*W - values): one fused multiply-add with these two, and the loss
        # is |gradient|²/(4c).
        twice = 2 * scale[..., None, None]
        self._weights, self._offset = mask * twice, -values * twice
        self._loss_factor = 1 / (4 * scale)

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
        if not 1 <= n_observed <= truth.numel():
            raise ValueError(
                f"n_observed must be between 1 and d·d' = {truth.numel()}, got {n_observed!r}"
            )
        places = np.random.default_rng([seed, _OBSERVATION_STREAM]).permutation(truth.numel())
        mask = torch.zeros(truth.numel(), dtype=torch.bool)
        mask[torch.from_numpy(places[:n_observed])] = True
        return cls(mask.view(shape), truth, truth, reduction)

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
        i, j = (_as_index(name, index) for name, index in (("rows", rows), ("columns", columns)))
        y = _as_float(values)
        if not (i.shape == j.shape == y.shape and y.ndim == 1):
            raise ValueError(
                "rows, columns and values must be of one length, got "
                f"{tuple(i.shape)}, {tuple(j.shape)} and {tuple(y.shape)}"
            )
        _check_finite("values", y)
        for name, index, size in (("rows", i, shape[0]), ("columns", j, shape[1])):
            outside = (index < 0) | (index >= size)
            if outside.any():
                at = int(outside.nonzero()[0])
                raise ValueError(
                    f"{name}[{at}] = {int(index[at])} is outside 0…{size - 1} (shape {tuple(shape)}); "
                    "indices count from 0"
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
        matrix = _as_float(matrix)
        return cls(~torch.isnan(matrix) if mask is None else mask, matrix, ground_truth, reduction)

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at once, for the engine: no check of the shape."""
        gradient = torch.addcmul(self._offset, W, self._weights)
        flat = gradient.flatten(-2)
        return torch.linalg.vecdot(flat, flat) * self._loss_factor, gradient

    def to(self, device: torch.device | str, dtype: torch.dtype) -> MatrixCompletion:
        """This problem on another device, in another precision, for the engine."""
        return self._with(lambda part: part.to(device, dtype))

    def take(self, indices: Tensor) -> MatrixCompletion:
        """The problems of a stack at `indices`; a single problem is its own choice."""
        return self if self._weights.ndim == 2 else self._with(lambda part: part[indices])

    def _with(self, change: Callable[[Tensor], Tensor]) -> MatrixCompletion:
        changed = object.__new__(MatrixCompletion)
        changed.shape, changed.ground_truth = self.shape, None
        for name in ("_weights", "_offset", "_loss_factor"):
            setattr(changed, name, change(getattr(self, name)))
        return changed

    def _stacked(self, others: Sequence[MatrixCompletion]) -> MatrixCompletion:
        joined = object.__new__(MatrixCompletion)
        joined.shape, joined.ground_truth = self.shape, None
        for name in ("_weights", "_offset", "_loss_factor"):
            setattr(joined, name, torch.stack([getattr(p, name) for p in others]))
        return joined


class MatrixSensing(_SquaredLoss):
    r"""Matrix sensing: measurements :math:`y_i = \langle A_i, W \rangle`, :math:`i = 1 \dots m`.

    .. math:: \ell(W) = c \sum_i (\langle A_i, W \rangle - y_i)^2, \qquad c = 1/m \text{ or } 1/2

    Over a batch the residuals are one matrix–matrix product with the shared measurement matrix.

    Parameters
    ----------
    measurements : Tensor, shape (m, d, d')
    values : Tensor, shape (m,)
    ground_truth : Tensor, shape (d, d'), optional
    reduction : {"mean", "half_sum"}

    Attributes
    ----------
    shape : (int, int)
    n_measurements : int
    operator : Tensor, shape (m, d·d')
        The measurement matrices as rows.

    Raises
    ------
    ValueError
        For shapes that do not fit, NaN or infinite numbers, or no measurement.
    """

    def __init__(
        self,
        measurements: Tensor,
        values: Tensor,
        ground_truth: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        A, y = _as_float(measurements), _as_float(values)
        if A.ndim != 3 or y.shape != A.shape[:1]:
            raise ValueError(
                "measurements must have shape (m, d, d') and values shape (m,), got "
                f"{tuple(A.shape)} and {tuple(y.shape)}"
            )
        if A.shape[0] == 0:
            raise ValueError("measurements is empty: there is nothing to fit; measure something")
        _check_finite("measurements", A)
        _check_finite("values", y)
        self.n_measurements = A.shape[0]
        self.shape = (A.shape[1], A.shape[2])
        self.operator, self.values = A.reshape(A.shape[0], -1), y
        self.ground_truth = _check_ground_truth(ground_truth, self.shape)
        self.reduction = reduction
        self._scale = _loss_scale(reduction, self.n_measurements)

    @classmethod
    def random(
        cls,
        shape: tuple[int, int],
        rank: int,
        n_measurements: int,
        seed: int,
        reduction: Reduction = "mean",
    ) -> MatrixSensing:
        r"""Random instance: `low_rank_matrix` measured by Gaussian matrices.

        The entries of the :math:`A_i` are independent with variance :math:`1/(d d')`, so that a
        measurement of the ground truth has mean square one (the paper's :math:`1/n^2`).

        Raises
        ------
        ValueError
            If `n_measurements` or `rank` is out of range, or the measurements do not fit into the
            machine's memory; the message says how much they need.
        """
        truth = low_rank_matrix(shape, rank, seed)
        if n_measurements < 1:
            raise ValueError(f"n_measurements must be at least 1, got {n_measurements!r}")
        needed, present = 8 * n_measurements * truth.numel(), _memory_in_bytes()
        if needed > 0.8 * present:
            raise ValueError(
                f"n_measurements = {n_measurements} of shape {tuple(shape)} need "
                f"{needed / 2**30:.1f} GiB, this machine has {present / 2**30:.1f} GiB; take fewer"
            )
        rng = np.random.default_rng([seed, _OBSERVATION_STREAM])
        A = torch.from_numpy(rng.standard_normal((n_measurements, *shape)))
        A /= math.sqrt(truth.numel())
        return cls(A, A.flatten(1) @ truth.flatten(), truth, reduction)

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at once, for the engine: no check of the shape."""
        residual = W.reshape(-1, self.operator.shape[1]) @ self.operator.mT - self.values
        loss = self._scale * torch.linalg.vecdot(residual, residual)
        gradient = (2 * self._scale * residual) @ self.operator
        return loss.view(W.shape[:-2]), gradient.view(W.shape)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> MatrixSensing:
        """This problem on another device, in another precision, for the engine."""
        moved = object.__new__(MatrixSensing)
        moved.__dict__.update(self.__dict__)
        moved.operator = self.operator.to(device, dtype)
        moved.values = self.values.to(device, dtype)
        return moved

    def take(self, indices: Tensor) -> MatrixSensing:
        """All matrices of a batch share this problem, so any choice of them does."""
        return self


class FullObservation(_SquaredLoss):
    r"""Every entry observed: :math:`\ell(W) = \tfrac12 \|W - Y\|_F^2`, the setting of Saxe et al.

    Parameters
    ----------
    target : Tensor, shape (d, d')
        `Y`, which is also the ground truth.
    reduction : {"half_sum", "mean"}

    Raises
    ------
    ValueError
        If `target` is not a matrix of finite numbers.
    """

    def __init__(self, target: Tensor, reduction: Reduction = "half_sum") -> None:
        target = _as_float(target)
        if target.ndim != 2 or target.numel() == 0:
            raise ValueError(f"target must be a matrix, got shape {tuple(target.shape)}")
        _check_finite("target", target)
        self.shape = (target.shape[0], target.shape[1])
        self.target = self.ground_truth = target
        self.reduction = reduction
        self._scale = _loss_scale(reduction, target.numel())

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at once, for the engine: no check of the shape."""
        residual = W - self.target
        return self._scale * residual.square().sum((-2, -1)), (2 * self._scale) * residual

    def to(self, device: torch.device | str, dtype: torch.dtype) -> FullObservation:
        """This problem on another device, in another precision, for the engine."""
        return FullObservation(self.target.to(device, dtype), self.reduction)

    def take(self, indices: Tensor) -> FullObservation:
        """All matrices of a batch share this problem, so any choice of them does."""
        return self


class _Several:
    """Problems of any kinds but one shape, evaluated one after the other."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems, self.shape = list(problems), problems[0].shape

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [p.loss_and_gradient(M[None]) for p, M in zip(self.problems, W, strict=True)]
        losses, gradients = zip(*pairs, strict=True)
        return torch.cat(losses), torch.cat(gradients)

    def take(self, indices: Tensor) -> _Several:
        return _Several([self.problems[i] for i in indices.tolist()])


def stack(problems: Sequence[Problem]) -> Problem:
    """One problem for a batch, whose matrix `b` meets ``problems[b]``.

    One problem shared by all stays itself; completions are joined into one stacked evaluation;
    anything else is evaluated in turn.

    Raises
    ------
    ValueError
        If the problems differ in shape.
    """
    shapes = {tuple(p.shape) for p in problems}
    if len(shapes) != 1:
        raise ValueError(f"problems of a batch must have one shape, got {sorted(shapes)}")
    first = problems[0]
    if all(p is first for p in problems):
        return first if hasattr(first, "take") else _Several(problems)
    if all(isinstance(p, MatrixCompletion) for p in problems):
        return first._stacked(problems)
    return _Several(problems)


def _loss_scale(reduction: str, count: int) -> float:
    if reduction not in ("mean", "half_sum"):
        raise ValueError(f'reduction must be "mean" or "half_sum", got {reduction!r}')
    return 1 / count if reduction == "mean" else 0.5


def _as_float(values: object) -> Tensor:
    made = torch.as_tensor(values)
    return made if made.is_floating_point() else made.to(torch.float64)


def _as_index(name: str, index: object) -> Tensor:
    made = torch.as_tensor(index)
    if made.is_floating_point() or made.is_complex() or made.dtype == torch.bool:
        raise TypeError(f"{name} must be whole numbers, got dtype {made.dtype}")
    return made.to(torch.int64)


def _check_finite(name: str, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{name} has {int((~torch.isfinite(values)).sum())} NaN or infinite numbers; remove "
            "them, or leave those places unobserved"
        )


def _check_ground_truth(truth: object, shape: tuple[int, int]) -> Tensor | None:
    if truth is None:
        return None
    made = _as_float(truth)
    if tuple(made.shape) != shape:
        raise ValueError(f"ground_truth must have shape {shape}, got {tuple(made.shape)}")
    _check_finite("ground_truth", made)
    return made


def _memory_in_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
