r"""Other optimizers than gradient descent, on the same factorizations and problems.

Each is PyTorch's own, fed with the exact gradients of :math:`\varphi(W_1, \dots, W_N) =
\ell(W_N \cdots W_1)`; a batch of factorizations is stepped together, and stochastic gradients see
a random part of the observed entries at each step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dmf_utils._support import checks
from dmf_utils._support.threads import few_threads
from dmf_utils.factorization.initialization import Start
from dmf_utils.factorization.product import factor_gradients, product_matrix
from dmf_utils.flow.batch import Factorizations
from dmf_utils.flow.descent import beyond_stability, warn_beyond_stability
from dmf_utils.problems.completion import MatrixCompletion

__all__ = ["OptimizerRun", "train"]

Name = Literal["sgd", "adam"]


@dataclass(frozen=True)
class OptimizerRun:
    """Where an optimizer led one factorization."""

    product: Tensor
    """(d, d'): product matrix at the end."""
    loss: float
    """Loss over all observed entries at the end, without the penalty of weight decay."""
    n_steps: int
    """Steps made."""
    reached: bool
    """Whether the asked loss was reached."""
    detail: str = ""
    """By how much the step is beyond stability at the end, for full batches; empty if it is not."""


def train(
    problems: Sequence[MatrixCompletion],
    depth: int,
    starts: Sequence[Start],
    optimizer: Name = "sgd",
    *,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    batch_share: float = 1.0,
    batch_seed: int = 0,
    until_loss: float = 1e-6,
    max_steps: int = 50_000,
    look_every: int = 10,
) -> list[OptimizerRun]:
    r"""Train a batch of factorizations on completion problems of one shape.

    With :math:`g_k` the gradient over the entries that are seen at step :math:`k`, for "sgd"

    .. math::
        v_k = \mu v_{k-1} + g_k + \kappa W_j, \qquad W_j \leftarrow W_j - \eta\, v_k ,

    with learning rate :math:`\eta`, momentum :math:`\mu` and weight decay :math:`\kappa`, so that
    the penalty is :math:`\frac{\kappa}{2} \sum_j \|W_j\|_F^2`. "adam" divides by a running root
    mean square of each entry's gradient; there too, the penalty is part of the gradient.

    Parameters
    ----------
    problems : sequence of B MatrixCompletion
        All of one shape.
    depth : int
        Number of factors N.
    starts : sequence of B Start
        One for each problem.
    optimizer : {"sgd", "adam"}
        The second with PyTorch's default averages, 0.9 and 0.999.
    learning_rate : float
    momentum : float
        From 0 to below 1, for "sgd".
    weight_decay : float
        At least 0.
    batch_share : float
        Share of the observed entries that a step sees, drawn anew each time, above 0 to 1. The
        gradient is divided by the share, so that its expectation is the full gradient.
    batch_seed : int
        Seed of these draws.
    until_loss : float
        Loss over all observed entries at which a run is frozen.
    max_steps : int
        Steps after which all runs end.
    look_every : int
        Steps between two looks at the loss.

    Returns
    -------
    list of B OptimizerRun
        A run that diverged has a loss that is not finite.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range or problems of different shapes, before any computing.

    Warns
    -----
    RuntimeWarning
        If "sgd" reaches the loss with a step beyond stability, see `beyond_stability`. "adam" is
        often there, as what it divides by falls with the gradient: `OptimizerRun.detail` says so,
        without a warning. Of stochastic gradients nothing like it is said.

    References
    ----------
    ``torch.optim.SGD`` and ``torch.optim.Adam``; D. P. Kingma, J. Ba, *Adam*, ICLR 2015.
    """
    _check_batch(optimizer, problems, starts, momentum)
    depth = checks.whole_number(depth, "depth", 1)
    rate = checks.positive(learning_rate, "learning_rate")
    momentum = checks.number(momentum, "momentum", lambda x: 0 <= x < 1, "from 0 to below 1")
    decay = checks.number(weight_decay, "weight_decay", lambda x: x >= 0, "at least 0")
    share = checks.number(batch_share, "batch_share", lambda x: 0 < x <= 1, "above 0, at most 1")
    until_loss = checks.positive(until_loss, "until_loss")
    max_steps = checks.whole_number(max_steps, "max_steps", 1)
    look_every = checks.whole_number(look_every, "look_every", 1)
    seed = checks.whole_number(batch_seed, "batch_seed", 0)
    draws = None if share == 1 else torch.Generator().manual_seed(seed)

    factors = _stacked_factors(problems, depth, starts)
    joined = problems[0].stacked(problems)
    batch = Factorizations(joined, [tuple(W.shape[1:]) for W in factors], len(problems))
    step = _optimizer(optimizer, factors, rate, momentum, decay)
    ends: dict[int, OptimizerRun] = {}
    with few_threads(max(problems[0].shape)):
        for k in range(max_steps + 1):
            values = [W.detach() for W in factors]
            W = product_matrix(values)
            losses, gradient = joined.loss_and_gradient(W)
            if k % look_every == 0 or k == max_steps:
                for b, loss in enumerate(losses.tolist()):
                    over = loss <= until_loss or not math.isfinite(loss) or k == max_steps
                    if b not in ends and over:
                        says = math.isfinite(loss) and draws is None
                        detail = _detail(batch, step, b) if says else ""
                        ends[b] = OptimizerRun(W[b].clone(), loss, k, loss <= until_loss, detail)
                if len(ends) == len(problems):
                    break
            if draws is not None:
                drawn = torch.rand(gradient.shape, generator=draws, dtype=gradient.dtype) < share
                gradient = gradient * drawn / share
            for factor, slope in zip(factors, factor_gradients(values, gradient), strict=True):
                factor.grad = slope
            step.step()
    runs = [ends[b] for b in range(len(problems))]
    if optimizer == "sgd":
        warn_beyond_stability([run.detail for run in runs if run.reached])
    return runs


def _stacked_factors(
    problems: Sequence[MatrixCompletion], depth: int, starts: Sequence[Start]
) -> list[Tensor]:
    made = [start.factors(tuple(problems[0].shape), depth) for start in starts]
    return [torch.stack([one[j] for one in made]).requires_grad_() for j in range(depth)]


def _optimizer(
    name: Name, factors: list[Tensor], rate: float, momentum: float, decay: float
) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.Adam(factors, lr=rate, weight_decay=decay)
    return torch.optim.SGD(factors, lr=rate, momentum=momentum, weight_decay=decay)


def _check_batch(
    optimizer: str,
    problems: Sequence[MatrixCompletion],
    starts: Sequence[Start],
    momentum: float,
) -> None:
    if optimizer not in ("sgd", "adam"):
        raise ValueError(f'optimizer must be "sgd" or "adam", got {optimizer!r}')
    if len(problems) == 0 or len(problems) != len(starts):
        raise ValueError(
            f"problems and starts must have one length, got {len(problems)} and {len(starts)}"
        )
    shapes = {tuple(problem.shape) for problem in problems}
    if len(shapes) > 1:
        raise ValueError(f"problems must be of one shape, got {sorted(shapes)}")
    if optimizer == "adam" and momentum:
        raise ValueError(f'momentum is for "sgd" only, "adam" has its own; got {momentum}')


def _detail(batch: Factorizations, optimizer: torch.optim.Optimizer, b: int) -> str:
    """What `beyond_stability` says of member `b` of the batch."""
    (group,) = optimizer.param_groups
    factors = group["params"]
    momentum, preconditioner = group.get("momentum", 0.0), None
    if isinstance(optimizer, torch.optim.Adam):
        momentum, of_square = group["betas"]
        averages = [optimizer.state[W] for W in factors]
        if not all(averages):  # no step has been made
            return ""
        sizes = [of["exp_avg_sq"][b] / (1 - of_square ** float(of["step"])) for of in averages]
        preconditioner = _flat([size.sqrt() + group["eps"] for size in sizes])
    alone, state = batch.take([b]), _flat([W.detach()[b] for W in factors])
    gradient = torch.empty_like(state)
    alone.gradient(state, out=gradient)
    rate, decay = group["lr"], group["weight_decay"]
    return beyond_stability(alone, state, gradient, rate, momentum, decay, preconditioner)


def _flat(matrices: Sequence[Tensor]) -> Tensor:
    """One state, shape (1, P)."""
    return torch.cat([W.reshape(-1) for W in matrices])[None]
