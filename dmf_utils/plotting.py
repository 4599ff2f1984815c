"""From a table or a `Trajectory` to matplotlib axes; the one module that imports matplotlib.

Depths keep one colour, one marker and one line style throughout the book. The colours are those of
Okabe and Ito, told apart by colour-blind readers; markers and styles tell them apart in print.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from dmf_utils.exploring import Exploration, completion_run
from dmf_utils.trajectory import Status, Trajectory

if TYPE_CHECKING:
    from ipywidgets import VBox

__all__ = [
    "Mark",
    "depth_mark",
    "exploration",
    "explore",
    "legend",
    "level",
    "panels",
    "singular_value_paths",
    "spread_lines",
]


@dataclass(frozen=True)
class Mark:
    """How one series is drawn."""

    color: str
    marker: str
    linestyle: str | tuple[int, tuple[float, ...]]


_DEPTHS = {
    1: Mark("#666666", "v", (0, (1, 1))),
    2: Mark("#D55E00", "o", "-"),
    3: Mark("#0072B2", "s", "--"),
    4: Mark("#009E73", "^", "-."),
    5: Mark("#CC79A7", "D", ":"),
    6: Mark("#5C4400", "P", (0, (5, 1, 1, 1, 1, 1))),
}
TRUTH = Mark("#222222", "", (0, (4, 2)))
MINIMUM = Mark("#7A4FA3", "", "-")
MOST_STEPS = 300  # of a run of `explore`: with more, its panel would seem to hang

_STYLE = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def depth_mark(depth: int) -> Mark:
    """Colour, marker and line style of a depth, the same in every figure.

    Raises
    ------
    ValueError
        For a depth that has none.
    """
    if depth not in _DEPTHS:
        raise ValueError(f"depth must be one of {sorted(_DEPTHS)} to be drawn, got {depth!r}")
    return _DEPTHS[depth]


def panels(
    rows: int = 1, columns: int = 1, height: float = 2.9, width: float = 8.0, **subplots: object
) -> tuple[Figure, np.ndarray]:
    """A figure of equal panels in the book's style.

    Parameters
    ----------
    rows, columns : int
    height : float
        Of one row, in inches.
    width : float
        Of the figure, in inches.
    **subplots
        Passed to ``Figure.subplots``, for instance ``sharey=True``.

    Returns
    -------
    (Figure, array of Axes of shape (rows, columns))
        The axes are a flat array where there is one row.
    """
    with sns.axes_style("ticks"), mpl.rc_context(_STYLE):
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(width, height * rows))
        axes = figure.subplots(rows, columns, squeeze=False, **subplots)
        is_interactive = mpl.is_interactive()
    # In a notebook the session's first figure switches this on, which the context then takes back:
    # no later cell would show its figure.
    mpl.interactive(is_interactive)
    for letter, ax in zip("abcdefghijklmnop", axes.flat, strict=False):
        if axes.size > 1:  # panels are named in captions, so they carry their letters
            ax.text(-0.02, 1.04, f"({letter})", transform=ax.transAxes, ha="right", va="bottom")
    return figure, axes[0] if rows == 1 else axes


def spread_lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    ax: Axes,
    *,
    by: str = "depth",
    marks: dict[object, Mark] | None = None,
    log: str = "xy",
    points: bool = False,
) -> None:
    """Lines of the median over instances, with a band that holds the middle half.

    Parameters
    ----------
    table : DataFrame
        One row a run, as `sweep` returns it.
    x, y : str
        Columns.
    ax : Axes
    by : str
        Column with one line for each of its values.
    marks : dict, optional
        How each of these is drawn, by default as depths.
    log : str
        Which axes are logarithmic: ``"xy"``, ``"x"``, ``"y"`` or ``""``.
    points : bool
        Whether to draw every run as a small point, so that none is hidden by the median.
    """
    for value, group in table.groupby(by):
        mark = marks[value] if marks else depth_mark(int(value))
        over = group.groupby(x)[y]
        middle, low, high = over.median(), over.quantile(0.25), over.quantile(0.75)
        ax.fill_between(middle.index, low, high, color=mark.color, alpha=0.18, linewidth=0)
        if points:
            ax.plot(group[x], group[y], ".", color=mark.color, alpha=0.5, markersize=3)
        ax.plot(
            middle.index,
            middle,
            color=mark.color,
            marker=mark.marker,
            linestyle=mark.linestyle,
            label=value if isinstance(value, str) else f"{by} {value:g}",
        )
    for axis in log:
        getattr(ax, f"set_{axis}scale")("log")
        # Decades are named, and only they.
        named = getattr(ax, f"{axis}axis")
        named.set_major_locator(LogLocator(numticks=12))
        named.set_minor_formatter(NullFormatter())


def level(values: Sequence[float] | pd.Series, ax: Axes, label: str, mark: Mark) -> None:
    """A horizontal line at the median of `values`, with a band that holds the middle half."""
    values = np.asarray(values, dtype=float)
    low, high = np.quantile(values, [0.25, 0.75])
    ax.axhspan(low, high, color=mark.color, alpha=0.12, linewidth=0)
    ax.axhline(np.median(values), color=mark.color, linestyle=mark.linestyle, label=label)


def legend(figure: Figure, axes: Sequence[Axes], columns: int = 6) -> None:
    """One legend above the panels for all that is drawn in them, each name once."""
    handles: dict[str, Line2D] = {}
    for ax in np.ravel(axes):
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=columns, frameon=False
    )


def singular_value_paths(run: Trajectory, ax: Axes, count: int | None = None) -> None:
    """Leading singular values over time, the largest darkest.

    Parameters
    ----------
    run : Trajectory
        With recorded singular values.
    ax : Axes
    count : int, optional
        How many to draw, default all recorded.

    Raises
    ------
    ValueError
        If none were recorded.
    """
    if run.singular_values.numel() == 0:
        raise ValueError(
            "run has no singular values; give its flow record=Record(times, singular_values=10)"
        )
    paths = run.singular_values[:, :count].cpu().numpy()
    shades = sns.color_palette("viridis", paths.shape[1])
    for r in range(paths.shape[1]):
        ax.plot(run.times.cpu(), paths[:, r], color=shades[r], linewidth=1.3)
    ax.set(xlabel="time $t$", ylabel=r"singular values $\sigma_r$")


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
