"""One completion problem at a depth, a start and a number of observations of one's choice."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from dmf_utils.factorization.initialization import gaussian
from dmf_utils.factorization.norms import effective_rank, nuclear_norm, singular_values
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.trajectory import Record, Status, Trajectory
from dmf_utils.plotting import TRUTH, depth_mark, panels, singular_value_paths
from dmf_utils.problems.completion import MatrixCompletion

if TYPE_CHECKING:
    from ipywidgets import VBox

__all__ = ["Exploration", "completion_run", "exploration", "explore"]

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
        problem,
        depth,
        start,
        until_loss,
        record=record,
        settings=Settings(tolerance=1e-4, max_steps=max_steps),
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


MOST_STEPS = 300  # of a run of `explore`: with more, its panel would seem to hang


def exploration(found: Exploration) -> Figure:
    """A run of `completion_run`: its singular values, and its error, over time.

    Parameters
    ----------
    found : Exploration
    """
    figure, (left, right) = panels(1, 2)
    singular_value_paths(found.run, left)
    for value in found.truth[: found.run.singular_values.shape[1]]:
        left.axhline(value, color=TRUTH.color, linestyle=":", linewidth=0.8, zorder=0)
    mark = depth_mark(found.depth)
    right.plot(found.run.times, found.run.measured["error"], color=mark.color)
    right.set(xlabel="time $t$", ylabel="error (mean square)", yscale="log")
    for ax in (left, right):
        ax.set_xlim(0, found.run.time)
    return figure


def explore(n: int = 40, rank: int = 2, seed: int = 0) -> VBox:
    """A panel for JupyterLab: depth, start and observations; error and singular values follow.

    Parameters
    ----------
    n, rank, seed : int
        As of `completion_run`, which computes what the panel shows.

    Returns
    -------
    ipywidgets.VBox
        Shows itself as the last value of a cell. Its sliders carry names, and its numbers stand in
        a line of text.
    """
    import ipywidgets as widgets
    import matplotlib.pyplot as plt

    freedom = rank * (2 * n - rank)
    wide = {"style": {"description_width": "9em"}, "layout": {"width": "34em"}}
    depth = widgets.IntSlider(value=3, min=1, max=4, description="depth N", **wide)
    start = widgets.FloatLogSlider(
        value=1e-3,
        min=-4,
        max=0,
        step=0.5,
        description="start ‖W(0)‖",
        readout_format=".0e",
        **wide,
    )
    observed = widgets.IntSlider(
        value=min(2 * freedom, n * n),
        min=min(3 * freedom // 2, n * n),  # with fewer, deep runs take minutes
        max=n * n,
        step=max(1, freedom // 20),
        description="observed entries",
        **wide,
    )
    picture, numbers = widgets.Image(format="png"), widgets.HTML()

    def show(change: object = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the line of text says it
            limits = {"seed": seed, "max_steps": MOST_STEPS}
            found = completion_run(
                depth.value, start.value, observed.value, n=n, rank=rank, **limits
            )
        figure = exploration(found)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=100)
        plt.close(figure)  # else the cell would show it a second time
        picture.value = content.getvalue()
        is_fitted = found.run.status is Status.reached
        numbers.value = (
            f"error {found.error:.2e}, effective rank {found.effective_rank:.2f} (ground truth: "
            f"rank {rank}), {found.run.n_gradients} gradients"
            + ("" if is_fitted else f"; not yet fitted, given up after {MOST_STEPS} steps")
        )

    for slider in (depth, start, observed):
        slider.observe(show, names="value")
    show()
    return widgets.VBox([depth, start, observed, numbers, picture])
