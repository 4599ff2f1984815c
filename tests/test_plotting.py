"""Figures: what is drawn is the numbers, and one depth is told from another."""

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb

from dmf_utils import plotting
from dmf_utils.factorization.initialization import gaussian
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.trajectory import Record
from dmf_utils.problems.completion import MatrixCompletion

mpl.use("agg")
DEPTHS = range(1, 7)
# Viénot, Brettel, Mollon (1999): what a protanope and a deuteranope see of linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanope": np.array(
        [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]
    ),
    "deuteranope": np.array(
        [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]
    ),
}


@pytest.fixture(autouse=True)
def closed():
    """No figure outlives its test."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")
    assert plt.get_fignums() == []


@pytest.fixture
def ax():
    return plotting.panels()[1][0]


@pytest.fixture
def table():
    """Thirteen instances at two starts and two depths, none of them symmetric about its median."""
    rng = np.random.default_rng(0)
    rows = [
        {"depth": depth, "norm": norm, "error": float(rng.lognormal(-depth, 2))}
        for depth in (2, 3)
        for norm in (1e-3, 1e-2)
        for _ in range(13)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


def linear(color):
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lightness_and_colour(rgb):
    """CIE L*a*b* of linear sRGB, D65."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(np.clip(to_xyz @ rgb, 1e-3, None) / (0.9505, 1.0, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# --- marks ----------------------------------------------------------------------------------------


def test_depths_differ_in_each_of_colour_marker_and_line():
    marks = [plotting.depth_mark(depth) for depth in DEPTHS]
    for kind in ("color", "marker", "linestyle"):
        assert len({getattr(mark, kind) for mark in marks}) == len(marks)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("chosen", [(2, 3, 4), DEPTHS], ids=["the paper's", "all"])
def test_depths_are_told_apart_by_colour(vision, chosen):
    seen = {
        d: lightness_and_colour(VISIONS[vision] @ linear(plotting.depth_mark(d).color))
        for d in chosen
    }
    # 2.3 is just noticeable, 15 is seen at a glance; those always drawn together are farther apart.
    least = min(np.linalg.norm(seen[a] - seen[b]) for a, b in combinations(chosen, 2))
    assert least > (35 if len(chosen) == 3 else 15)


@pytest.mark.parametrize("depth", DEPTHS)
def test_colours_stand_out_from_white(depth):
    luminance = linear(plotting.depth_mark(depth).color) @ (0.2126, 0.7152, 0.0722)
    assert 1.05 / (luminance + 0.05) >= 3  # the contrast that is asked of graphics


@pytest.mark.parametrize("depth", [0, 7, "3", None])
def test_a_depth_without_a_mark_is_refused(depth):
    with pytest.raises(ValueError, match=rf"depth must be one of \[1, 2.*got {depth!r}"):
        plotting.depth_mark(depth)


# --- panels ---------------------------------------------------------------------------------------


def test_panels_have_the_asked_shape_and_carry_letters():
    figure, axes = plotting.panels(2, 3, height=2.0, width=7.0, sharey=True)
    assert axes.shape == (2, 3)
    assert figure.get_size_inches().tolist() == [7.0, 4.0]
    assert [ax.texts[0].get_text() for ax in axes.flat] == [f"({c})" for c in "abcdef"]
    axes[0, 0].set_ylim(1, 9)
    assert axes[1, 2].get_ylim() == (1, 9)
    assert plotting.panels(1, 2)[1].shape == (2,)


def test_a_single_panel_carries_no_letter():
    figure, axes = plotting.panels()
    assert axes.shape == (1,)
    assert len(axes[0].texts) == 0
    assert figure.get_size_inches().tolist() == [8.0, 2.9]


@pytest.mark.parametrize("interactive", [False, True])
def test_the_style_stays_within_the_figure(interactive):
    before = dict(mpl.rcParams)
    with mpl.rc_context({"interactive": interactive}):
        plotting.panels(1, 2)
        assert mpl.is_interactive() is interactive
    assert dict(mpl.rcParams) == before


def test_a_session_that_its_first_figure_makes_interactive_stays_so(monkeypatch):
    import matplotlib.pyplot as plt

    figure = plt.figure

    def first(**options):  # as a notebook's
        mpl.interactive(True)
        return figure(**options)

    with mpl.rc_context({"interactive": False}):
        monkeypatch.setattr(plt, "figure", first)
        plotting.panels()
        assert mpl.is_interactive()


# --- lines and bands ------------------------------------------------------------------------------


def drawn_band(ax, k):
    """Lower and upper edge of the k-th band, by x."""
    (path,) = ax.collections[k].get_paths()
    edges = {}
    for x, y in path.vertices:
        low, high = edges.get(x, (y, y))
        edges[x] = (min(low, y), max(high, y))
    return edges


def test_lines_are_medians_and_bands_the_middle_half(table, ax):
    plotting.spread_lines(table, "norm", "error", ax)
    assert len(ax.lines) == len(ax.collections) == 2
    for k, depth in enumerate((2, 3)):
        line, mark = ax.lines[k], plotting.depth_mark(depth)
        assert line.get_label() == f"depth {depth}"
        drawn = (line.get_color(), line.get_marker())
        assert drawn == (mark.color, mark.marker)
        assert line.get_xdata().tolist() == [1e-3, 1e-2]
        for norm, middle in zip(line.get_xdata(), line.get_ydata(), strict=True):
            of_cell = (table.depth == depth) & (table.norm == norm)
            errors = sorted(table[of_cell].error)
            assert middle == errors[6]  # of thirteen
            assert drawn_band(ax, k)[norm] == pytest.approx((errors[3], errors[9]), rel=1e-15)


def test_every_run_is_a_point_where_asked(table, ax):
    plotting.spread_lines(table, "norm", "error", ax, points=True)
    assert len(ax.lines) == 4
    for depth, points in zip((2, 3), ax.lines[::2], strict=True):
        runs = table[table.depth == depth]
        drawn = set(zip(points.get_xdata(), points.get_ydata(), strict=True))
        assert drawn == set(zip(runs.norm, runs.error, strict=True))
        assert points.get_color() == plotting.depth_mark(depth).color
        assert points.get_linestyle() == "None"
    assert ax.get_legend_handles_labels()[1] == ["depth 2", "depth 3"]


def test_line_styles_are_those_of_the_depths(table, ax):
    plotting.spread_lines(table, "norm", "error", ax)
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_axes_are_logarithmic_as_asked(table, ax, log):
    plotting.spread_lines(table, "norm", "error", ax, log=log)
    assert ax.get_xscale() == ("log" if "x" in log else "linear")
    assert ax.get_yscale() == ("log" if "y" in log else "linear")


def test_decades_alone_are_named(table, ax):
    plotting.spread_lines(table, "norm", "error", ax)
    ax.set_ylim(0.9, 6)  # so narrow that matplotlib would name 2, 3, 4, 6
    ax.figure.canvas.draw()
    for axis in (ax.xaxis, ax.yaxis):
        assert {label.get_text() for label in axis.get_ticklabels(minor=True)} <= {""}
        places = np.log10(axis.get_majorticklocs())
        np.testing.assert_allclose(places, places.round(), atol=1e-12)


def test_names_do_not_show_how_a_number_is_stored(table, ax):
    plotting.spread_lines(table.astype({"depth": float}), "norm", "error", ax)
    assert [line.get_label() for line in ax.lines] == ["depth 2", "depth 3"]


def test_other_columns_are_drawn_with_marks_of_their_own(table, ax):
    marks = {"one": plotting.TRUTH, "two": plotting.MINIMUM}
    named = table.assign(way=table.depth.map({2: "two", 3: "one"}))
    plotting.spread_lines(named, "norm", "error", ax, by="way", marks=marks)
    assert [line.get_label() for line in ax.lines] == ["one", "two"]
    assert [line.get_color() for line in ax.lines] == [mark.color for mark in marks.values()]


def test_a_level_is_the_median_with_its_band(ax):
    values = [9.0, 1.0, 4.0, 2.0, 100.0, 3.0, 50.0, 7.0, 5.5]
    plotting.level(pd.Series(values), ax, "minimum", plotting.MINIMUM)
    (line,), (band,) = ax.lines, ax.patches
    assert set(line.get_ydata()) == {5.5}
    assert line.get_label() == "minimum"
    assert line.get_color() == plotting.MINIMUM.color
    edges = band.get_extents().transformed(ax.transData.inverted())
    assert (edges.y0, edges.y1) == pytest.approx((3.0, 9.0), rel=1e-12)


def test_the_legend_has_each_name_once(table):
    figure, axes = plotting.panels(1, 2)
    for ax in axes:
        plotting.spread_lines(table, "norm", "error", ax)
    plotting.level([1.0], axes[1], "truth", plotting.TRUTH)
    axes[0].plot([1e-3, 1e-2], [1, 1])  # without a name
    plotting.legend(figure, axes, columns=2)
    (made,) = figure.legends
    assert [text.get_text() for text in made.get_texts()] == ["depth 2", "depth 3", "truth"]
    colors = [line.get_color() for line in made.get_lines()]
    assert colors == [plotting.depth_mark(d).color for d in (2, 3)] + [plotting.TRUTH.color]


# --- singular values ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    problem = MatrixCompletion.random((6, 5), 1, 25, seed=0)
    record = Record([0.0, 5.0, 10.0, 20.0], singular_values=4)
    start = gaussian(0.5, 0)
    return gradient_flow(problem, 2, start, until_loss=None, until_time=20.0, record=record)


@pytest.mark.parametrize("count", [None, 2])
def test_paths_are_the_recorded_singular_values(run, ax, count):
    plotting.singular_value_paths(run, ax, count)
    assert len(ax.lines) == (count or 4)
    for r, line in enumerate(ax.lines):
        assert torch.equal(torch.as_tensor(line.get_xdata()), run.times)
        assert torch.equal(torch.as_tensor(line.get_ydata()), run.singular_values[:, r])
    luminances = [linear(line.get_color()) @ (0.2126, 0.7152, 0.0722) for line in ax.lines]
    assert luminances == sorted(luminances)  # the largest darkest
    assert len(set(luminances)) == len(luminances)


def test_paths_need_recorded_singular_values(ax):
    problem = MatrixCompletion.random((6, 5), 1, 25, seed=0)
    for record in (None, Record([0.0, 1.0])):
        run = gradient_flow(problem, 2, until_loss=1.0, record=record)
        with pytest.raises(ValueError, match=r"no singular values; .*Record\(times, singular"):
            plotting.singular_value_paths(run, ax)
    assert len(ax.lines) == 0
