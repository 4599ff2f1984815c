"""Gradient flow against closed forms and SciPy, its end point, its records and how it ends."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from problems_with_answers import KNOWN
from reference_flow import factor_flow

from dmf_utils.factorization.initialization import (
    balanced,
    balanced_factors,
    factor_shapes,
    gaussian,
    identity,
)
from dmf_utils.factorization.norms import nuclear_norm
from dmf_utils.factorization.product import balancedness_gap, product_matrix
from dmf_utils.flow import batch as batch_module, integration
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.trajectory import Record, Status
from dmf_utils.problems.base import low_rank_matrix
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.sensing import MatrixSensing

METHODS = ["automatic", "dormand-prince"]


def distance(a, b):
    """Relative to `b`, in the Frobenius norm."""
    return float((a - b).norm() / b.norm())


def completion(seed=1, shape=(8, 6), m=30, **more):
    return MatrixCompletion.random(shape, 2, m, seed=seed, **more)


def conserved(factors):
    return [upper.T @ upper - W @ W.T for W, upper in pairwise(factors)]


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("known", KNOWN, ids=str)
def test_flow_follows_the_known_solution(known):
    times = [0.0, 0.3, 1.0, 2.5, 6.0]
    run = gradient_flow(
        known.problem,
        start=known.factors,
        until_loss=None,
        until_time=6.0,
        record=Record(times=times, measures={"W": lambda W: W}),
        settings=Settings(tolerance=1e-9),
    )
    assert run.status is Status.reached
    assert (run.time, run.times.tolist()) == (6.0, times)
    for k, t in enumerate(times):
        exact = known.product_at(t)
        assert distance(run.measured["W"][k], exact) < 2e-8
        expected = float(known.problem.loss(exact))
        # At time 6 some losses are 1e-8: the tolerance is then 1e-5 of what is still missing.
        assert float(run.losses[k]) == pytest.approx(expected, rel=5e-5, abs=1e-14)
    assert distance(run.product, known.product_at(6.0)) < 2e-8


@pytest.mark.parametrize("known", KNOWN, ids=str)
def test_flow_ends_at_the_known_limit(known):
    run = gradient_flow(
        known.problem, start=known.factors, until_loss=1e-12, settings=Settings(tolerance=1e-9)
    )
    assert run.status is Status.reached
    assert distance(run.product, known.limit) < 1e-5
    # The end was located: at its time the known solution has that loss.
    located = float(known.problem.loss(known.product_at(run.time)))
    assert located == pytest.approx(1e-12, rel=0.02)


def test_depth_one_is_an_exponential():
    target = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
    W0 = torch.tensor([[0.0, 1.0, 0.5]], dtype=torch.float64)
    run = gradient_flow(
        FullObservation(target),
        start=[W0],
        until_loss=None,
        until_time=1.0,
        settings=Settings(tolerance=1e-11),
    )
    torch.testing.assert_close(
        run.product, target + math.exp(-1) * (W0 - target), rtol=0, atol=1e-10
    )


def test_depth_two_is_logistic():
    # Saxe et al. 2014, ℓ = ½‖W - Y‖²: ds/dt = 2 s (y - s).
    target = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    times = np.linspace(0, 4, 9)
    run = gradient_flow(
        FullObservation(target),
        depth=2,
        start=identity(norm=1e-3),
        until_loss=None,
        until_time=4.0,
        record=Record(times=times, singular_values=2),
        settings=Settings(tolerance=1e-10),
    )
    s0 = 1e-3 / math.sqrt(2)
    for r, y in enumerate((3.0, 1.0)):
        logistic = y / (1 + (y / s0 - 1) * np.exp(-2 * y * times))
        np.testing.assert_allclose(run.singular_values[:, r].numpy(), logistic, rtol=1e-7)


# --- against SciPy --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_flow_deviates_in_proportion_to_the_tolerance(depth, method):
    problem, start = completion(), gaussian(0.1, 0)
    times = [0.0, 25.0, 120.0]
    factors = start.factors((8, 6), depth)
    exact = [product_matrix(W) for W in factor_flow(problem.gradient, factors, times)]
    for tolerance in (1e-4, 1e-6, 1e-8):
        run = gradient_flow(
            problem,
            depth,
            start,
            None,
            until_time=120.0,
            record=Record(times=[25.0], measures={"W": lambda W: W}),
            settings=Settings(tolerance=tolerance, method=method),
        )
        assert distance(run.measured["W"][0], exact[1]) < 10 * tolerance
        assert distance(run.product, exact[2]) < 10 * tolerance


@pytest.mark.parametrize(
    ("problem", "depth", "hidden"),
    [
        (completion(shape=(4, 9), m=20), 3, None),
        (completion(shape=(9, 4), m=20), 3, 7),
        (MatrixSensing.random((5, 4), 1, 12, seed=0), 3, 6),
        (completion(shape=(5, 6), m=14, reduction="half_sum"), 2, 8),
    ],
)
def test_flow_to_a_loss_agrees_with_scipy(problem, depth, hidden):
    start = gaussian(0.05, 3)
    run = gradient_flow(
        problem, depth, start, 1e-4, hidden=hidden, settings=Settings(tolerance=1e-7)
    )
    factors = start.factors(problem.shape, depth, hidden)
    exact = factor_flow(problem.gradient, factors, [0.0, run.time])[-1]
    assert run.loss == pytest.approx(1e-4, rel=1e-2)
    assert distance(run.product, product_matrix(exact)) < 3e-6
    for W, expected in zip(run.factors, exact, strict=True):
        assert distance(W, expected) < 3e-6
    assert torch.equal(product_matrix(run.factors), run.product)


def test_both_methods_find_the_same_and_the_automatic_one_sooner():
    # The flow waits at the saddle and ends in a narrow valley: there stability limits the step.
    problem, start = completion(), gaussian(0.1, 0)
    with count_steps() as steps:
        automatic = gradient_flow(problem, 3, start, 1e-6)
    assert steps["chebyshev"] > 20
    assert steps["dormand-prince"] > 5
    with count_steps() as steps:
        plain = gradient_flow(problem, 3, start, 1e-6, settings=Settings(method="dormand-prince"))
    assert steps["chebyshev"] == 0
    assert distance(automatic.product, plain.product) < 1e-4
    assert automatic.time == pytest.approx(plain.time, rel=2e-3)
    assert automatic.n_gradients < 0.25 * plain.n_gradients


def test_automatic_method_returns_to_dormand_prince():
    # The mode of size 1 is at rest long before that of size 20 has grown from next to nothing.
    target = torch.diag(torch.tensor([1.0, 20.0], dtype=torch.float64))
    first = torch.diag(torch.tensor([0.3, 1e-100], dtype=torch.float64))
    with count_steps() as steps:
        run = gradient_flow(
            FullObservation(target), start=[first, first], settings=Settings(tolerance=2.5e-5)
        )
    order = "".join(steps["order"]).replace("s", "")
    assert "dc" in order
    assert "cd" in order
    assert run.status is Status.reached


@pytest.mark.parametrize("gradient_dtype", [torch.float64, torch.float32])
def test_depth_one_flows_from_the_zero_matrix(gradient_dtype):
    target = completion().ground_truth
    run = gradient_flow(
        FullObservation(target),
        start=[torch.zeros_like(target)],
        until_loss=None,
        until_time=2.0,
        settings=Settings(gradient_dtype=gradient_dtype),
    )
    assert run.status is Status.reached
    assert distance(run.product, (1 - math.exp(-2.0)) * target) < 3e-5


def test_steps_are_accepted_where_their_error_is_tolerated():
    # A start much larger than the target, and one that waits and then grows: steps are rejected.
    target = torch.diag(torch.tensor([1.0, 20.0], dtype=torch.float64))
    large = [50 * torch.eye(2, dtype=torch.float64)] * 2
    slow = [torch.diag(torch.tensor([0.3, 1e-100], dtype=torch.float64))] * 2
    rejected = 0
    for start in (large, slow):
        with count_steps() as steps:
            gradient_flow(FullObservation(target), start=start, until_loss=1e-6)
        tried = steps["tried"]
        speed = math.inf
        for (origin, end, error, loss, method, more), (following, *_) in pairwise(tried):
            is_last = method == "d" and loss <= 1e-4
            most = 2.5e-5 * float(end.norm()) * (0.3 if is_last else 1.0)
            # Of the motion: 0.2 or 1.6 times the root of the tolerance, or 3 times its power 3/4
            # while the flow speeds up; and rounding.
            share = (0.2 if method == "d" else 1.6) * 2.5e-5**0.5
            if method == "c" and more["speed"] > speed:
                share = 3 * 2.5e-5**0.75
            rounding = 2e-16 * (4 if method == "d" else more["stages"] ** 2) * float(end.norm())
            most = min(most, share * float((end - origin).norm()) + rounding)
            tolerated = error <= {"d": 1.0, "c": 1.5}[method] * most * (1 + 1e-9)
            speed = more["speed"] if tolerated else speed
            assert torch.equal(following, end if tolerated else origin)
            rejected += not tolerated
    assert rejected > 2


def test_where_times_are_asked_the_clock_counts_for_more():
    asked = {"until_time": 50.0}
    loose, fine, both = (
        gradient_flow(completion(), 3, gaussian(1e-2, 0), None, **asked, settings=settings)
        for settings in (Settings(tolerance=2.5e-5), Settings(tolerance=5e-6), Settings())
    )
    assert torch.equal(both.product, fine.product)
    assert both.n_gradients > loose.n_gradients
    coarse, plain = (
        gradient_flow(completion(), 3, gaussian(1e-2, 0), 1e-3, settings=settings)
        for settings in (Settings(tolerance=2.5e-5), Settings())
    )
    assert torch.equal(plain.product, coarse.product)


def test_steps_shrink_ahead_of_a_mode_that_grows():
    # A mode that grows as it is learned wants shorter and shorter steps. A controller that only
    # looks at the last error is surprised at every second one of them.
    with count_steps() as steps:
        gradient_flow(
            completion(), 3, gaussian(1e-3, 0), 0.1, settings=Settings(method="dormand-prince")
        )
    tried = steps["tried"]
    rejected = sum(error > 2.5e-5 * float(end.norm()) for _, end, error, *_ in tried)
    assert len(tried) > 25
    assert rejected <= 0.15 * len(tried)


def test_curvature_is_estimated_anew_while_it_changes():
    with count_steps() as steps:
        run = gradient_flow(
            completion(), 3, gaussian(0.1, 0), 1e-6, settings=Settings(tolerance=1e-6)
        )
    assert run.status is Status.reached
    between = "".join(steps["order"]).split("s")
    assert steps["chebyshev"] > 60
    assert max(part.count("c") for part in between) <= 20


class count_steps:
    """Write down the steps of each method, and the estimates of curvature, while the flow runs."""

    def __enter__(self):
        self.steps = {"order": [], "tried": []}
        names = {"chebyshev_step": "c", "dormand_prince_step": "d", "spectral_radius": "s"}
        self.originals = {name: getattr(integration, name) for name in names}
        for name, letter in names.items():
            setattr(integration, name, self.spied(self.originals[name], letter))
        return self.steps

    def spied(self, original, letter):
        def call(batch, states, *arguments, **options):
            self.steps["order"].append(letter)
            made = original(batch, states, *arguments, **options)
            if letter != "s":
                end = made.states[0].clone()
                more = {"speed": made.speeds[0], "stages": made.evaluations[0]}
                self.steps["tried"].append(
                    (states[0].clone(), end, made.errors[0], made.losses[0], letter, more)
                )
            return made

        return call

    def __exit__(self, *_):
        for name, original in self.originals.items():
            setattr(integration, name, original)
        order = self.steps["order"]
        self.steps |= {"chebyshev": order.count("c"), "dormand-prince": order.count("d")}


# --- conservation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("hidden", [None, 7])
def test_flow_conserves_every_difference_from_any_start(depth, hidden):
    problem = completion(shape=(5, 4), m=12)
    start = gaussian(0.3, 2).factors((5, 4), depth, hidden)
    drifts = []
    for tolerance in (1e-5, 1e-8):
        run = gradient_flow(
            problem,
            start=start,
            until_loss=1e-6,
            settings=Settings(tolerance=tolerance, method="dormand-prince"),
        )
        pairs = zip(conserved(run.factors), conserved(start), strict=True)
        drifts.append(max(float((after - before).norm()) for after, before in pairs))
    assert float(balancedness_gap(start)) > 0.1  # not balanced
    size = sum(float(W.norm()) ** 2 for W in run.factors)
    assert drifts[0] < 2e-4 * size
    assert drifts[1] < 2e-7 * size


@pytest.mark.parametrize("start", [identity(0.1), balanced(0.1, 1)], ids=["identity", "balanced"])
def test_balanced_start_stays_balanced(start):
    run = gradient_flow(completion(), 3, start, 1e-4, settings=Settings(tolerance=1e-8))
    assert float(balancedness_gap(run.factors)) < 1e-6


@pytest.mark.parametrize("depth", [2, 3])
def test_zero_singular_values_stay_zero(depth):
    problem = completion(shape=(5, 5), m=20)
    W0 = torch.zeros(5, 5, dtype=torch.float64)
    W0[0, 0], W0[1, 1] = 0.1, 0.05
    run = gradient_flow(
        problem, start=balanced_factors(W0, depth), until_loss=None, until_time=30.0
    )
    sigma = torch.linalg.svdvals(run.product)
    assert float(sigma[1]) > 0.05
    assert float(sigma[2]) < 1e-12


# --- the end of a run -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("until_loss", [0.3, 1e-3, 1e-8])
def test_end_is_located(depth, until_loss, method):
    problem = completion(shape=(5, 4), m=12)
    run = gradient_flow(
        problem, depth, gaussian(0.3, 0), until_loss, settings=Settings(method=method)
    )
    assert run.status is Status.reached
    assert run.loss == pytest.approx(until_loss, rel=1e-2)
    assert run.loss == pytest.approx(float(problem.loss(run.product)), rel=1e-9)


def test_time_of_the_end_does_not_depend_on_the_steps():
    problem = completion(shape=(5, 4), m=12)
    times = [
        gradient_flow(
            problem, 3, gaussian(0.3, 0), 0.3, settings=Settings(tolerance=tolerance)
        ).time
        for tolerance in (1e-4, 1e-7, 1e-10)
    ]
    assert times[1] == pytest.approx(times[2], rel=1e-5)
    assert times[0] == pytest.approx(times[2], rel=1e-3)


@pytest.mark.parametrize("until_time", [1e-3, 0.1, 0.7, 3.3, 1234.5678])
def test_end_at_a_time_is_exact(until_time):
    run = gradient_flow(
        completion(), 2, identity(0.5), None, until_time=until_time, record=Record([until_time])
    )
    assert run.status is Status.reached
    assert run.time == until_time
    assert run.times.tolist() == [until_time]
    assert float(run.losses[0]) == pytest.approx(run.loss, rel=1e-9)


def test_rounding_neither_moves_the_end_nor_loses_its_record():
    # With steps as long as these, time + (end - time) is not the end for some of the ends.
    problem = FullObservation(torch.eye(2, dtype=torch.float64))
    for end in (k / 97 for k in range(1, 60)):
        run = gradient_flow(
            problem,
            2,
            identity(0.5),
            None,
            until_time=end,
            record=Record([end]),
            settings=Settings(tolerance=1e-3),
        )
        assert (run.time, run.times.tolist()) == (end, [end])


def test_whichever_comes_first_ends_the_run():
    problem, start = completion(), gaussian(0.1, 0)
    by_loss = gradient_flow(problem, 3, start, 1e-2, until_time=1e6)
    assert by_loss.loss == pytest.approx(1e-2, rel=1e-2)
    assert by_loss.time < 1e4
    by_time = gradient_flow(problem, 3, start, 1e-2, until_time=0.5 * by_loss.time)
    assert by_time.time == 0.5 * by_loss.time
    assert by_time.loss > 1e-2
    assert by_time.status is by_loss.status is Status.reached


def test_start_that_fits_already():
    problem = FullObservation(torch.eye(2, dtype=torch.float64))
    run = gradient_flow(
        problem, start=[torch.eye(2)] * 3, until_loss=1e-6, record=Record([0.0, 1.0])
    )
    assert (run.status, run.time, run.n_steps, run.n_gradients) == (Status.reached, 0.0, 0, 1)
    assert run.times.tolist() == [0.0]
    assert torch.equal(run.product, torch.eye(2, dtype=torch.float64))


def test_step_limit_warns():
    with pytest.warns(RuntimeWarning, match=r"1 of 1 runs.*'step limit'.*raise max_steps") as seen:
        run = gradient_flow(completion(), 3, settings=Settings(max_steps=7))
    assert (run.status, run.n_steps) == (Status.step_limit, 7)
    assert run.loss > 1e-6
    assert seen[0].filename == __file__
    assert len(seen) == 1


def test_gradient_limit_ends_each_run_by_itself():
    starts = [gaussian(norm=norm, seed=0) for norm in (1e-1, 1e-8)]
    whole = gradient_flow(completion(), 3, starts)
    limit = whole[0].n_gradients + 1
    assert whole[1].n_gradients > 1.5 * limit  # so that the limit is one for the second run only
    with pytest.warns(RuntimeWarning, match=r"1 of 2 runs.*'step limit'.*max_gradients"):
        first, second = gradient_flow(
            completion(), 3, starts, settings=Settings(max_gradients=limit)
        )
    assert (first.status, first.n_gradients) == (Status.reached, whole[0].n_gradients)
    assert second.status is Status.step_limit
    # Not before the limit, and not beyond the step that reaches it.
    assert limit <= second.n_gradients < whole[1].n_gradients
    assert second.loss > 1e-6


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_inconsistent_observations_stall(depth):
    # One entry measured twice, as 1 and as 2: the loss cannot fall below ¼.
    A = torch.zeros(2, 2, 3, dtype=torch.float64)
    A[:, 0, 1] = 1
    problem = MatrixSensing(A, torch.tensor([1.0, 2.0]))
    with pytest.warns(
        RuntimeWarning, match=r"'stalled' \(largest loss 0\.25\): nothing can move.*ask"
    ):
        run = gradient_flow(problem, depth, gaussian(0.5, 0), 1e-6)
    assert run.status is Status.stalled
    assert run.loss == pytest.approx(0.25, rel=1e-9)
    assert float(run.product[0, 1]) == pytest.approx(1.5, abs=1e-6)
    assert run.n_gradients < 8000
    # Asked for a time instead, the flow is where it is.
    still = gradient_flow(
        problem, depth, gaussian(0.5, 0), None, until_time=1e7, record=Record([10.0, 9e6, 1e7])
    )
    assert (still.status, still.time) == (Status.reached, 1e7)
    assert still.times.tolist() == [10.0, 9e6, 1e7]
    assert float(still.losses[2]) == pytest.approx(0.25, rel=1e-9)
    assert still.n_gradients < 8000


@pytest.mark.parametrize("method", METHODS)
def test_waiting_for_a_mode_that_is_next_to_nothing_is_no_stall(method):
    # The mode of size 1 is at rest to the last digit, while that of size 4 grows from 1e-200.
    target = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
    first = torch.diag(torch.tensor([0.3, 1e-100], dtype=torch.float64))
    run = gradient_flow(
        FullObservation(target),
        start=[first, first],
        until_loss=1e-6,
        settings=Settings(method=method),
    )
    assert run.status is Status.reached
    assert distance(run.product, target) < 1e-3


def test_saddle_stalls():
    zeros = [torch.zeros(2, 2), torch.zeros(2, 2)]
    problem = FullObservation(torch.eye(2))
    with pytest.warns(RuntimeWarning, match="'stalled'"):
        run = gradient_flow(problem, start=zeros)
    assert (run.status, run.loss, run.time) == (Status.stalled, 1.0, 0.0)
    still = gradient_flow(
        problem, start=zeros, until_loss=None, until_time=5.0, record=Record([0.0, 2.0, 5.0])
    )
    assert (still.status, still.time) == (Status.reached, 5.0)
    assert still.losses.tolist() == [1.0, 1.0, 1.0]


def test_start_beyond_all_numbers_diverges():
    big = [torch.full((2, 2), 1e200, dtype=torch.float64)] * 2
    problem = FullObservation(torch.eye(2))
    with pytest.warns(RuntimeWarning, match=r"1 of 2 runs ended with status 'diverged'"):
        runs = gradient_flow(
            problem,
            depth=2,
            start=[big, [torch.eye(2)] * 2],
            until_loss=1e-5,
            record=Record([0.0], singular_values=1),
        )
    assert [run.status for run in runs] == [Status.diverged, Status.reached]
    assert runs[0].singular_values.shape == (0, 1)


def test_loss_without_a_floor_diverges():
    class Falling:
        """ℓ = -Σ W⁴: the flow is infinite after a finite time."""

        shape = (2, 2)

        def loss_and_gradient(self, W):
            return 1e9 - W.pow(4).sum((-2, -1)), -4 * W.pow(3)

    with pytest.warns(RuntimeWarning, match=r"'(diverged|stalled)'"):
        run = gradient_flow(Falling(), 2, identity(1.0), None, until_time=10.0)
    assert run.time < 1.0
    assert run.status in (Status.diverged, Status.stalled)


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_records_are_those_of_the_flow_at_the_asked_times(method):
    problem, start = completion(), gaussian(0.1, 0)
    times = [0.0, 1.0, 1.0, 7.5, 60.0, 333.3, 334.0, 1000.0, 1500.0, 1e9]
    run = gradient_flow(
        problem,
        3,
        start,
        1e-5,
        record=Record(
            times,
            singular_values=3,
            measures={"W": lambda W: W, "norm": nuclear_norm, "one": lambda W: 1.0},
            factors=True,
        ),
        settings=Settings(tolerance=1e-7, method=method),
    )
    kept = [t for t in times if t <= run.time]
    assert 5 < len(kept) < len(times)
    assert run.times.tolist() == kept
    factors = start.factors((8, 6), 3)
    asked = sorted(set(kept))
    exact = dict(zip(asked, factor_flow(problem.gradient, factors, asked), strict=True))
    for k, t in enumerate(kept):
        W = product_matrix(exact[t])
        assert distance(run.measured["W"][k], W) < 3e-6
        assert float(run.losses[k]) == pytest.approx(float(problem.loss(W)), rel=3e-5)
        assert float(run.measured["norm"][k]) == pytest.approx(float(nuclear_norm(W)), rel=1e-5)
        sigma = torch.linalg.svdvals(run.measured["W"][k])[:3]
        torch.testing.assert_close(run.singular_values[k], sigma, rtol=1e-12, atol=1e-15)
        assert torch.equal(product_matrix(run.recorded_factors[k]), run.measured["W"][k])
    assert run.measured["one"].tolist() == [1.0] * len(kept)
    assert torch.equal(run.measured["W"][0], product_matrix(factors))


def test_many_times_within_one_step_are_all_recorded():
    problem = FullObservation(torch.eye(2, dtype=torch.float64))
    times = np.linspace(0, 5, 2001)
    record = Record(times, measures={"corner": lambda W: W[0, 0]})
    run = gradient_flow(problem, 2, identity(0.5), None, until_time=5.0, record=record)
    assert run.n_steps < 100
    assert run.times.tolist() == times.tolist()
    s0 = 0.5 / math.sqrt(2)
    logistic = 1 / (1 + (1 / s0 - 1) * np.exp(-2 * times))
    np.testing.assert_allclose(run.measured["corner"].numpy(), logistic, rtol=1e-4)
    early = gradient_flow(problem, 2, identity(0.5), 1e-2, record=record)
    assert early.times.tolist() == times[times <= early.time].tolist()


def test_recording_does_not_change_the_run():
    problem, start = completion(), gaussian(0.1, 0)
    plain = gradient_flow(problem, 3, start, 1e-4)
    recorded = gradient_flow(problem, 3, start, 1e-4, record=Record(np.linspace(0, 900, 50), 2))
    assert torch.equal(plain.product, recorded.product)
    assert (plain.time, plain.n_gradients) == (recorded.time, recorded.n_gradients)
    assert plain.times.numel() == plain.losses.numel() == 0


# --- callbacks ------------------------------------------------------------------------------------


def at_levels(fall, told, least=0.0):
    """A callback that writes down what it is told, and asks for a loss lower by a factor."""

    def callback(loss, time, factors):
        told.append((loss, time, factors))
        return None if loss <= least else fall * loss

    return callback


@pytest.mark.parametrize("fall", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_callback_is_told_of_the_flow_and_changes_no_step(depth, precision, fall):
    problem, start = completion(), gaussian(1e-2, 0)
    settings, told = Settings(gradient_dtype=precision), []
    plain = gradient_flow(problem, depth, start, 1e-4, settings=settings)
    run = gradient_flow(
        problem, depth, start, 1e-4, callback=at_levels(fall, told), settings=settings
    )
    assert torch.equal(run.product, plain.product)
    assert (run.time, run.n_gradients) == (plain.time, plain.n_gradients)
    losses, times = np.array([one[0] for one in told]), np.array([one[1] for one in told])
    assert times[0] == 0
    assert (np.diff(times) > 0).all()
    # Each stands where it was asked for, to a tenth of the way from the one before.
    missed = np.log(losses[1:] / (fall * losses[:-1]))
    assert (np.abs(missed) < 0.101 * min(0.1, -math.log(fall))).all()
    assert fall * losses[-1] < 1.02e-4
    few = slice(1, None, max(1, len(told) // 20))
    recorded = gradient_flow(
        problem,
        depth,
        start,
        1e-4,
        record=Record(times[few], measures={"W": torch.clone}),
        settings=settings,
    )
    for W, (loss, _, factors) in zip(recorded.measured["W"], told[few], strict=True):
        assert float(problem.loss(product_matrix(factors))) == pytest.approx(loss, rel=1e-9)
        assert distance(product_matrix(factors), W) < 1e-9


@pytest.mark.parametrize("start_loss", [1e-2, 1e-11])  # single precision cannot tell the latter
def test_where_a_callback_is_due_is_found_in_single_precision_if_that_can_tell(
    start_loss, monkeypatch
):
    truth = low_rank_matrix((6, 5), 2, 0)
    exact = torch.linalg.svd(truth, full_matrices=False)
    roots = exact.S.sqrt()
    start = [roots[:, None] * exact.Vh, exact.U * roots]
    start = [W * (1 + 0.3 * start_loss**0.5) for W in start]
    asked, plain = {torch.float32: 0, torch.float64: 0}, batch_module.Factorizations.loss

    def counted(self, states):
        asked[states.dtype] += 1
        return plain(self, states)

    monkeypatch.setattr(batch_module.Factorizations, "loss", counted)
    told, settings = [], Settings(gradient_dtype=torch.float32)
    end = {"until_loss": None, "until_time": 20.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gradient_flow(
            FullObservation(truth),
            start=start,
            callback=at_levels(0.9, told, 0.05 * start_loss),
            settings=settings,
            **end,
        )
    losses = np.array([one[0] for one in told])
    assert len(losses) > 10
    missed = np.abs(np.log(losses[1:] / (0.9 * losses[:-1])))
    assert (missed < 0.101 * 0.1).all()
    if start_loss == 1e-2:  # in double precision just what the callback is told
        assert asked[torch.float64] <= 2 * len(told) + 2
        assert asked[torch.float32] >= len(told) - 1


@pytest.mark.parametrize("method", METHODS)
def test_a_callback_may_end_a_run(method):
    problem, start, told = completion(), gaussian(1e-2, 0), []
    settings = Settings(method=method)
    whole = gradient_flow(problem, 3, start, 1e-6, settings=settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = gradient_flow(
            problem, 3, start, 1e-6, callback=at_levels(0.8, told, 1e-3), settings=settings
        )
    assert (run.status, run.detail) == (Status.reached, "")
    assert 0.7e-3 < run.loss <= 1e-3
    assert run.time == pytest.approx(told[-1][1], rel=1e-12)
    assert torch.equal(run.product, product_matrix(told[-1][2]))
    assert run.n_gradients < 0.9 * whole.n_gradients
    at_once = gradient_flow(problem, 3, start, callback=lambda *_: None)
    assert (at_once.time, at_once.n_steps, at_once.status) == (0.0, 0, Status.reached)


def test_a_callback_that_asks_for_nothing_more_is_called_once():
    told = []
    gradient_flow(completion(), 2, gaussian(0.1, 0), 1e-3, callback=at_levels(0.0, told))
    assert len(told) == 1
    (_, _, factors), *_ = told
    product_matrix([W.requires_grad_() for W in factors]).sum().backward()  # autograd works


def test_a_callback_where_there_is_nothing_to_fit_may_ask_for_nothing_more():
    zero = FullObservation(torch.zeros(2, 3, dtype=torch.float64))
    start = [torch.zeros(2, 3, dtype=torch.float64)]
    run = gradient_flow(zero, start=start, callback=lambda *_: 0.0)
    assert (run.status, run.loss, run.time) == (Status.reached, 0.0, 0.0)


def test_a_callback_ends_with_the_time_asked_for():
    told, asked = [], {"until_loss": None, "until_time": 30.0}
    run = gradient_flow(completion(), 2, gaussian(0.1, 0), **asked, callback=at_levels(0.9, told))
    assert run.time == 30.0
    assert told[-1][1] <= 30.0
    assert 0.85 * told[-1][0] < run.loss


@pytest.mark.parametrize("wanted", [1e9, -1.0, math.nan])
def test_a_callback_must_ask_for_a_smaller_loss(wanted):
    with pytest.raises(ValueError, match="callback must return a loss below the one"):
        gradient_flow(completion(), 2, gaussian(0.1, 0), callback=lambda *_: wanted)


# --- batches --------------------------------------------------------------------------------------


def same_run(a, b):
    assert distance(a.product, b.product) < 1e-12
    assert a.time == pytest.approx(b.time, rel=1e-11)
    assert (a.n_gradients, a.n_steps, a.status) == (b.n_gradients, b.n_steps, b.status)
    assert a.loss == pytest.approx(b.loss, rel=1e-9)
    torch.testing.assert_close(a.losses, b.losses, rtol=1e-9, atol=0)
    torch.testing.assert_close(a.singular_values, b.singular_values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["completion", "sensing", "full"])
def test_batch_is_its_single_runs(kind):
    problem = {
        "completion": completion(shape=(5, 4), m=12),
        "sensing": MatrixSensing.random((5, 4), 2, 12, seed=1),
        "full": FullObservation(completion(shape=(5, 4), m=12).ground_truth),
    }[kind]
    # Norms from one half to 1e-4: the runs end at quite different times.
    starts = [gaussian(10.0**-k / 2, k) for k in range(4)]
    record = Record([0.0, 10.0, 100.0], singular_values=2)
    batch = gradient_flow(problem, 3, starts, 1e-4, record=record)
    times = [run.time for run in batch]
    assert max(times) > 2 * min(times)
    for run, start in zip(batch, starts, strict=True):
        same_run(run, gradient_flow(problem, 3, start, 1e-4, record=record))


@pytest.mark.parametrize(("of_cache", "most"), [(0, 1), (2 * 9 * 80 * 8, 2), (2**21, 5)])
@pytest.mark.parametrize("kind", ["completion", "sensing", "own"])
def test_runs_step_together_as_far_as_the_cache_holds_them(monkeypatch, kind, of_cache, most):
    monkeypatch.setattr(batch_module, "_CACHED_BYTES", of_cache)

    class Own(MatrixCompletion):
        """A problem of a user's: what it gains from a batch is not known."""

    problem = {
        "completion": completion(shape=(4, 5), m=12),
        "sensing": MatrixSensing.random((4, 5), 2, 12, seed=1),  # read once for all
        "own": Own.random((4, 5), 2, 12, seed=1),
    }[kind]
    starts = [gaussian(10.0**-k / 2, k) for k in range(5)]
    counted = []
    for name in ("dormand_prince_step", "chebyshev_step"):
        step = getattr(integration, name)
        monkeypatch.setattr(
            integration,
            name,
            lambda batch, *of, step=step: counted.append(len(batch)) or step(batch, *of),
        )
    batch = gradient_flow(problem, 4, starts, 1e-4)
    assert max(counted) == (most if kind == "completion" else 5)
    monkeypatch.undo()
    for run, start in zip(batch, starts, strict=True):
        alone = gradient_flow(problem, 4, start, 1e-4)
        assert run.n_gradients == alone.n_gradients
        assert distance(run.product, alone.product) < 1e-9


def test_stacked_problems_are_their_single_runs():
    several = [completion(seed=s, shape=(5, 4), m=8 + 2 * s) for s in range(3)]
    mixed = [several[0], FullObservation(several[1].ground_truth), several[2]]
    start = gaussian(0.1, 3)
    for problems in (several, mixed):
        batch = gradient_flow(problems, 2, start, 1e-5)
        assert len({run.time for run in batch}) == 3
        for run, problem in zip(batch, problems, strict=True):
            same_run(run, gradient_flow(problem, 2, start, 1e-5))


def test_problems_and_starts_are_paired():
    problems = [completion(seed=s, shape=(4, 3), m=8) for s in range(2)]
    starts = [gaussian(0.1, 5), gaussian(0.3, 6).factors((4, 3), 2)]
    batch = gradient_flow(problems, 2, starts, 1e-3)
    for run, problem, start in zip(batch, problems, starts, strict=True):
        same_run(run, gradient_flow(problem, 2, start, 1e-3))


def test_list_of_one_gives_a_list():
    problem, start = completion(shape=(4, 3), m=8), gaussian(0.1, 0)
    alone = gradient_flow(problem, 2, start, 1e-2)
    for runs in (
        gradient_flow([problem], 2, start, 1e-2),
        gradient_flow(problem, 2, [start], 1e-2),
    ):
        assert isinstance(runs, list)
        assert len(runs) == 1
        same_run(runs[0], alone)


def test_seed_decides_the_run():
    def run(problem_seed, start_seed):
        problem = MatrixCompletion.random((5, 4), 1, 9, seed=problem_seed)
        return gradient_flow(problem, 3, gaussian(0.1, start_seed), 1e-3)

    first, again = run(0, 0), run(0, 0)
    assert torch.equal(first.product, again.product)
    assert (first.time, first.loss, first.n_gradients) == (
        again.time,
        again.loss,
        again.n_gradients,
    )
    assert distance(run(0, 1).product, first.product) > 1e-4
    assert distance(run(1, 0).product, first.product) > 1e-1


def test_work_is_counted():
    calls = []

    class Counted:
        shape = (4, 3)

        def __init__(self):
            self.inner = completion(shape=(4, 3), m=8)

        def loss_and_gradient(self, W):
            calls.append(len(W))
            return self.inner.loss_and_gradient(W)

    run = gradient_flow(Counted(), 3, gaussian(0.1, 0), None, until_time=400.0)
    # Without a loss to locate every evaluation but one, that of the end, is a gradient.
    assert run.n_gradients == sum(calls)
    assert run.n_steps > 10
    assert run.seconds > 0
    assert run.depth == 3
    assert "reached: depth 3, 4×3, loss" in repr(run)


# --- precision, threads, device -------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_single_precision(several):
    problems = [completion(shape=(5, 4), m=12), MatrixSensing.random((5, 4), 2, 12, seed=1)]
    problem = problems if several else problems[0]
    exact = gradient_flow(problem, 3, gaussian(0.1, 0), 1e-3)
    single = gradient_flow(
        problem, 3, gaussian(0.1, 0), 1e-3, settings=Settings(dtype=torch.float32)
    )
    for a, b in zip(exact, single, strict=True) if several else [(exact, single)]:
        assert a.product.dtype == a.factors[0].dtype == torch.float64
        assert b.product.dtype == b.factors[0].dtype == torch.float32
        assert distance(b.product.double(), a.product) < 1e-3
        assert torch.equal(b.product, b.product.double().float())


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["completion", "sensing", "full", "several"])
def test_gradients_in_single_precision(depth, kind):
    problem = {
        "completion": completion(shape=(12, 9), m=70),
        "sensing": MatrixSensing.random((12, 9), 2, 70, seed=1),
        "full": FullObservation(completion(shape=(12, 9), m=70).ground_truth),
        "several": [completion(seed, (12, 9), 70) for seed in (1, 2, 3)],
    }[kind]
    start = gaussian(1e-2, 0)
    runs = gradient_flow(
        problem, depth, start, 1e-5, settings=Settings(gradient_dtype=torch.float32)
    )
    fine = gradient_flow(problem, depth, start, 1e-5)
    exact = gradient_flow(
        problem, depth, start, 1e-5, settings=Settings(method="dormand-prince", tolerance=1e-9)
    )
    if kind != "several":
        problem, runs, fine, exact = [problem], [runs], [fine], [exact]
    for p, one, other, best in zip(problem, runs, fine, exact, strict=True):
        assert one.status is Status.reached
        assert one.product.dtype == one.factors[0].dtype == torch.float64
        miss, tolerated = distance(one.product, best.product), distance(other.product, best.product)
        assert miss < 2 * tolerated + 2.5e-5  # the tolerance: either may be lucky
        # The end is located in double precision.
        assert float(p.loss(one.product)) == pytest.approx(1e-5, rel=1e-4)
        assert one.loss == pytest.approx(float(p.loss(one.product)), rel=1e-9)


def test_most_gradients_are_in_the_precision_asked_for():
    # The paper's size: its late phase is long, with steps whose rounding could pass for an error.
    problem = MatrixCompletion.random((100, 100), 5, 2000, seed=0)
    seen = []
    original = MatrixCompletion.unchecked_gradient

    def spied(self, W):
        seen.append((W.dtype, self.data.dtype))
        return original(self, W)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MatrixCompletion, "unchecked_gradient", spied)
        coarse = gradient_flow(
            problem, 3, gaussian(1e-2, 0), settings=Settings(gradient_dtype=torch.float32)
        )
        single, seen = seen, []
        fine = gradient_flow(problem, 3, gaussian(1e-2, 0))
    assert all(a == b for a, b in single + seen)
    assert sum(a == torch.float32 for a, _ in single) > 0.5 * coarse.n_gradients
    assert all(a == torch.float64 for a, _ in seen)
    # What single precision rounds off must not pass for an error of the step.
    assert coarse.n_gradients < 1.15 * fine.n_gradients
    assert distance(coarse.product, fine.product) < 1e-5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gradient_dtype": torch.float16}, ValueError, "gradient_dtype must be .*float16"),
        (
            {"gradient_dtype": torch.float64, "dtype": torch.float32},
            ValueError,
            "gradient_dtype must be .*float64 with dtype torch.float32",
        ),
        (
            {"gradient_dtype": torch.float32, "tolerance": 1e-7},
            ValueError,
            "tolerance = 1e-07 is finer .* at least 1e-6",
        ),
        (
            {"dtype": torch.float16},
            ValueError,
            "dtype must be torch.float64 or torch.float32, got torch.float16",
        ),
    ],
)
def test_what_single_precision_cannot_do_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        gradient_flow(completion(), 2, gaussian(0.1, 0), settings=Settings(**options))


def test_a_loss_that_single_gradients_do_not_resolve_is_refused():
    coarse, words = Settings(gradient_dtype=torch.float32), "until_loss = 1e-12 is less than"
    with pytest.raises(ValueError, match=f"{words} .* leave gradient_dtype out"):
        gradient_flow(completion(), 2, gaussian(0.1, 0), 1e-12, settings=coarse)


def test_a_problem_that_has_one_precision_is_refused_another():
    class Plain:
        shape = (3, 3)

        def loss_and_gradient(self, W):
            return W.square().sum((-2, -1)), 2 * W

        def take(self, indices):
            return self

    with pytest.raises(TypeError, match=r"method to\(device, dtype\)"):
        gradient_flow(Plain(), 2, gaussian(0.1, 0), settings=Settings(gradient_dtype=torch.float32))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_on_the_graphics_card():
    problem = completion()
    here = gradient_flow(problem, 3, gaussian(0.1, 0), 1e-4)
    there = gradient_flow(problem, 3, gaussian(0.1, 0), 1e-4, settings=Settings(device="cuda"))
    assert there.product.device.type == "cuda"
    assert distance(there.product.cpu(), here.product) < 1e-8


def test_device_is_honoured():
    # The device "meta" has shapes and no numbers: that it is refused shows that it was used.
    with pytest.raises((NotImplementedError, RuntimeError), match=r"meta|Meta"):
        gradient_flow(completion(), 3, gaussian(0.1, 0), 1e-4, settings=Settings(device="meta"))


def test_threads_are_as_before():
    before = torch.get_num_threads()
    seen = []
    try:
        torch.set_num_threads(2)
        problem = completion(shape=(4, 3), m=8)
        watch = Record(
            [0.0], measures={"threads": lambda W: seen.append(torch.get_num_threads()) or 0}
        )
        gradient_flow(problem, 2, gaussian(0.5, 0), 1e-1, record=watch)
        assert seen == [1]
        assert torch.get_num_threads() == 2
        gradient_flow(
            MatrixCompletion.from_entries([0], [0], [1.0], (300, 2)),
            2,
            gaussian(0.5, 0),
            1e2,
            record=watch,
        )
        assert seen == [1, 2]
        with pytest.raises(ZeroDivisionError):
            gradient_flow(problem, 2, record=Record([0.0], measures={"bad": lambda W: 1 // 0}))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_starts_are_left_alone():
    factors = gaussian(0.1, 0).factors((4, 3), 3)
    tracked = [W.clone().requires_grad_() for W in factors]
    problem = completion(shape=(4, 3), m=8)
    first = gradient_flow(problem, start=tracked, until_loss=1e-2)
    assert all(torch.equal(a, b) for a, b in zip(factors, tracked, strict=True))
    assert torch.equal(first.product, gradient_flow(problem, 3, gaussian(0.1, 0), 1e-2).product)
    assert not first.product.requires_grad


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("method", ["automatic", "dormand-prince"])
def test_flow_to_the_zero_matrix_rests_there(depth, method):
    problem = FullObservation(torch.zeros(3, 2, dtype=torch.float64))
    start = [torch.ones(shape, dtype=torch.float64) for shape in factor_shapes((3, 2), depth)]
    run = gradient_flow(
        problem, start=start, until_loss=None, until_time=1e4, settings=Settings(method=method)
    )
    assert run.status is Status.reached
    assert run.time == 1e4
    # At depth 1 by the factor exp(-t): below what double precision can tell from zero.
    assert run.loss < {1: 1e-300, 2: 1e-9, 3: 1e-6}[depth]
    assert run.loss == pytest.approx(0.5 * float(run.product.square().sum()), rel=1e-12, abs=1e-300)


class ByAutograd:
    """A problem of a user's, whose gradient autograd finds."""

    def __init__(self, problem):
        self.problem, self.shape = problem, problem.shape

    def loss_and_gradient(self, W):
        W = W.detach().requires_grad_()
        loss = self.problem.loss_and_gradient(W)[0]
        return loss.detach(), torch.autograd.grad(loss.sum(), W)[0]


def test_gradients_of_a_users_problem_may_come_from_autograd():
    problem = completion(shape=(4, 3), m=8)
    arguments = {"depth": 3, "start": gaussian(0.1, 0), "until_loss": 1e-3}
    arguments["settings"] = Settings(tolerance=1e-8)
    expected = gradient_flow(problem, **arguments).product
    found = gradient_flow(ByAutograd(problem), **arguments).product
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    mixed = gradient_flow([problem, ByAutograd(problem)], **arguments)
    for run in mixed:
        torch.testing.assert_close(run.product, expected, rtol=1e-9, atol=1e-9)


class Regularized(MatrixCompletion):
    """Derived from ours by a user, with a term more, and autograd for it."""

    def loss_and_gradient(self, W):
        loss, gradient = super().loss_and_gradient(W)
        with torch.enable_grad():
            W = W.detach().requires_grad_()
            term = 0.01 * W.pow(4).sum((-2, -1))
            of_term = torch.autograd.grad(term.sum(), W)[0]
        return loss + term.detach(), gradient + of_term


def test_a_users_problem_may_be_derived_from_ours():
    plain = completion(shape=(4, 3), m=8)
    problem = Regularized(plain.mask, plain.data, reduction="mean")
    start = gaussian(0.5, 1).factors((4, 3), 2)
    run = gradient_flow(
        problem, start=start, until_loss=None, until_time=3.0, settings=Settings(tolerance=1e-9)
    )
    exact = factor_flow(lambda W: problem.loss_and_gradient(W)[1], start, [0.0, 3.0])[-1]
    torch.testing.assert_close(run.product, product_matrix(exact), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("depth", [1, 3])
def test_what_comes_out_may_be_used_with_autograd(depth):
    def slope(W):
        W = W.clone().requires_grad_()
        return torch.autograd.grad(W.square().sum(), W)[0]

    record = Record([0.0, 1.0], singular_values=2, measures={"slope": slope}, factors=True)
    run = gradient_flow(completion(shape=(4, 3), m=8), depth, gaussian(0.1, 0), 1e-3, record=record)
    assert run.status is Status.reached
    out = [run.product, *run.factors, *run.recorded_factors[1], run.times, run.losses]
    out += [run.singular_values, run.measured["slope"]]
    for found in out:
        found.grad = None  # at depth 1 the product matrix is the factor
        found.requires_grad_().square().sum().backward()
        torch.testing.assert_close(found.grad, 2 * found.detach())
    torch.testing.assert_close(
        run.measured["slope"][0], 2 * product_matrix(run.recorded_factors[0])
    )


def test_no_warning_where_all_is_well():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        gradient_flow(completion(shape=(4, 3), m=8), 3, gaussian(0.1, 0), 1e-3)
    assert not seen


def test_narrow_hidden_layer_is_said():
    problem = completion(shape=(4, 3), m=8)
    with pytest.warns(UserWarning, match="hidden = 2 is below"):
        run = gradient_flow(problem, 2, gaussian(0.1, 0), None, until_time=1.0, hidden=2)
    assert int(torch.linalg.matrix_rank(run.product)) == 2
    with pytest.warns(UserWarning, match="hidden = 2 is below"):
        gradient_flow(problem, start=run.factors, until_loss=None, until_time=1.0)


# --- bad input ------------------------------------------------------------------------------------

P = completion(shape=(4, 3), m=8)
BAD = {
    "no end": ({"until_loss": None}, ValueError, "until_loss and until_time are both None: give"),
    "loss 0": ({"until_loss": 0.0}, ValueError, "until_loss must be a positive number, got 0.0"),
    "loss NaN": ({"until_loss": math.nan}, ValueError, "until_loss must be a positive.*got nan"),
    "loss as text": ({"until_loss": "1e-6"}, TypeError, "until_loss must be a number, got '1e-6'"),
    "time": ({"until_time": -1.0}, ValueError, "until_time must be a positive number, got -1.0"),
    "endless": ({"until_time": math.inf}, ValueError, "until_time must be a positive.*got inf"),
    "callback": ({"callback": 0.9}, TypeError, "callback must be a function of loss.*got 0.9"),
    "callback of several": (
        {"callback": print, "start": [gaussian(0.1, s) for s in range(3)]},
        ValueError,
        "callback is for one run, got a batch of 3",
    ),
    "settings": ({"settings": {"tolerance": 1e-3}}, TypeError, "settings must be Settings.*got {"),
    "depth": ({"depth": 0}, ValueError, "depth must be at least 1, got 0"),
    "depth's type": ({"depth": "3"}, TypeError, "depth must be a whole number, got '3'"),
    "hidden": ({"hidden": 0}, ValueError, "hidden must be at least 1, got 0"),
    "problem": ({"problem": torch.eye(3)}, TypeError, "problem must be a Problem such as Matrix"),
    "no problem": ({"problem": []}, ValueError, "problem and start must not be empty"),
    "start": (
        {"start": "gaussian"},
        TypeError,
        "start must be a Start such as gaussian.*'gaussian'",
    ),
    "no start": ({"start": []}, ValueError, "problem and start must not be empty"),
    "start of arrays": (
        {"start": [np.eye(3), np.eye(3)]},
        TypeError,
        "start must be a Start such as gaussian",
    ),
    "start of vectors": ({"start": [torch.ones(3)]}, TypeError, "each a matrix; got"),
    "factors do not chain": (
        {"start": [torch.ones(2, 3), torch.ones(4, 3)]},
        ValueError,
        r"start has factors of shapes \[\(2, 3\), \(4, 3\)\].*list them first to last",
    ),
    "factors the wrong way round": (
        {"start": [torch.ones(4, 3), torch.ones(3, 3)]},
        ValueError,
        r"not of the problem's shape \(4, 3\); list them first to last",
    ),
    "NaN in the start": (
        {"start": [torch.full((4, 3), math.nan)]},
        ValueError,
        "start has NaN or infinite entries",
    ),
    "numbers of problems and starts": (
        {"problem": [P, P], "start": [gaussian(0.1, s) for s in range(3)]},
        ValueError,
        "problem has 2 members, but the batch has 3; give one, or 3",
    ),
    "shapes of problems": (
        {"problem": [P, completion(shape=(3, 4), m=8)]},
        ValueError,
        "the same shapes|one shape",
    ),
    "shapes of starts": (
        {"start": [[torch.ones(4, 3)], [torch.ones(3, 3), torch.ones(4, 3)]]},
        ValueError,
        "starts of a batch must have factors of the same shapes",
    ),
}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 0}, "tolerance must be a positive number, got 0"),
        ({"tolerance": -1e-3}, "tolerance must be.*got -0.001"),
        ({"max_steps": 0}, "max_steps must be a positive number, got 0"),
        ({"max_gradients": 0}, "max_gradients must be a positive number"),
        ({"method": "euler"}, """"dormand-prince", got 'euler'"""),
    ],
)
def test_a_setting_out_of_range_is_refused_where_it_is_made(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_before_any_computing(case, monkeypatch):
    arguments, error, message = BAD[case]

    def computed(*_):
        raise AssertionError("a step was made")

    monkeypatch.setattr(integration, "dormand_prince_step", computed)
    whole = {"problem": P, "start": gaussian(0.1, 0)} | arguments
    with pytest.raises(error, match=message):
        gradient_flow(**whole)
