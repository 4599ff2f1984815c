r"""Other solvers of :math:`\dot W_j = -\partial\varphi / \partial W_j`, given all that helps them.

Each gets our closed-form gradient and the time at which the flow ends, in double precision, and one
thread. What it gives back is the product matrix at that time and the gradients that it took.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp

from dmf_utils import MatrixCompletion, product_matrix
from dmf_utils.flow.batch import prepare

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
import diffrax
import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)

__all__ = ["SOLVERS", "Solver"]

Solver = Callable[[float], tuple[torch.Tensor, int]]


@dataclass(frozen=True)
class Task:
    """A completion problem, the factors to start from, and the time to reach."""

    problem: MatrixCompletion
    factors: Sequence[torch.Tensor]
    time: float

    def flow_of_states(self) -> Callable[[float, np.ndarray], np.ndarray]:
        """The right-hand side for flat states, with the gradient that the engine itself uses."""
        batch, states, _ = prepare(
            self.problem, len(self.factors), list(self.factors), None, "cpu", torch.float64
        )
        out = torch.empty_like(states)

        def slope(_: float, state: np.ndarray) -> np.ndarray:
            batch.gradient(torch.from_numpy(state)[None], out=out)
            return -out[0].numpy()

        return slope

    def product(self, state: np.ndarray) -> torch.Tensor:
        """The product matrix of a flat state."""
        sizes = [W.numel() for W in self.factors]
        parts = torch.from_numpy(np.array(state)).split(sizes)
        shaped = [part.reshape(W.shape) for part, W in zip(parts, self.factors, strict=True)]
        return product_matrix(shaped)


def scipy_rk45(task: Task) -> Solver:
    """SciPy's RK45 (Dormand–Prince)."""
    start = torch.cat([W.reshape(-1) for W in task.factors]).numpy()

    def solve(tolerance: float) -> tuple[torch.Tensor, int]:
        found = solve_ivp(
            task.flow_of_states(), (0.0, task.time), start, rtol=tolerance, atol=1e-3 * tolerance
        )
        return task.product(found.y[:, -1]), found.nfev

    return solve


def diffrax_tsit5(task: Task) -> Solver:
    """Diffrax's Tsit5 with its PID controller, compiled before it is timed."""
    truth = jnp.asarray(task.problem.values.numpy())
    mask = jnp.asarray(task.problem.mask.numpy().astype(float))
    count = float(mask.sum())

    def slope(_: float, factors: tuple, __: None) -> tuple:
        prefixes = [factors[0]]
        for W in factors[1:]:
            prefixes.append(W @ prefixes[-1])
        back = -2 / count * mask * (prefixes[-1] - truth)
        slopes = []
        for j in range(len(factors) - 1, 0, -1):
            slopes.append(back @ prefixes[j - 1].T)
            back = factors[j].T @ back
        return (back, *reversed(slopes))

    @jax.jit
    def run(factors: tuple, tolerance: float) -> tuple:
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(slope),
            diffrax.Tsit5(),
            t0=0.0,
            t1=task.time,
            dt0=None,
            y0=factors,
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=1e-3 * tolerance),
            max_steps=1_000_000,
            adjoint=diffrax.DirectAdjoint(),
        )
        return found.ys, found.stats["num_steps"]

    start = tuple(jnp.asarray(W.numpy()) for W in task.factors)

    def solve(tolerance: float) -> tuple[torch.Tensor, int]:
        ends, steps = run(start, tolerance)
        factors = [torch.from_numpy(np.array(W[-1])) for W in ends]
        return product_matrix(factors), 6 * int(steps)

    return solve


SOLVERS: dict[str, Callable[[Task], Solver]] = {
    "scipy RK45": scipy_rk45,
    "diffrax Tsit5": diffrax_tsit5,
}
