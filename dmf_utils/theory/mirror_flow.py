r"""The mirror map of a balanced factorization, for measurements that commute.

Where all factors start at :math:`\alpha I` and the measurements commute, gradient flow on the
factors is *mirror flow* on the product matrix: with the mirror map :math:`h_N`,

.. math:: \frac{\mathrm d}{\mathrm dt} \nabla h_N(W) = -\nabla\ell(W), \qquad
    h_N''(\lambda) = \frac{1}{N} \lambda^{-2 + 2/N}

on every eigenvalue. So the end point is the solution nearest to the start in the Bregman
divergence of :math:`h_N`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmf_utils._support import checks

__all__ = ["bregman_divergence", "mirror_gradient", "mirror_map", "mirror_residual"]


def mirror_map(eigenvalues: Any, depth: int) -> Tensor:
    r"""The mirror map of one eigenvalue, up to an affine function.

    .. math::
        h_1 = \tfrac12 \lambda^2, \qquad h_2 = \tfrac12 (\lambda \ln \lambda - \lambda), \qquad
        h_N = -\frac{N}{2 (N-2)} \lambda^{2/N} \quad (N \ge 3)

    Parameters
    ----------
    eigenvalues : array of positive numbers
    depth : int
        Number of factors N, at least 1.

    Returns
    -------
    Tensor
        Of the shape of `eigenvalues`.

    Raises
    ------
    ValueError
        If an eigenvalue is not positive, for `depth` 2 and more.

    References
    ----------
    Z. Li, T. Wang, J. D. Lee, S. Arora, *Implicit bias of gradient descent on reparametrized
    models*, NeurIPS 2022; the power is that of Theorem 3 of the paper.
    """
    lam, depth = _checked(eigenvalues, depth)
    if depth == 1:
        return lam.square() / 2
    if depth == 2:
        return (torch.xlogy(lam, lam) - lam) / 2
    return -depth / (2 * (depth - 2)) * lam ** (2 / depth)


def mirror_gradient(eigenvalues: Any, depth: int) -> Tensor:
    r"""The derivative of `mirror_map`: what moves at the speed of the negative gradient.

    .. math::
        h_1' = \lambda, \qquad h_2' = \tfrac12 \ln \lambda, \qquad
        h_N' = -\frac{1}{N-2} \lambda^{-(N-2)/N} \quad (N \ge 3)

    Parameters, shapes and errors are those of `mirror_map`.
    """
    lam, depth = _checked(eigenvalues, depth)
    if depth == 1:
        return lam
    if depth == 2:
        return lam.log() / 2
    return -(lam ** (-(depth - 2) / depth)) / (depth - 2)


def bregman_divergence(eigenvalues: Any, origin: Any, depth: int) -> Tensor:
    r"""The divergence :math:`h(\lambda) - h(\mu) - h'(\mu) (\lambda - \mu)`, one by one.

    Parameters
    ----------
    eigenvalues, origin : arrays of positive numbers that broadcast
        :math:`\lambda` and :math:`\mu`; for the flow from :math:`W_j(0) = \alpha I` the origin is
        :math:`\alpha^N`.
    depth : int

    Returns
    -------
    Tensor
        At least 0, and 0 only where the two agree. Its sum over the eigenvalues is what the flow
        minimizes among all solutions.
    """
    lam, depth = _checked(eigenvalues, depth)
    mu, _ = _checked(origin, depth)
    slope = mirror_gradient(mu, depth)
    return mirror_map(lam, depth) - mirror_map(mu, depth) - slope * (lam - mu)


def mirror_residual(end: Any, start: Any, measurements: Any, depth: int) -> float:
    r"""How far an end point is from a Bregman projection of the start onto the solutions.

    A solution `W` is the nearest one to the start :math:`W_0` exactly if
    :math:`\nabla h(W) - \nabla h(W_0)` is a combination of the measurements. The residual is the
    norm of the part that is none, relative to the whole; :math:`\nabla h` acts on eigenvalues.

    Parameters
    ----------
    end, start : (d, d) arrays
        Symmetric positive definite matrices.
    measurements : (m, d, d) array
        Symmetric.
    depth : int

    Returns
    -------
    float
        Between 0 (a Bregman projection) and 1.

    Raises
    ------
    ValueError
        If a matrix is not symmetric positive definite, or the start is the end.
    """
    depth = checks.whole_number(depth, "depth", 1)
    A = checks.real_tensor(measurements, "measurements")
    if A.ndim != 3 or A.shape[1] != A.shape[2] or 0 in A.shape:
        raise ValueError(f"measurements must have shape (m, d, d), got {tuple(A.shape)}")
    shape = (A.shape[1], A.shape[2])
    moved = _spectral(end, "end", shape, depth) - _spectral(start, "start", shape, depth)
    size = torch.linalg.matrix_norm(moved)
    if size == 0:
        raise ValueError("end equals start: nothing moved; pass the end point of a run")
    # The combinations of the measurements, as an orthonormal basis.
    _, s, right = torch.linalg.svd(A.flatten(1), full_matrices=False)
    basis = right[s > 1e-12 * s[0]]
    flat = moved.flatten()
    return float(torch.linalg.vector_norm(flat - basis.T @ (basis @ flat)) / size)


def _spectral(W: Any, name: str, shape: tuple[int, int], depth: int) -> Tensor:
    W = checks.matrix(W, name, shape)
    if (W - W.T).abs().max() > 1e-9 * W.abs().max():
        raise ValueError(f"{name} must be symmetric; pass (W + W.T) / 2")
    values, vectors = torch.linalg.eigh((W + W.T) / 2)
    if depth > 1 and values[0] <= 0:
        raise ValueError(
            f"{name} must be positive definite, its least eigenvalue is {float(values[0]):.1e}"
        )
    return (vectors * mirror_gradient(values, depth)) @ vectors.T


def _checked(values: Any, depth: int) -> tuple[Tensor, int]:
    depth = checks.whole_number(depth, "depth", 1)
    lam = checks.real_tensor(values, "eigenvalues")
    if depth > 1 and (lam <= 0).any():
        raise ValueError(
            f"eigenvalues must be positive at depth {depth}, the least is {float(lam.min())}; "
            "the flow from a positive start keeps them so"
        )
    return lam, depth
