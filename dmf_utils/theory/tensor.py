r"""Tensor completion by a sum of outer products, and its gradient flow.

The model is :math:`T = \sum_{r=1}^R w_r^1 \otimes \dots \otimes w_r^K` (a CP factorization), a
tensor of order :math:`K` with :math:`R` components. For :math:`K = 2` it is a matrix factorization
of depth 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from dmf_utils._support import checks

__all__ = [
    "ComponentFlow",
    "TensorCompletion",
    "component_flow",
    "component_norm_rates",
    "component_norms",
    "component_start",
    "component_sum",
]

_TRUTH_STREAM, _OBSERVED_STREAM, _START_STREAM = 11, 12, 13


@dataclass(frozen=True)
class TensorCompletion:
    r"""Observed entries of a tensor: :math:`\ell(T) = \frac12 \sum_{\text{observed}} (T - Y)^2`."""

    mask: Tensor
    """(d_1, ..., d_K) of bool: where an entry is observed."""
    values: Tensor
    """(d_1, ..., d_K): the observed values; zero elsewhere."""
    ground_truth: Tensor | None = None
    """(d_1, ..., d_K), for `error` only."""

    @classmethod
    def random(
        cls, shape: Sequence[int], rank: int, n_observed: int, seed: int
    ) -> TensorCompletion:
        """Random instance: a sum of `rank` Gaussian outer products, of mean square one.

        Parameters
        ----------
        shape : (d_1, ..., d_K)
            Two sizes or more.
        rank : int
            Components of the ground truth.
        n_observed : int
            Entries observed, drawn without replacement.
        seed : int

        Raises
        ------
        TypeError, ValueError
            For arguments out of range.
        """
        sizes = _sizes(shape)
        rank = checks.whole_number(rank, "rank", 1)
        seed = checks.whole_number(seed, "seed", 0)
        total = math.prod(sizes)
        n_observed = checks.whole_number(n_observed, "n_observed", 1)
        if n_observed > total:
            raise ValueError(f"n_observed must be at most {total}, got {n_observed}")
        rng = np.random.default_rng([seed, _TRUTH_STREAM])
        truth = component_sum([torch.from_numpy(rng.standard_normal((d, rank))) for d in sizes])
        truth = truth / truth.square().mean().sqrt()
        places = np.random.default_rng([seed, _OBSERVED_STREAM]).permutation(total)[:n_observed]
        mask = torch.zeros(total, dtype=torch.bool)
        mask[torch.from_numpy(places)] = True
        mask = mask.view(sizes)
        return cls(mask, torch.where(mask, truth, 0.0), truth)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes ``(d_1, ..., d_K)``."""
        return tuple(self.mask.shape)

    def loss(self, T: Tensor) -> Tensor:
        """Loss at a tensor of this shape."""
        return self.gradient(T).square().sum() / 2

    def gradient(self, T: Tensor) -> Tensor:
        r"""Gradient :math:`\nabla \ell(T)`: the misses where observed, zero elsewhere."""
        return torch.where(self.mask, T - self.values, 0.0)

    def error(self, T: Tensor) -> Tensor:
        """Mean squared error over all entries, a 0-dimensional tensor."""
        if self.ground_truth is None:
            raise ValueError("the problem has no ground truth to compare with")
        return (T - self.ground_truth).square().mean()


@dataclass(frozen=True)
class ComponentFlow:
    """What the flow of a CP factorization did."""

    times: Tensor
    """(T,): the times at which the integrator stepped."""
    norms: Tensor
    """(T, R): norms of the components."""
    losses: Tensor
    """(T,): losses."""
    factors: list[Tensor]
    """K matrices (d_k, R) at the end."""
    reached: bool
    """Whether the asked loss was reached."""

    @property
    def tensor(self) -> Tensor:
        """The tensor at the end, of the shape of the problem."""
        return component_sum(self.factors)


def component_sum(factors: Sequence[Tensor]) -> Tensor:
    r"""Compute :math:`\sum_r w_r^1 \otimes \dots \otimes w_r^K`.

    Parameters
    ----------
    factors : K matrices, (d_k, R) each
        Column `r` of matrix `k` is :math:`w_r^k`.

    Returns
    -------
    Tensor, shape (d_1, ..., d_K)
    """
    rows = factors[0]
    for factor in factors[1:]:
        rows = (rows[:, None, :] * factor[None, :, :]).flatten(0, 1)
    return rows.sum(dim=1).view(*(factor.shape[0] for factor in factors))


def component_norms(factors: Sequence[Tensor]) -> Tensor:
    r"""Compute the norms of the components, :math:`\prod_k \|w_r^k\|`, of shape (R,)."""
    return torch.stack([torch.linalg.vector_norm(factor, dim=0) for factor in factors]).prod(dim=0)


def component_norm_rates(factors: Sequence[Tensor], gradient: Tensor) -> Tensor:
    r"""Compute the velocities of the norms of the components under balanced gradient flow.

    .. math::
        \frac{\mathrm d}{\mathrm dt} \|{\textstyle\bigotimes_k} w_r^k\| =
        K \, \|{\textstyle\bigotimes_k} w_r^k\|^{2 - 2/K} \,
        \bigl\langle -\nabla \ell(T), {\textstyle\bigotimes_k} \hat w_r^k \bigr\rangle,
        \qquad \hat w = w / \|w\| .

    Parameters
    ----------
    factors : K matrices, (d_k, R) each
        Balanced: the vectors of a component have one norm.
    gradient : Tensor, shape (d_1, ..., d_K)
        Gradient of the loss at the tensor.

    Returns
    -------
    Tensor, shape (R,)

    Raises
    ------
    ValueError
        If the factors are not balanced.

    References
    ----------
    N. Razin, A. Maman, N. Cohen, *Implicit Regularization in Tensor Factorization*, ICML 2021.
    """
    sizes = torch.stack([torch.linalg.vector_norm(factor, dim=0) for factor in factors])
    if bool((sizes - sizes[0]).abs().max() > 1e-9 * sizes.max()):
        raise ValueError(
            "factors must be balanced, the vectors of each component of one norm; "
            "take them from component_start"
        )
    order, norms = len(factors), sizes.prod(dim=0)
    directions = [factor / size for factor, size in zip(factors, sizes, strict=True)]
    along = (_contracted(-gradient, directions, 0) * directions[0]).sum(dim=0)
    return order * norms ** (2 - 2 / order) * along


def component_start(
    shape: Sequence[int], n_components: int, norm: float, seed: int
) -> list[Tensor]:
    """Balanced start: random directions, and every component of one norm.

    Parameters
    ----------
    shape : (d_1, ..., d_K)
    n_components : int
        R.
    norm : float
        Norm of each component.
    seed : int

    Returns
    -------
    list of K Tensor, (d_k, R) each

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.
    """
    sizes, norm = _sizes(shape), checks.positive(norm, "norm")
    n_components = checks.whole_number(n_components, "n_components", 1)
    rng = np.random.default_rng([checks.whole_number(seed, "seed", 0), _START_STREAM])
    drawn = [torch.from_numpy(rng.standard_normal((d, n_components))) for d in sizes]
    size = norm ** (1 / len(sizes))
    return [size * factor / torch.linalg.vector_norm(factor, dim=0) for factor in drawn]


def component_flow(
    problem: TensorCompletion,
    factors: Sequence[Tensor],
    until_loss: float,
    *,
    until_time: float = 1e6,
    tolerance: float = 1e-6,
) -> ComponentFlow:
    r"""Follow :math:`\dot w_r^k = -\partial \ell / \partial w_r^k` until a loss or a time.

    Parameters
    ----------
    problem : TensorCompletion
    factors : K matrices, (d_k, R) each
        The start.
    until_loss : float
        Loss at which the flow ends.
    until_time : float
        Time at which it ends at the latest.
    tolerance : float
        Relative tolerance of a step of Dormand–Prince 5(4); the absolute one is it times the
        smallest size of a vector of the start, so that waiting components are followed.

    Returns
    -------
    ComponentFlow

    Raises
    ------
    ValueError
        If the factors do not fit the problem.
    RuntimeError
        If the integrator gives up.
    """
    until_loss = checks.positive(until_loss, "until_loss")
    until_time = checks.positive(until_time, "until_time")
    tolerance = checks.positive(tolerance, "tolerance")
    made = [checks.matrix(factor, f"factors[{k}]") for k, factor in enumerate(factors)]
    sizes = [tuple(factor.shape) for factor in made]
    if tuple(d for d, _ in sizes) != problem.shape or len({R for _, R in sizes}) != 1:
        raise ValueError(
            f"factors of shapes {sizes} do not make a tensor of shape {problem.shape}; give one "
            "matrix (d_k, R) for each size"
        )

    def unpack(state: np.ndarray) -> list[Tensor]:
        parts = torch.from_numpy(np.ascontiguousarray(state)).split([d * R for d, R in sizes])
        return [part.view(size) for part, size in zip(parts, sizes, strict=True)]

    def rate(_: float, state: np.ndarray) -> np.ndarray:
        at = unpack(state)
        downhill = -problem.gradient(component_sum(at))
        slopes = [_contracted(downhill, at, k) for k in range(len(at))]
        return torch.cat([slope.flatten() for slope in slopes]).numpy()

    def fits(_: float, state: np.ndarray) -> float:
        return float(problem.loss(component_sum(unpack(state)))) - until_loss

    fits.terminal = True
    smallest = min(float(torch.linalg.vector_norm(factor, dim=0).min()) for factor in made)
    start = torch.cat([factor.flatten() for factor in made]).numpy()
    found = solve_ivp(
        rate, (0.0, until_time), start, rtol=tolerance, atol=tolerance * smallest, events=fits
    )
    if found.status < 0:
        raise RuntimeError(f"the flow could not be followed: {found.message}")
    visited = [unpack(state) for state in found.y.T]
    return ComponentFlow(
        times=torch.from_numpy(found.t),
        norms=torch.stack([component_norms(at) for at in visited]),
        losses=torch.stack([problem.loss(component_sum(at)) for at in visited]),
        factors=[factor.clone() for factor in visited[-1]],
        reached=found.status == 1,
    )


def _contracted(tensor: Tensor, factors: Sequence[Tensor], kept: int) -> Tensor:
    """The tensor contracted with each component's vectors, except those of `kept`: (d_kept, R)."""
    rows = None
    for k, factor in enumerate(factors):
        if k != kept:
            rows = factor if rows is None else (rows[:, None, :] * factor[None, :, :]).flatten(0, 1)
    return tensor.movedim(kept, 0).flatten(1) @ rows


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(shape, Sequence) or len(shape) < 2:
        raise ValueError(f"shape must have two sizes or more, got {shape!r}")
    return tuple(checks.whole_number(d, f"shape[{k}]", 1) for k, d in enumerate(shape))
