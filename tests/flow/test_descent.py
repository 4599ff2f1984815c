"""Gradient descent with both steps: step by step, towards the flow, and how it ends."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dmf_utils.factorization.initialization import balanced, gaussian, identity
from dmf_utils.factorization.product import factor_gradients, product_matrix
from dmf_utils.flow import descent as descent_module
from dmf_utils.flow.descent import gradient_descent
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.trajectory import Record, Status
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.sensing import MatrixSensing


def completion(seed=1, shape=(5, 4), m=12, **more):
    return MatrixCompletion.random(shape, 2, m, seed=seed, **more)


def distance(a, b):
    return float((a - b).norm() / b.norm())


def steps_by_hand(problem, factors, count, learning_rate, normalized):
    """The rule as it is written, with one gradient a step; the factors and the step sizes."""
    factors, average, sizes = [W.clone() for W in factors], 0.0, []
    for k in range(1, count + 1):
        slopes = factor_gradients(factors, problem.gradient(product_matrix(factors)))
        size = learning_rate
        if normalized:
            average = 0.99 * average + 0.01 * sum(float(G.norm()) ** 2 for G in slopes)
            size = learning_rate / (math.sqrt(average / (1 - 0.99**k)) + 1e-4)
        factors = [W - size * G for W, G in zip(factors, slopes, strict=True)]
        sizes.append(size)
    return factors, sizes


def limited(*arguments, **options):
    """A run to its step limit."""
    with pytest.warns(RuntimeWarning, match="'step limit'"):
        return gradient_descent(*arguments, **options)


# --- the steps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("hidden", [None, 6])
def test_steps_are_those_of_the_rule(depth, hidden, normalized):
    problem, start = completion(), gaussian(0.3, 2)
    run = limited(
        problem,
        depth,
        start,
        1e-9,
        learning_rate=0.01,
        normalized=normalized,
        hidden=hidden,
        max_steps=40,
    )
    factors = start.factors((5, 4), depth, hidden)
    exact, sizes = steps_by_hand(problem, factors, 40, 0.01, normalized)
    for W, expected in zip(run.factors, exact, strict=True):
        assert distance(W, expected) < 1e-12
    assert run.time == pytest.approx(math.fsum(sizes), rel=1e-12)
    assert (run.n_steps, run.n_gradients, run.status) == (40, 41, Status.step_limit)
    assert run.loss == pytest.approx(float(problem.loss(product_matrix(exact))), rel=1e-11)
    assert torch.equal(run.product, product_matrix(run.factors))


def test_linear_descent_in_closed_form():
    # Depth 1, ℓ = ½‖W - Y‖²: every step multiplies the residual by 1 - η.
    target = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    run = gradient_descent(
        FullObservation(target), start=[torch.zeros(1, 2)], until_loss=1e-3, learning_rate=0.25
    )
    # Loss 2.5 · 0.75^(2k) is below 1e-3 first at k = 14.
    assert run.n_steps == math.ceil(math.log(1e-3 / 2.5) / (2 * math.log(0.75))) == 14
    torch.testing.assert_close(run.product, (1 - 0.75**14) * target, rtol=1e-13, atol=0)
    assert run.status is Status.reached
    assert run.loss == pytest.approx(2.5 * 0.75**28, rel=1e-12)


def test_divisor_of_the_loss_is_a_factor_of_the_learning_rate():
    # With the mean, ℓ and its gradient are 2/m of the half sum's: one m, in both.
    m, start = 12, gaussian(0.3, 1)
    mean = limited(completion(), 2, start, 1e-9, learning_rate=0.06, max_steps=30)
    half = limited(
        completion(reduction="half_sum"),
        2,
        start,
        1e-9,
        learning_rate=0.06 * 2 / m,
        max_steps=30,
    )
    assert distance(mean.product, half.product) < 1e-12


# --- towards the flow -----------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_descent_follows_the_flow_to_first_order(depth):
    problem, start = completion(), gaussian(0.5, 1)
    exact = gradient_flow(
        problem, depth, start, None, until_time=8.0, settings=Settings(tolerance=1e-10)
    )
    misses = []
    for learning_rate in (0.02, 0.01):
        steps = round(8.0 / learning_rate)
        run = limited(problem, depth, start, 1e-12, learning_rate=learning_rate, max_steps=steps)
        assert run.time == pytest.approx(8.0, rel=1e-12)
        misses.append(distance(run.product, exact.product))
    assert misses[0] < 0.02
    assert math.log2(misses[0] / misses[1]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("start", [identity(0.5), balanced(0.5, 1), gaussian(0.5, 1)])
def test_balancedness_drifts_in_proportion_to_the_step(start, depth):
    def conserved(factors):
        pairs = itertools.pairwise(factors)
        return torch.stack([upper.T @ upper - lower @ lower.T for lower, upper in pairs])

    problem, first = completion(shape=(4, 4)), start.factors((4, 4), depth)
    drifts = []
    for learning_rate in (0.02, 0.01):
        run = limited(
            problem,
            depth,
            start,
            1e-12,
            learning_rate=learning_rate,
            max_steps=round(6 / learning_rate),
        )
        drifts.append(float((conserved(run.factors) - conserved(first)).norm()))
    assert drifts[1] > 1e-6  # descent does not conserve what the flow does
    assert math.log2(drifts[0] / drifts[1]) == pytest.approx(1, abs=0.1)


def test_normalized_descent_follows_the_flow():
    problem, start = completion(), gaussian(0.3, 1)
    exact = gradient_flow(problem, 3, start, 1e-2, settings=Settings(tolerance=1e-9))
    misses = []
    for learning_rate in (2e-3, 5e-4):
        run = gradient_descent(
            problem, 3, start, 1e-2, learning_rate=learning_rate, normalized=True
        )
        misses.append((distance(run.product, exact.product), abs(run.time / exact.time - 1)))
    assert misses[1][0] < 2e-3
    assert misses[1][1] < 5e-3
    assert misses[1][0] < 0.5 * misses[0][0]


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("learning_rate", [0.1, 0.3])
def test_records_are_of_the_first_step_at_or_after_the_asked_time(learning_rate):
    problem, start = completion(), gaussian(0.3, 2)
    asked = [0.0, 0.3, 0.31, 0.35, 1.0, 1.2, 1.25, 2.7, 3.0, 50.0]
    run = limited(
        problem,
        2,
        start,
        1e-9,
        learning_rate=learning_rate,
        max_steps=30 if learning_rate == 0.1 else 10,
        record=Record(asked, singular_values=2, measures={"W": lambda W: W}, factors=True),
    )
    # Sums of 0.1 miss 0.3 and 1 by rounding: the step that was meant is the one recorded.
    steps = [math.ceil(t / learning_rate - 1e-9) for t in asked[:-1]]
    expected = [k * learning_rate for k in steps]
    assert run.times.tolist() == pytest.approx(expected, rel=1e-12)
    for k, count in enumerate(steps):
        by_hand, _ = steps_by_hand(problem, start.factors((5, 4), 2), count, learning_rate, False)
        W = product_matrix(by_hand)
        assert distance(run.measured["W"][k], W) < 1e-12
        assert float(run.losses[k]) == pytest.approx(float(problem.loss(W)), rel=1e-10)
        torch.testing.assert_close(run.singular_values[k], torch.linalg.svdvals(W)[:2])
        assert distance(product_matrix(run.recorded_factors[k]), W) < 1e-12


def test_records_of_depth_one_are_not_overwritten():
    target = torch.ones(2, 2, dtype=torch.float64)
    run = limited(
        FullObservation(target),
        start=[torch.zeros(2, 2)],
        until_loss=1e-9,
        learning_rate=0.5,
        max_steps=3,
        record=Record([0.0, 0.5, 1.0], measures={"W": lambda W: W}),
    )
    assert [float(W[0, 0]) for W in run.measured["W"]] == [0.0, 0.5, 0.75]


# --- the end --------------------------------------------------------------------------------------


def test_start_that_fits_already():
    run = gradient_descent(
        FullObservation(torch.eye(2)),
        start=[torch.eye(2)] * 2,
        until_loss=1e-6,
        learning_rate=0.1,
        record=Record([0.0, 0.1]),
    )
    assert (run.status, run.n_steps, run.time) == (Status.reached, 0, 0.0)
    assert run.times.tolist() == [0.0]


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("measures", [{}, {"norm": lambda W: torch.linalg.svdvals(W).sum()}])
def test_huge_learning_rate_diverges(depth, measures):
    record = Record(np.arange(0.0, 1e5, 1e3), singular_values=1, measures=measures)
    with pytest.warns(RuntimeWarning, match="1 of 1 runs .*'diverged'.*; lower the learning rate"):
        run = gradient_descent(
            completion(), depth, gaussian(0.3, 0), 1e-6, learning_rate=1e3, record=record
        )
    assert run.status is Status.diverged
    assert not math.isfinite(run.loss)
    assert run.n_steps < 1000
    assert torch.isfinite(run.losses).all()
    assert run.times.numel() > 0


def test_step_limit():
    run = limited(completion(), 3, learning_rate=0.1, max_steps=1)
    assert (run.n_steps, run.status) == (1, Status.step_limit)


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
def test_batch_is_its_single_runs(stacked, normalized):
    problems = [completion(seed=s, m=10 + s) for s in range(4)] if stacked else [completion()] * 4
    starts = [gaussian(0.5 / 4**k, k) for k in range(4)]
    options = {
        "learning_rate": 0.02 if normalized else 0.3,
        "normalized": normalized,
        "record": Record([0.0, 3.0, 20.0], singular_values=2),
    }
    runs = gradient_descent(problems, 2, starts, 0.05, **options)
    assert len({run.n_steps for run in runs}) > 2  # they leave the batch at different times
    for run, problem, start in zip(runs, problems, starts, strict=True):
        alone = gradient_descent(problem, 2, start, 0.05, **options)
        assert distance(run.product, alone.product) < 1e-12
        assert (run.n_steps, run.n_gradients) == (alone.n_steps, alone.n_gradients)
        assert run.time == pytest.approx(alone.time, rel=1e-12)
        torch.testing.assert_close(run.losses, alone.losses, rtol=1e-10, atol=0)
        torch.testing.assert_close(run.singular_values, alone.singular_values)


def test_runs_of_a_batch_end_in_their_own_ways():
    problem = FullObservation(torch.eye(2, dtype=torch.float64))
    starts = [[1.5 * torch.eye(2)] * 2, [1e4 * torch.eye(2)] * 2, [0.5 * torch.eye(2)] * 2]
    with pytest.warns(RuntimeWarning, match="1 of 3 runs ended with status 'diverged'"):
        runs = gradient_descent(problem, 2, starts, 1e-6, learning_rate=0.1)
    reached, diverged = Status.reached, Status.diverged
    assert [run.status for run in runs] == [reached, diverged, reached]
    assert distance(runs[2].product, torch.eye(2, dtype=torch.float64)) < 1e-2


def test_seed_decides_the_run():
    def run(problem_seed, start_seed):
        problem, start = completion(problem_seed), gaussian(0.3, start_seed)
        return gradient_descent(problem, 2, start, 0.1, learning_rate=0.2)

    first = run(1, 0)
    assert torch.equal(first.product, run(1, 0).product)
    assert distance(run(1, 1).product, first.product) > 1e-4
    assert distance(run(2, 0).product, first.product) > 1e-2


def test_single_precision():
    sensing = MatrixSensing.random((5, 4), 2, 12, seed=1)
    for problem in (completion(), sensing):
        options = {"learning_rate": 0.1, "max_steps": 20}
        exact = limited(problem, 2, gaussian(0.3, 0), 1e-6, **options)
        single = limited(problem, 2, gaussian(0.3, 0), 1e-6, dtype=torch.float32, **options)
        assert single.product.dtype == torch.float32
        assert 1e-9 < distance(single.product.double(), exact.product) < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_on_the_graphics_card():
    options = {"learning_rate": 0.1, "max_steps": 20}
    here = limited(completion(), 2, gaussian(0.3, 0), 1e-6, **options)
    there = limited(completion(), 2, gaussian(0.3, 0), 1e-6, device="cuda", **options)
    assert there.product.device.type == "cuda"
    assert distance(there.product.cpu(), here.product) < 1e-10


def test_start_is_left_alone():
    factors = gaussian(0.3, 0).factors((5, 4), 2)
    before = [W.clone() for W in factors]
    limited(completion(), start=factors, learning_rate=0.1, max_steps=5)
    assert all(torch.equal(a, b) for a, b in zip(factors, before, strict=True))


def test_depth_is_three_unless_said():
    assert limited(completion(), learning_rate=0.1, max_steps=1).depth == 3
    assert gradient_flow(completion(), until_loss=None, until_time=0.1).depth == 3


def test_seconds_of_all_steps_are_shared_by_the_batch(monkeypatch):
    # A clock that advances by one second at each look: every step takes one.
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(descent_module, "time", clock)
    starts = [gaussian(0.1, seed) for seed in range(4)]
    runs = limited(completion(), start=starts, learning_rate=0.1, max_steps=6)
    assert [run.seconds for run in runs] == [6 / 4] * 4


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be a positive number, got 0.0"),
        ({"learning_rate": -1}, ValueError, "learning_rate must be a positive number, got -1"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate must be.*got nan"),
        ({"learning_rate": "1"}, TypeError, "learning_rate must be a number, got '1'"),
        ({"until_loss": 0.0}, ValueError, "until_loss must be a positive number, got 0.0"),
        ({"max_steps": 0}, ValueError, "max_steps must be a positive number, got 0"),
        ({"depth": 0}, ValueError, "depth must be at least 1, got 0"),
        ({"problem": None}, TypeError, "problem must be a Problem"),
        ({"start": None}, TypeError, "start must be a Start"),
    ],
)
def test_bad_input_is_named_before_any_computing(arguments, error, message, monkeypatch):
    def computed(*_):
        raise AssertionError("a step was made")

    monkeypatch.setattr(descent_module, "_descend", computed)
    good = {"problem": completion(), "start": gaussian(0.1, 0), "learning_rate": 0.1}
    with pytest.raises(error, match=message):
        gradient_descent(**(good | arguments))
