r"""How flat the loss is around a solution: the trace of its Hessian in the factors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmf_utils._support import checks
from dmf_utils.factorization.product import product_matrix
from dmf_utils.problems.base import loss_scale
from dmf_utils.problems.sensing import MatrixSensing

__all__ = ["hessian_trace"]


def hessian_trace(problem: MatrixSensing, factors: Any) -> Tensor:
    r"""Trace of the Hessian of :math:`\varphi(W_1, \dots, W_N)` where the loss is zero.

    With :math:`P_j = W_N \cdots W_{j+1}`, :math:`R_j = W_{j-1} \cdots W_1` and the loss
    :math:`c \sum_i (\langle A_i, W \rangle - y_i)^2`,

    .. math:: \mathrm{tr}\, \nabla^2 \varphi = 2 c \sum_i \sum_j \|P_j^\top A_i R_j^\top\|_F^2 .

    A Hessian's term with the residuals has no trace: the product is linear in each factor, so the
    diagonal blocks have no second derivative. The formula holds at every point.

    Parameters
    ----------
    problem : MatrixSensing
    factors : [W_1, ..., W_N]
        Each of shape (..., rows, columns); leading dimensions are those of a batch.

    Returns
    -------
    Tensor
        Of the batch's shape.

    References
    ----------
    K. Gatmiry et al., *What is the inductive bias of flatness regularization?*, NeurIPS 2023.
    """
    made = [checks.real_tensor(W, f"factors[{j}]") for j, W in enumerate(factors)]
    if product_matrix(made).shape[-2:] != problem.shape:
        raise ValueError(
            f"factors must have a product of shape {problem.shape}, got "
            f"{tuple(product_matrix(made).shape[-2:])}"
        )
    A = problem.operator.view(-1, *problem.shape)
    d, d_prime = problem.shape
    total = made[0].new_zeros(made[0].shape[:-2])
    for j in range(len(made)):
        before, after = made[:j], made[j + 1 :]
        left = product_matrix(after) if after else torch.eye(d, dtype=A.dtype)
        right = product_matrix(before) if before else torch.eye(d_prime, dtype=A.dtype)
        through = left.mT.unsqueeze(-3) @ A @ right.mT.unsqueeze(-3)
        total = total + through.square().sum((-3, -2, -1))
    return 2 * loss_scale(problem.reduction, problem.n_measurements) * total
