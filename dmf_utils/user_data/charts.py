"""Charts of the report on a matrix of one's own, by matplotlib, each an SVG image in the page."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from dmf_utils.user_data.completion import Completion

__all__ = ["Chart", "charts"]

_WIDTH = 4.6  # inches
_MOST_VALUES, _MOST_COLUMNS, _MOST_BLOCKS, _MOST_LETTERS = 40, 15, 240, 24
_STYLE = {"font.size": 9, "svg.fonttype": "path", "svg.hashsalt": "dmf", "axes.grid": False}


@dataclass(frozen=True)
class Chart:
    """An image, as a data URI, with what to look for and what it shows in words."""

    source: str
    caption: str
    alt: str


def charts(found: Completion) -> list[Chart]:
    """All charts that there is something to show in."""
    return list(_made(found))


def _made(found: Completion) -> Iterator[Chart]:
    yield _chart(
        lambda axes: _errors(axes, found),
        "Root mean square error on the test entries, with its standard error.",
        "Test error of each method, as in the table.",
    )
    if found.paths:
        yield _chart(
            lambda axes: _paths(axes, found),
            "Along each flow, from left to right; the circle is where it was stopped. A line that "
            "turns up has begun to learn what does not help on other entries.",
            "Validation error against residual, a line for each flow.",
        )
    yield _chart(
        lambda axes: _observed(axes, found),
        "What is observed: the darker, the larger the share of observed entries.",
        f"{found.data.n_observed} observed entries of a {' × '.join(map(str, found.data.shape))} "
        "matrix.",
    )
    if not found.determined.mask.all():
        yield _chart(
            lambda axes: _components(axes, found),
            "What is determined: rows and columns in the order of their groups. Dark, observed; "
            "light, determined by the observed ones; hatched red, determined by nothing.",
            f"{found.determined.n_components} groups of rows and columns that share entries.",
        )
    yield _chart(
        lambda axes: _columns(axes, found),
        "Error by column, those with the largest share of the total: the bar is the test error, "
        "the line the deviation from the column's mean.",
        "Test error of the columns that count most, as in the table.",
    )
    yield _chart(
        lambda axes: _singular_values(axes, found),
        "Singular values of the matrix of low rank that completes.",
        "Falling singular values.",
    )


def _chart(draw: Callable[[Axes], None], caption: str, alt: str) -> Chart:
    with rc_context(_STYLE), warnings.catch_warnings():
        # A name may have signs that the font lacks.
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(_WIDTH, 0.66 * _WIDTH), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    source = base64.b64encode(file.getvalue()).decode()
    return Chart(f"data:image/svg+xml;base64,{source}", caption, alt)


def _named(axes: Axes, names: list[str]) -> None:
    """Names as labels of the vertical axis, as text and nothing else."""
    short = [n if len(n) <= _MOST_LETTERS else n[: _MOST_LETTERS - 1] + "…" for n in names]
    axes.set_yticks(range(len(short)), [" ".join(n.split()) for n in short])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.invert_yaxis()


def _errors(axes: Axes, found: Completion) -> None:
    table = found.table
    for k, (error, spread) in enumerate(zip(table.error, table.spread, strict=True)):
        color = "#b34700" if table.index[k] == found.method else "#0063a0"
        axes.errorbar(float(error), k, xerr=float(spread), fmt="o", color=color, markersize=4)
    _named(axes, list(table.index))
    axes.set(xlim=(0, None), xlabel="test error")


def _paths(axes: Axes, found: Completion) -> None:
    for k, (name, path) in enumerate(found.paths.items()):
        (line,) = axes.plot(path.residual, path.error, linestyle=("-", "--", ":", "-.")[k % 4])
        line.set_label(name)
        best = path.loc[path.error.idxmin()]
        axes.plot(best.residual, best.error, "o", color=line.get_color(), markersize=4)
    axes.set(xscale="log", xlabel="residual on fitted entries", ylabel="validation error")
    axes.invert_xaxis()
    axes.legend(frameon=False, fontsize=8)


def _blocks(
    i: np.ndarray, j: np.ndarray, weights: np.ndarray | None, shape: tuple[int, int]
) -> np.ndarray:
    """Sums over blocks, as few that they can be seen."""
    counts = [min(size, _MOST_BLOCKS) for size in shape]
    places = [x * n // size for x, n, size in zip((i, j), counts, shape, strict=True)]
    flat = np.bincount(places[0] * counts[1] + places[1], weights, minlength=counts[0] * counts[1])
    return flat.reshape(counts)


def _sizes(shape: tuple[int, int]) -> np.ndarray:
    rows, columns = (
        np.bincount(np.arange(n) * min(n, _MOST_BLOCKS) // n).astype(float) for n in shape
    )
    return np.outer(rows, columns)


def _observed(axes: Axes, found: Completion) -> None:
    data = found.data
    share = _blocks(data.row_index, data.column_index, None, data.shape) / _sizes(data.shape)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=share.max(), aspect="auto")
    axes.set(xlabel=f"columns (of {data.shape[1]})", ylabel=f"rows (of {data.shape[0]})")
    axes.set(xticks=[], yticks=[])


def _components(axes: Axes, found: Completion) -> None:
    data, determined = found.data, found.determined
    order = [
        np.argsort(np.where(x < 0, x.max() + 1, x), kind="stable")
        for x in (determined.rows, determined.columns)
    ]
    place = [np.argsort(x, kind="stable") for x in order]
    kinds = determined.mask[np.ix_(*order)].astype(float)
    kinds[place[0][data.row_index], place[1][data.column_index]] = 2.0
    rows, columns = (
        np.linspace(0, n - 1, min(n, 2 * _MOST_BLOCKS)).astype(int) for n in data.shape
    )
    shown = kinds[np.ix_(rows, columns)]
    colors = ListedColormap(["#e08070", "#d6e6f2", "#0a3a66"])
    axes.imshow(shown, cmap=colors, vmin=0, vmax=2, aspect="auto", interpolation="nearest")
    axes.set(xlabel="columns by group", ylabel="rows by group", xticks=[], yticks=[])


def _columns(axes: Axes, found: Completion) -> None:
    top = found.column_errors.head(_MOST_COLUMNS)
    # Columns may have units of their own: then a ratio is shown.
    unit = top.deviation.where(top.deviation > 0, 1.0) if found.scale == "columns" else 1.0
    axes.barh(range(len(top)), top.error / unit, color="#7fb2d9")
    axes.plot(top.deviation / unit, range(len(top)), "|", color="#b34700", markersize=9)
    _named(axes, list(top.index))
    axes.set_xlabel("error over deviation" if found.scale == "columns" else "test error")


def _singular_values(axes: Axes, found: Completion) -> None:
    values = found.singular_values[:_MOST_VALUES]
    axes.plot(range(1, len(values) + 1), values, "o-", markersize=3, linewidth=0.8)
    axes.set(xlabel="number", ylabel="singular value", ylim=(0, None))
    if not math.isfinite(float(values.max(initial=0.0))):
        axes.set(ylim=(0, 1))
