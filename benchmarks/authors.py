"""The authors' way to train, written plainly: a PyTorch module, autograd, their normalized step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_utils import MatrixCompletion


class DeepFactorization(torch.nn.Module):
    """``W = W_N ... W_1`` with the factors as parameters, in single precision as theirs are."""

    def __init__(self, factors: Sequence[Tensor]) -> None:
        super().__init__()
        self.factors = torch.nn.ParameterList(
            torch.nn.Parameter(W.to(torch.float32, copy=True)) for W in factors
        )

    def forward(self) -> Tensor:
        product = self.factors[0]
        for W in self.factors[1:]:
            product = W @ product
        return product


@dataclass(frozen=True)
class Trained:
    """How a training went; `seconds` is wall time, on one thread."""

    product: Tensor
    loss: float
    n_steps: int
    seconds: float


def train(
    problem: MatrixCompletion,
    factors: Sequence[Tensor],
    learning_rate: float = 1e-3,
    until_loss: float = 1e-6,
    max_steps: int = 1_000_000,
) -> Trained:
    """Full-batch training until the mean squared residual is `until_loss`."""
    model = DeepFactorization(factors)
    parameters = list(model.parameters())
    rows, columns = problem.mask.nonzero(as_tuple=True)
    values = problem.values[rows, columns].to(torch.float32)
    average = 0.0
    begin = time.perf_counter()
    for step in range(1, max_steps + 1):
        loss = (model()[rows, columns] - values).square().mean()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            average = 0.99 * average + 0.01 * float(sum(g.square().sum() for g in gradients))
            rate = learning_rate / ((average / (1 - 0.99**step)) ** 0.5 + 1e-4)
            for W, g in zip(parameters, gradients, strict=True):
                W.sub_(g, alpha=rate)
        if loss.item() <= until_loss:
            break
    seconds = time.perf_counter() - begin
    return Trained(model().detach().to(torch.float64), loss.item(), step, seconds)
