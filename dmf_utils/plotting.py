"""From a table or a `Trajectory` to matplotlib axes; the one module that imports matplotlib.

Depths keep one colour, one marker and one line style throughout the book. The colours are those of
Okabe and Ito, told apart by colour-blind readers; markers and styles tell them apart in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from dmf_utils.flow.trajectory import Trajectory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Mark",
    "depth_mark",
    "legend",
    "level",
    "matrix_images",
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

_STYLE = {
    **dict.fromkeys(["text.color", "axes.edgecolor", "axes.labelcolor"], ".15"),
    **dict.fromkeys(["xtick.color", "ytick.color"], ".15"),
    "axes.axisbelow": True,
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
    rows: int = 1,
    columns: int = 1,
    height: float = 2.9,
    width: float = 8.0,
    letters: bool = True,
    **subplots: object,
) -> tuple[Figure, np.ndarray]:
    """A figure of equal panels in the book's style.

    Parameters
    ----------
    rows, columns : int
    height : float
        Of one row, in inches.
    width : float
        Of the figure, in inches.
    letters : bool
        Whether panels carry letters, by which a caption names them.
    **subplots
        Passed to ``Figure.subplots``, for instance ``sharey=True``.

    Returns
    -------
    (Figure, array of Axes of shape (rows, columns))
        The axes are a flat array where there is one row.
    """
    with mpl.rc_context(_STYLE):
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(width, height * rows))
        axes = figure.subplots(rows, columns, squeeze=False, **subplots)
        is_interactive = mpl.is_interactive()
    # In a notebook the session's first figure switches this on, which the context then takes back:
    # no later cell would show its figure.
    mpl.interactive(is_interactive)
    for letter, ax in zip("abcdefghijklmnop", axes.flat, strict=False):
        if letters and axes.size > 1:
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
        named.set_major_locator(LogLocator(numticks=9))
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


def matrix_images(rows: dict[str, Sequence[Tensor]], names: Sequence[str]) -> Figure:
    """Matrices as images on one colour scale: blue below zero, white at zero, orange above.

    Parameters
    ----------
    rows : dict
        The name of each row, and its matrices, one for each of `names`.
    names : sequence of str
        What the columns are called.

    Raises
    ------
    ValueError
        If a row has not one matrix for each name.
    """
    for name, matrices in rows.items():
        if len(matrices) != len(names):
            raise ValueError(
                f"rows[{name!r}] has {len(matrices)} matrices for {len(names)} names; give one each"
            )
    most = max(float(W.abs().max()) for matrices in rows.values() for W in matrices)
    colors = LinearSegmentedColormap.from_list("signed", ["#005493", "#ffffff", "#c45400"])
    size = {"height": 8.0 / len(names), "letters": False}
    figure, axes = panels(len(rows), len(names), **size)
    for line, (name, matrices) in zip(np.atleast_2d(axes), rows.items(), strict=True):
        for ax, W, column in zip(line, matrices, names, strict=True):
            ax.imshow(W.cpu(), cmap=colors, vmin=-0.8 * most, vmax=0.8 * most)
            ax.grid(visible=False)
            ax.set(xticks=[], yticks=[])
            for side in ax.spines.values():
                side.set(visible=True, color="#999999", linewidth=0.6)
            if name == next(iter(rows)):
                ax.set_title(column, fontsize=9.5)
        line[0].set_ylabel(name)
    return figure


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
    shades = mpl.colormaps["viridis"](np.linspace(0, 1, paths.shape[1] + 2)[1:-1])
    for r in range(paths.shape[1]):
        ax.plot(run.times.cpu(), paths[:, r], color=shades[r], linewidth=1.3)
    ax.set(xlabel="time $t$", ylabel=r"singular values $\sigma_r$")
