r"""The measurements of a problem as an operator: :math:`A(W) = y`, its adjoint, its projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from scipy import linalg, sparse
from torch import Tensor

from dmf_utils._support.machine import memory_in_bytes
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.memory import gram_bytes
from dmf_utils.problems.sensing import MatrixSensing

__all__ = ["AffineConstraint", "Constraint", "affine_constraint"]


class Constraint(Protocol):
    """What the Douglas–Rachford method asks of an affine set and the operator that defines it."""

    rank: int

    def adjoint(self, dual: Tensor) -> Tensor: ...

    def project(self, Z: Tensor) -> Tensor: ...

    def coefficients(self, D: Tensor) -> Tensor: ...


class AffineConstraint:
    """The set of matrices that fit the observations, in float64 on the CPU."""

    shape: tuple[int, int]
    values: Tensor
    """(m,): the observations `y`."""
    rank: int
    """Number of linearly independent measurements."""
    is_orthonormal = False
    """Whether `A A*` is the identity."""

    def apply(self, W: Tensor) -> Tensor:
        """`A(W)`, shape (m,)."""
        raise NotImplementedError

    def adjoint(self, dual: Tensor) -> Tensor:
        """`A*(dual)`, shape (d, d')."""
        raise NotImplementedError

    def rows(self) -> np.ndarray | sparse.sparray:
        """The measurements as rows, shape (m, d·d'): a matrix is taken row by row."""
        raise NotImplementedError

    def solve_gram(self, residual: Tensor) -> Tensor:
        """The shortest `v` of shape (m,) with `A A* v = residual`."""
        raise NotImplementedError

    def ridge_solver(self, share: float) -> tuple[float, Callable[[Tensor], Tensor]]:
        """`δ`, this share of the mean of `A A*`'s diagonal, and `r ↦ (A A* + δ)^{-1} r`."""
        raise NotImplementedError

    def project(self, W: Tensor) -> Tensor:
        """The closest ``(d, d')`` that fits: `W + A* (A A*)^+ (y - A(W))`."""
        return W + self.adjoint(self.solve_gram(self.values - self.apply(W)))

    def coefficients(self, D: Tensor) -> Tensor:
        """The `v` of shape (m,) whose `A* v` is closest to `D`."""
        return self.solve_gram(self.apply(D))

    def scaled(self, factor: float) -> AffineConstraint:
        """The same measurements of `factor` times the matrix."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.values = self.values * factor
        return other


def affine_constraint(
    problem: MatrixCompletion | MatrixSensing | FullObservation,
) -> AffineConstraint:
    r"""The constraint :math:`A(W) = y` that a loss of zero means.

    Parameters
    ----------
    problem : MatrixCompletion, MatrixSensing or FullObservation
        Observed entries count row by row.

    Raises
    ------
    TypeError
        For anything else, a list of problems among it.
    ValueError
        If no matrix fits the measurements, or the products of all pairs of measurement matrices
        do not fit into memory.
    """
    if isinstance(problem, FullObservation):
        return _Entries(torch.ones(problem.shape, dtype=torch.bool), problem.target)
    if isinstance(problem, MatrixCompletion):
        if not hasattr(problem, "mask"):
            raise TypeError("problem is a stack of completions; pass its members one by one")
        return _Entries(problem.mask, problem.values)
    if isinstance(problem, MatrixSensing):
        return _Measurements(problem)
    raise TypeError(
        "problem must be one MatrixCompletion, MatrixSensing or FullObservation, got "
        f"{type(problem).__name__}; pass the members of a list one by one"
    )


class _Entries(AffineConstraint):
    """Observed entries: `A A*` is the identity."""

    is_orthonormal = True

    def __init__(self, mask: Tensor, values: Tensor) -> None:
        self.shape = (mask.shape[0], mask.shape[1])
        self._places = mask.reshape(-1).nonzero()[:, 0].cpu()
        self.values = values.reshape(-1).cpu()[self._places].to(torch.float64)
        self.rank = len(self._places)

    def apply(self, W: Tensor) -> Tensor:
        return W.reshape(-1)[self._places]

    def adjoint(self, dual: Tensor) -> Tensor:
        flat = torch.zeros(self.shape[0] * self.shape[1], dtype=dual.dtype)
        flat[self._places] = dual
        return flat.view(self.shape)

    def rows(self) -> sparse.sparray:
        m, size = len(self._places), self.shape[0] * self.shape[1]
        places = (np.arange(m), self._places.numpy())
        return sparse.csr_array((np.ones(m), places), shape=(m, size))

    def solve_gram(self, residual: Tensor) -> Tensor:
        return residual

    def ridge_solver(self, share: float) -> tuple[float, Callable[[Tensor], Tensor]]:
        return share, lambda residual: residual / (1 + share)

    def project(self, W: Tensor) -> Tensor:
        # Set, not added to: the observed entries of the result are exact.
        flat = W.reshape(-1).clone()
        flat[self._places] = self.values
        return flat.view(self.shape)


class _Measurements(AffineConstraint):
    """Measurement matrices: a Cholesky factor of `A A*`, or its spectrum if that is singular."""

    def __init__(self, problem: MatrixSensing) -> None:
        self.shape = problem.shape
        self._operator = problem.operator.to("cpu", torch.float64)
        self.values = problem.values.to("cpu", torch.float64)
        needed, present = gram_bytes(len(self.values)), memory_in_bytes()
        if needed > 0.8 * present:
            raise ValueError(
                f"problem has {len(self.values)} measurements, whose products of all pairs need "
                f"{needed / 2**30:.1f} GiB; this machine has {present / 2**30:.1f} GiB; take fewer"
            )
        gram = _gram(self._operator)
        self.rank, self._diagonal = len(gram), gram.diagonal().clone()
        self._factor = _cholesky(gram, lower=True)
        # A pivot this small means that a measurement repeats others up to rounding.
        least = 0.0 if self._factor is None else self._factor.diagonal().min() ** 2
        if least <= self.rank * 1e-14 * self._diagonal.max():
            gram = self._factor = None  # before it is made anew
            spectrum, basis = torch.linalg.eigh(_gram(self._operator))
            kept = spectrum > 1e-6 * spectrum[-1]
            # Squared, small singular values are lost; the operator itself still tells them.
            U, s, _ = torch.linalg.svd(basis[:, ~kept].mT @ self._operator, full_matrices=False)
            # What depends on the others is left with rounding, some 1e-14 of the largest.
            small = s > 2e-13 * self.rank**0.5 * spectrum[-1].sqrt()
            rest = basis[:, ~kept] @ U[:, small]
            self._basis = torch.cat([basis[:, kept], rest], dim=1)
            self._spectrum = torch.cat([spectrum[kept], s[small].square()])
            self.rank = len(self._spectrum)
        self._check_consistent()

    def apply(self, W: Tensor) -> Tensor:
        return self._operator @ W.reshape(-1)

    def adjoint(self, dual: Tensor) -> Tensor:
        return (dual @ self._operator).view(self.shape)

    def rows(self) -> np.ndarray:
        return self._operator.numpy()

    def solve_gram(self, residual: Tensor) -> Tensor:
        if self._factor is not None:
            return _solve(self._factor, residual)
        return self._basis @ ((self._basis.mT @ residual) / self._spectrum)

    def ridge_solver(self, share: float) -> tuple[float, Callable[[Tensor], Tensor]]:
        # Above the diagonal of its factor the Gram matrix is still there.
        gram = _gram(self._operator) if self._factor is None else self._factor.mT.clone()
        ridge = share * float(self._diagonal.mean())
        gram.diagonal().copy_(self._diagonal + ridge)
        factor = _cholesky(gram, lower=False)
        return ridge, lambda residual: _solve(factor, residual)

    def _check_consistent(self) -> None:
        if self._factor is not None:
            return
        missed = self.values - self._basis @ (self._basis.mT @ self.values)
        at, size = int(missed.abs().argmax()), torch.linalg.vector_norm(self.values)
        if missed.abs()[at] > 1e-9 * size:
            raise ValueError(
                f"values[{at}] = {float(self.values[at])!r} contradicts the other measurements, on "
                f"which it depends linearly (off by {float(missed[at]):.1e}): no matrix fits; "
                "remove that measurement or correct its value"
            )


def _solve(factor: Tensor, residual: Tensor) -> Tensor:
    """`(L Lᵀ)^{-1} r`. What does both halves takes twice as long, and torch's copies `L` first."""
    half = torch.linalg.solve_triangular(factor, residual[:, None], upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)[:, 0]


def _cholesky(gram: Tensor, lower: bool) -> Tensor | None:
    """`L`, on and below the diagonal of what is returned; None if there is none.

    It takes the memory of the matrix, where torch would copy that first. Of the matrix only the
    triangle above the diagonal is read if it is `lower`, else the one below; the other one is left,
    and stands above the diagonal of what is returned.
    """
    try:
        made = linalg.cho_factor(gram.numpy().T, lower, overwrite_a=True, check_finite=False)
    except linalg.LinAlgError:
        return None
    factor = torch.from_numpy(made[0])
    return factor if lower else factor.mT


def _gram(A: Tensor) -> Tensor:
    """`A Aᵀ`. numpy sees that it is symmetric: half of the work."""
    rows = A.numpy()
    return torch.from_numpy(rows @ rows.T)
