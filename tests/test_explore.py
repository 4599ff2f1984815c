"""The run behind `explore`, its figure, and the panel's sliders."""

from __future__ import annotations

import io
import warnings

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from dmf_utils import MatrixCompletion, Settings, Status, explore, gaussian, gradient_flow
from dmf_utils.explore import completion_run

SMALL = {"n": 20, "rank": 1}


def test_the_run_is_the_flow_of_that_problem() -> None:
    found = completion_run(2, 1e-2, 150, n=20, rank=2, seed=3)
    problem = MatrixCompletion.random((20, 20), 2, 150, seed=3)
    run = gradient_flow(problem, 2, gaussian(1e-2, 3), 1e-4, settings=Settings(tolerance=1e-4))
    assert found.run.status is Status.reached
    torch.testing.assert_close(found.run.product, run.product)
    assert found.error == pytest.approx(float(problem.error(run.product)))
    s = torch.linalg.svdvals(run.product)
    assert found.nuclear_norm == pytest.approx(float(s.sum()))
    shares = s / s.sum()
    assert found.effective_rank == pytest.approx(float(torch.exp(-(shares * shares.log()).sum())))
    torch.testing.assert_close(found.truth[:2], torch.linalg.svdvals(problem.ground_truth)[:2])


def test_the_way_is_recorded_up_to_the_end() -> None:
    found = completion_run(3, 1e-3, 150, **SMALL)
    run = found.run
    assert run.singular_values.shape == (len(run.times), 6)
    assert run.measured["error"].shape == run.times.shape
    assert len(run.times) > 50
    assert float(run.times[-1]) > 0.9 * run.time
    assert float(run.measured["error"][0]) == pytest.approx(1, rel=0.01)  # of the zero matrix
    problem = MatrixCompletion.random((20, 20), 1, 150, seed=0)
    time = float(run.times[-1])
    same = gradient_flow(
        problem, 3, gaussian(1e-3, 0), None, until_time=time, settings=Settings(tolerance=1e-8)
    )
    assert float(run.measured["error"][-1]) == pytest.approx(
        float(problem.error(same.product)), 0.05
    )
    torch.testing.assert_close(
        run.singular_values[-1], torch.linalg.svdvals(same.product)[:6], rtol=0.01, atol=0.01
    )


def test_depth_start_and_observations_matter_as_the_chapter_says() -> None:
    errors = {
        (depth, norm, m): completion_run(depth, norm, m, until_loss=1e-6).error
        for depth, norm, m in [(2, 1e-1, 312), (2, 1e-3, 312), (3, 1e-2, 468), (2, 1e-2, 468)]
    }
    assert errors[2, 1e-1, 312] > 3 * errors[2, 1e-3, 312]
    assert errors[2, 1e-2, 468] > 50 * errors[3, 1e-2, 468]


def test_a_run_that_is_given_up_says_so() -> None:
    with pytest.warns(RuntimeWarning, match="step limit"):
        found = completion_run(3, 1e-3, 150, max_steps=5, **SMALL)
    assert found.run.status is Status.step_limit


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 0}, "depth must be at least 1"),
        ({"start_norm": 0.0}, "norm must be"),
        ({"n_observed": 401}, "n_observed must be between 1"),
        ({"rank": 21}, "rank must be"),
        ({"until_loss": 0.0}, "until_loss must be a positive number"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        completion_run(**{"n_observed": 150, **SMALL, **options})


def test_the_figure_shows_the_run() -> None:
    found = completion_run(3, 1e-2, 150, **SMALL)
    figure = explore.exploration(found)
    left, right = figure.axes
    (line,) = right.lines
    np.testing.assert_allclose(line.get_ydata(), found.run.measured["error"])
    np.testing.assert_allclose(line.get_xdata(), found.run.times)
    assert len(left.lines) == 2 * found.run.singular_values.shape[1]
    assert left.get_xlim()[1] == right.get_xlim()[1] == found.run.time
    plt.close(figure)


def test_the_panel_follows_its_sliders() -> None:
    panel = explore.explore(**SMALL)
    depth, start, observed, numbers, picture = panel.children
    assert [slider.description for slider in (depth, start, observed)] == [
        "depth N",
        "start ‖W(0)‖",
        "observed entries",
    ]
    shown = [picture.value]
    for slider, value in ((depth, 2), (start, 1e-1), (observed, 200)):
        slider.value = value
        found = completion_run(depth.value, start.value, observed.value, **SMALL)
        assert (
            f"error {found.error:.2e}, effective rank {found.effective_rank:.2f}" in numbers.value
        )
        assert "given up" not in numbers.value
        assert picture.value not in shown
        shown.append(picture.value)
    assert matplotlib.image.imread(io.BytesIO(picture.value)).std() > 0.01
    assert plt.get_fignums() == []


def test_the_panel_says_when_a_run_was_given_up(monkeypatch) -> None:
    monkeypatch.setattr(explore, "MOST_STEPS", 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers = explore.explore(**SMALL).children[3]
    assert "not yet fitted, given up after 20 steps" in numbers.value


def test_the_panel_allows_no_more_observations_than_entries() -> None:
    observed = explore.explore(n=6, rank=3).children[2]
    assert (observed.min, observed.max, observed.value) == (36, 36, 36)
    observed = explore.explore(**SMALL).children[2]
    assert (observed.min, observed.max, observed.value) == (58, 400, 78)
