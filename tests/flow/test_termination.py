"""How runs of the flow end: a status for each way, and a reason for each but success."""

import math
import re
import warnings

import pytest
import torch

from dmf_utils.factorization.initialization import balanced, balanced_factors, gaussian
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.trajectory import Record, Status
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.sensing import MatrixSensing

DOUBLE = torch.float64
COMPLETION = MatrixCompletion.random((6, 5), 2, 24, seed=0)
FULL = FullObservation(torch.diag(torch.tensor([3.0, 1.0, 0.0], dtype=DOUBLE)))
PROBLEMS = [
    COMPLETION,
    FULL,
    MatrixSensing.random((4, 6), 1, 15, seed=1),
    FullObservation(torch.ones(2, 7, dtype=DOUBLE)),
]


def ended(
    problem,
    depth=2,
    start=gaussian(norm=1e-2, seed=0),
    until_loss=1e-6,
    until_time=None,
    record=None,
    **how,
):
    """The run, with its warning if it has one; a detail is empty iff the run is `reached`."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        asked = {"until_time": until_time, "record": record, "settings": Settings(**how)}
        run = gradient_flow(problem, depth, start, until_loss, **asked)
    assert (run.detail == "") is (run.status is Status.reached) is (not seen)
    assert run.detail in ("".join(str(w.message) for w in seen) if seen else "")
    return run


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize("limit", [{"max_steps": 3}, {"max_gradients": 40}])
@pytest.mark.parametrize("aim", [{}, {"until_time": 1e6}, {"until_loss": None, "until_time": 1e6}])
def test_a_limit_says_what_was_going_on(problem, depth, limit, aim):
    run = ended(problem, depth, **limit, **aim)
    assert run.status is Status.step_limit
    ((name, most),) = limit.items()
    assert run.detail.startswith(f"{name} = {most} were made by time {run.time:.3g}: ")
    assert "of their size in unit time" in run.detail
    assert ("1e-06 was asked" in run.detail) is ("until_loss" not in aim)
    assert ("time 1e+06 was asked" in run.detail) is bool(aim)


def test_a_limit_names_the_speed_and_the_time_of_the_next_motion():
    # One entry, depth 1: |Ẇ| / |W| is known.
    one = FullObservation(torch.ones(1, 1, dtype=DOUBLE))
    run = ended(one, 1, [torch.full((1, 1), 0.5, dtype=DOUBLE)], max_steps=1)
    speed = (1 - float(run.product)) / float(run.product)
    assert f" {speed:.1e} of their size" in run.detail
    # Where a mode waits: before that time, nothing.
    waits = FullObservation(torch.diag(torch.tensor([5.0, 1.0], dtype=DOUBLE)))
    run = ended(waits, 3, balanced(norm=1e-18, seed=0), max_gradients=1500)
    assert run.status is Status.step_limit
    later = float(re.search(r"before time ([^ ,;]+)", run.detail)[1])
    run = ended(waits, 3, balanced(norm=1e-18, seed=0), None, until_time=0.9 * later)
    assert float(torch.linalg.svdvals(run.product)[1]) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gradient_dtype", [torch.float32, None])
def test_a_limit_in_every_precision(dtype, gradient_dtype):
    run = ended(COMPLETION, 3, dtype=dtype, gradient_dtype=gradient_dtype, max_gradients=100)
    assert run.status is Status.step_limit


class Own:
    """A loss of a user's own, quartic."""

    shape = (3, 4)

    def loss_and_gradient(self, W):
        off = W - 1
        return (off**4).sum(dim=(-2, -1)), 4 * off**3


def test_a_limit_of_a_problem_of_ones_own():
    assert ended(Own(), 2, max_steps=4).status is Status.step_limit


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_is_reached_needs_no_reason(depth):
    for problem in PROBLEMS:
        assert ended(problem, depth, until_loss=1e-3).status is Status.reached
        run = ended(problem, depth, until_loss=None, until_time=3.0, record=Record([1.0]))
        assert run.status is Status.reached


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_stalls_says_why(depth):
    A = torch.zeros(2, 2, 3, dtype=DOUBLE)
    A[:, 0, 1] = 1
    twice = MatrixSensing(A, torch.tensor([1.0, 2.0]))  # the loss cannot fall below ¼
    run = ended(twice, depth, balanced(norm=0.1, seed=0))
    assert run.status is Status.stalled
    assert "nothing can move any more" in run.detail
    assert "the loss is 0.25 where 1e-06 was asked" in run.detail


def test_a_start_at_a_saddle_stalls():
    run = ended(FULL, 2, [torch.zeros(3, 3, dtype=DOUBLE)] * 2)
    assert (run.status, run.n_steps) == (Status.stalled, 0)
    assert run.detail.startswith("the gradient vanishes at the start")
    # Asked for a time, it is there.
    still = [torch.zeros(3, 3, dtype=DOUBLE)] * 2
    assert ended(FULL, 2, still, None, until_time=9.0).status is Status.reached


def test_a_step_below_rounding_stalls():
    class Kinked:
        shape = (1, 1)

        def loss_and_gradient(self, W):  # the gradient jumps at ½: no step gets across
            return (W - 0.5).abs().sum(dim=(-2, -1)) + 1, torch.where(W > 0.5, 1.0, -1.0)

    run = ended(Kinked(), 1, [torch.full((1, 1), 0.1, dtype=DOUBLE)], 0.5, max_steps=10_000)
    assert run.status in (Status.stalled, Status.step_limit)


def test_what_diverges_says_why():
    class Pole:
        shape = (1, 1)

        def loss_and_gradient(self, W):  # falls without bound: infinite within a finite time
            return -(W**3).sum(dim=(-2, -1)), -3 * W**2

    run = ended(Pole(), 1, [torch.ones(1, 1, dtype=DOUBLE)], None, until_time=1.0)
    assert run.status is not Status.reached

    class Broken:
        shape = (1, 1)

        def loss_and_gradient(self, W):
            return torch.where(W < 0.5, 1 - W, math.nan).sum(dim=(-2, -1)), -torch.ones_like(W)

    run = ended(Broken(), 1, [torch.zeros(1, 1, dtype=DOUBLE)], 1e-3)
    assert run.status is Status.diverged
    assert run.time == pytest.approx(0.5, rel=1e-6)
    assert "the loss is not finite" in run.detail
    run = ended(Broken(), 1, [torch.ones(1, 1, dtype=DOUBLE)], 1e-3)
    assert (run.status, run.detail) == (Status.diverged, "the loss of the start is nan")


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_stiff_run_that_comes_to_rest_reaches_the_asked_time(depth):
    A = torch.diag(torch.tensor([1.0, 0.5, 0.25], dtype=DOUBLE))[None]
    problem = MatrixSensing(A, torch.tensor([3000.0]), reduction="half_sum")
    start = balanced_factors(0.1 * torch.eye(3, dtype=DOUBLE), depth)
    run = gradient_flow(
        problem,
        depth,
        start,
        None,
        until_time=1.0,
        settings=Settings(tolerance=1e-12, method="dormand-prince"),
    )
    assert run.status is Status.reached
    assert run.loss < 1e-18
