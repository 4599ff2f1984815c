"""One completion problem at a depth, a start and a number of observations of one's choice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dmf_utils.factorization import gaussian
from dmf_utils.flow import gradient_flow
from dmf_utils.norms import effective_rank, nuclear_norm, singular_values
from dmf_utils.problems import MatrixCompletion
from dmf_utils.trajectory import Record, Trajectory

__all__ = ["Exploration", "completion_run"]

_TIMES = np.geomspace(1, 1e9, 900)  # times n²/1000: from before the first motion to any end


@dataclass(frozen=True)
class Exploration:
    r"""What one run of matrix completion ends with, and how it came there.

    Attributes
    ----------
    depth, n_observed : int
    start_norm : float
        :math:`\|W(0)\|_F`.
    error : float
        Mean squared error over all entries.
    effective_rank, nuclear_norm : float
        Of the product matrix at the end.
    truth : Tensor, shape (n,)
        Singular values of the ground truth.
    run : Trajectory
        With recorded singular values and ``measured["error"]``.
    """

    depth: int
    start_norm: float
    n_observed: int
    error: float
    effective_rank: float
    nuclear_norm: float
    truth: Tensor
    run: Trajectory


def completion_run(
    depth: int = 3,
    start_norm: float = 1e-3,
    n_observed: int = 400,
    *,
    n: int = 40,
    rank: int = 2,
    seed: int = 0,
    until_loss: float = 1e-4,
    max_steps: int = 100_000,
) -> Exploration:
    r"""Complete a random matrix by gradient flow, and record the way.

    The ground truth depends on `n`, `rank` and `seed` only, and the observed entries of a smaller
    `n_observed` are among those of a larger one: so runs with other choices can be compared.

    Parameters
    ----------
    depth : int
        Number of factors N.
    start_norm : float
        :math:`\|W(0)\|_F` of a Gaussian start.
    n_observed : int
        Number m of observed entries, at most n².
    n, rank : int
        Rows and columns, and rank of the ground truth.
    seed : int
        Of the ground truth, of the observed places, and of the start.
    until_loss : float
        Mean squared residual at which the run ends.
    max_steps : int
        Steps after which it is given up; far too few observations at large depth need many.

    Returns
    -------
    Exploration

    Warns
    -----
    RuntimeWarning
        If the loss is not reached; ``run.status`` says why.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, before any computing.
    """
    problem = MatrixCompletion.random((n, n), rank, n_observed, seed)
    record = Record(
        _TIMES * (n * n / 1000),
        singular_values=min(n, 2 * rank + 4),
        measures={"error": problem.error},
    )
    start = gaussian(start_norm, seed)
    run = gradient_flow(
        problem, depth, start, until_loss, tolerance=1e-4, record=record, max_steps=max_steps
    )
    return Exploration(
        depth,
        start_norm,
        n_observed,
        float(problem.error(run.product)),
        float(effective_rank(run.product)),
        float(nuclear_norm(run.product)),
        singular_values(problem.ground_truth),
        run,
    )
