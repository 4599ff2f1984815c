"""The engine at every scale: modes that wait, clocks at small losses, what it says it cannot."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mpmath import mp, quad
from problems_with_answers import aligned
from reference_flow import factor_flow
from scipy.optimize import brentq

from dmf_utils.factorization.initialization import balanced, gaussian, identity
from dmf_utils.factorization.norms import nuclear_norm
from dmf_utils.factorization.product import balancedness_gap, product_matrix
from dmf_utils.flow import integration
from dmf_utils.flow.descent import gradient_descent
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.optimizers import train
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.step_size import tolerated_error
from dmf_utils.flow.trajectory import Record, Status
from dmf_utils.flow.waiting import broken_law, lowest_level, what_waits
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.sensing import MatrixSensing

DOUBLE = torch.float64


def time_to_half(depth, goal, start):
    """Of ``ds/dt = N s^(2-2/N) (goal - s)``, by quadrature in ``ln s`` with 30 digits."""
    with mp.workdps(30):
        N, goal, start = mp.mpf(depth), mp.mpf(goal), mp.mpf(start)

        def per_log(x):
            return 1 / (N * mp.exp(x * (1 - 2 / N)) * (goal - mp.exp(x)))

        places = mp.linspace(mp.log(start), mp.log(goal / 2), 40)
        return float(quad(per_log, places))


def orthogonal(rows, columns, seed):
    drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, columns)))
    return torch.linalg.qr(drawn)[0]


def waiting(depth, goals, start, shape=None, hidden=None):
    """A turned target, all of whose singular values are to be learned from one `start`."""
    k = len(goals)
    shape, hidden = shape or (k, k), hidden or k
    U, V = orthogonal(shape[0], k, 1), orthogonal(shape[1], k, 2)
    target = U @ torch.diag(torch.tensor(goals, dtype=DOUBLE)) @ V.T
    return FullObservation(target), aligned([start] * k, U, V, depth, hidden)


def half_times(depth, goals, start, within, **options):
    """Whether each singular value passes half of its goal within a share of its exact time."""
    shape, hidden = options.pop("shape", None), options.pop("hidden", None)
    problem, factors = waiting(depth, goals, start, shape, hidden)
    exact = [time_to_half(depth, goal, start) for goal in goals]
    times = sorted(t * (1 + off) for t in exact for off in (-within, within))
    record = Record(times, singular_values=len(goals))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "hidden = ")
        run = gradient_flow(
            problem,
            start=factors,
            until_loss=None,
            until_time=times[-1],
            record=record,
            settings=Settings(**options),
        )
    assert run.status is Status.reached
    for r, (goal, t) in enumerate(zip(goals, exact, strict=True)):
        before, after = (
            float(run.singular_values[times.index(t * (1 + off)), r]) for off in (-within, within)
        )
        assert before < goal / 2 < after
    return run


# --- modes that wait ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "goals", "start", "within"),
    [
        (2, (10.0, 1.0), 1e-4, 5e-4),
        (2, (10.0, 1.0), 1e-12, 5e-4),
        (2, (7.0, 3.0, 0.5), 1e-16, 5e-4),
        (2, (10.0, 1.0), 1e-24, 2e-3),
        (2, (1e3, 1.0), 1e-14, 2e-3),
        (2, (1e5, 1.0), 1e-20, 2e-3),  # in few steps: what each one rounds off would add up
        (3, (10.0, 1.0), 1e-6, 5e-4),
        (3, (5.0, 3.0, 1.0), 1e-7, 5e-4),
        (4, (10.0, 1.0), 1e-4, 5e-4),
        (4, (6.0, 1.2), 1e-10, 5e-4),  # by steps of more than 256 stages
        (5, (4.0, 2.0), 1e-3, 5e-4),
        (6, (2.0, 1.0), 1e-3, 5e-4),
        # Linearly implicit: the stabilized method would take from 300,000 gradients to millions.
        (3, (300.0, 1.0), 1e-12, 1e-3),
        (3, (10.0, 1.0), 1e-24, 1e-3),
        (3, (1e4, 1.0), 1e-24, 1e-3),
        (4, (10.0, 1.0), 1e-24, 1e-3),
        (5, (50.0, 1.0), 1e-10, 1e-3),
        (6, (10.0, 1.0), 1e-12, 1e-3),
        (3, (100.0, 10.0, 1.0), 1e-12, 1e-3),
    ],
)
def test_waiting_modes_are_learned_in_time(depth, goals, start, within):
    half_times(depth, goals, start, within)


@pytest.mark.parametrize("start", [1e-8, 1e-20, 1e-24])
def test_single_gradients_do_not_seed_a_mode(start):
    half_times(2, (10.0, 1.0), start, 2e-3, gradient_dtype=torch.float32)


def test_waiting_modes_by_dormand_prince_alone():
    half_times(2, (10.0, 1.0), 1e-12, 1e-3, method="dormand-prince")


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    depth=st.integers(2, 5),
    exponent=st.integers(-6, 6),
    ratio=st.floats(1.5, 8),
    smallness=st.floats(2, 12),
    more=st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 2)),
)
def test_times_of_learning_at_every_scale(depth, exponent, ratio, smallness, more):
    goals = (ratio * 10.0**exponent, 10.0**exponent)
    start = 10.0 ** (exponent - smallness / max(1, depth - 1))
    shape, hidden = (2 + more[0], 2 + more[1]), 2 + more[2]
    half_times(depth, goals, start, 5e-3, shape=shape, hidden=hidden)


DEPTH_4 = pytest.param(4, 1e-4, marks=pytest.mark.slow)  # its reference takes a minute


@pytest.mark.parametrize(("depth", "norm"), [(2, 1e-6), (3, 1e-5), DEPTH_4])
def test_recorded_singular_values_of_a_completion(depth, norm):
    problem, start = MatrixCompletion.random((12, 10), 2, 70, seed=1), gaussian(norm, 1)
    end = gradient_flow(problem, depth, start, 1e-5).time
    times = np.linspace(0, end, 1501)
    exact = factor_flow(problem.gradient, start.factors((12, 10), depth), list(times))
    singular = torch.stack([torch.linalg.svdvals(product_matrix(at)) for at in exact])
    for gradient_dtype in (torch.float64, torch.float32):
        run = gradient_flow(
            problem,
            depth,
            start,
            None,
            until_time=end,
            record=Record(times, singular_values=10),
            settings=Settings(gradient_dtype=gradient_dtype),
        )
        off = (run.singular_values - singular).abs().max()
        assert float(off) < 5e-3 * float(singular.max())


def test_a_batch_follows_what_waits_as_single_runs_do():
    made = [waiting(2, (10.0, 1.0), start) for start in (1e-6, 1e-14, 1e-24)]
    record = Record([5.0, 20.0], singular_values=2)
    options = {"until_loss": 1e-8, "record": record}
    together = gradient_flow(made[0][0], start=[Given(one) for _, one in made], **options)
    for run, (problem, factors) in zip(together, made, strict=True):
        alone = gradient_flow(problem, start=factors, **options)
        assert run.time == pytest.approx(alone.time, rel=1e-9)
        torch.testing.assert_close(run.product, alone.product, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(run.singular_values, alone.singular_values, rtol=1e-6, atol=0)


class Given:
    """A start whose factors are given."""

    def __init__(self, factors):
        self.given = factors

    def factors(self, shape, depth, hidden=None):
        return self.given


# --- clocks ---------------------------------------------------------------------------------------

DIAGONAL = torch.diag(torch.tensor([3.0, 2.0, 1.5, 1.0], dtype=DOUBLE))


@pytest.mark.parametrize("method", ["automatic", "dormand-prince"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("share", [1e-2, 1e-10, 1e-14, 1e-18, 1e-24, 1e-28])
def test_clock_of_a_single_rate(share, scale, method):
    first = 8.125 * scale**2
    zero = [torch.zeros(4, 4, dtype=DOUBLE)]
    run = gradient_flow(
        FullObservation(scale * DIAGONAL),
        start=zero,
        until_loss=first * share,
        settings=Settings(method=method),
    )
    assert run.status is Status.reached
    assert run.time == pytest.approx(0.5 * math.log(first / run.loss), rel=1e-3)


def test_loss_at_a_time_below_the_tolerance():
    zero = [torch.zeros(4, 4, dtype=DOUBLE)]
    run = gradient_flow(FullObservation(DIAGONAL), start=zero, until_loss=None, until_time=20.0)
    assert run.loss == pytest.approx(8.125 * math.exp(-40), rel=0.03)


@pytest.mark.parametrize("until_loss", [1e-6, 1e-12, 1e-20])
@pytest.mark.parametrize(("shape", "m"), [((6, 5), 12), ((6, 5), 28), ((4, 9), 30)])
def test_clock_of_many_rates(shape, m, until_loss):
    problem = MatrixSensing.random(shape, 2, m, seed=0)
    rates, basis = torch.linalg.eigh(problem.operator @ problem.operator.T * 2 / m)
    parts = (basis.T @ problem.values).square() / m

    def excess(t):
        return math.log(float((parts * torch.exp(-2 * rates * t)).sum()) / until_loss)

    run = gradient_flow(problem, 1, [torch.zeros(shape, dtype=DOUBLE)], until_loss)
    assert run.status is Status.reached
    assert run.time == pytest.approx(brentq(excess, 0, 10 * run.time, rtol=1e-13), rel=1e-3)


def test_a_loss_below_rounding_is_refused_with_the_smallest_one():
    zero = [torch.zeros(4, 4, dtype=DOUBLE)]
    with pytest.warns(RuntimeWarning, match=r"unresolved.*smallest loss whose time .* (\S+);"):
        run = gradient_flow(FullObservation(DIAGONAL), start=zero, until_loss=1e-31)
    assert run.status is Status.unresolved
    smallest = float(run.detail.split()[-1])
    assert 1e-31 < smallest < 1e-28
    again = gradient_flow(FullObservation(DIAGONAL), start=zero, until_loss=1.1 * smallest)
    assert again.status is Status.reached
    assert again.time == pytest.approx(0.5 * math.log(8.125 / again.loss), rel=2e-3)


def test_an_error_is_judged_by_the_motion_and_by_the_state():
    options = {"stages": None, "is_faster": False, "is_last": False}
    assert tolerated_error(1e-4, 1.0, 1.0, **options) == 1e-4
    assert tolerated_error(1e-4, 1.0, 1e-6, **options) == pytest.approx(2e-9, rel=1e-6)
    assert tolerated_error(1e-4, 1.0, 0.0, **options) < 1e-14
    assert tolerated_error(1e-4, 1.0, 1.0, **options | {"is_last": True}) == 0.3e-4


# --- standstill -----------------------------------------------------------------------------------


class OfAUser:
    """A problem whose Hessian the engine does not know."""

    def __init__(self, problem):
        self.shape, self.loss_and_gradient = problem.shape, problem.loss_and_gradient


LARGE_AND_SMALL = FullObservation(torch.diag(torch.tensor([1e4, 1.0, 0, 0], dtype=DOUBLE)))


@pytest.mark.parametrize(
    ("depth", "norm", "goals"),
    [(4, 1e-12, (1e4, 1.0)), (3, 1e-28, (10.0, 1.0)), (5, 1e-13, (1e3, 1.0))],
)
def test_what_waits_is_not_taken_for_rest(depth, norm, goals):
    problem = OfAUser(FullObservation(torch.diag(torch.tensor([*goals, 0, 0], dtype=DOUBLE))))
    with pytest.warns(RuntimeWarning, match=r"'step limit'.*nothing moves before time"):
        run = gradient_flow(problem, depth, gaussian(norm, 0), None, until_time=1e30)
    assert run.time < 1e30
    # What is said is a bound: a run that ends before it is proved to be at rest.
    before = float(run.detail.split("time ")[1].split(",")[0])
    rest = gradient_flow(problem, depth, gaussian(norm, 0), None, until_time=0.9 * before)
    assert (rest.status, rest.time) == (Status.reached, 0.9 * before)
    # The small mode, alone: it is not learned before that time, though soon after.
    smallest = float(torch.linalg.svdvals(run.product)[1])
    assert before < time_to_half(depth, goals[1], smallest) < 1e4 * before


def test_gradients_that_do_not_reach_the_next_motion_are_not_made():
    target = torch.diag(torch.tensor([300.0, 1.0, 0, 0], dtype=DOUBLE))
    problem = OfAUser(FullObservation(target))
    limit = Settings(max_steps=10**7, max_gradients=20_000)
    with pytest.warns(RuntimeWarning, match=r"'step limit'.*and the gradients left end sooner"):
        run = gradient_flow(problem, 3, gaussian(1e-15, 3), None, until_time=1e9, settings=limit)
    assert run.n_gradients < 10_000


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize(("depth", "norm", "seed"), [(3, 1e-7, 4), (4, 1e-5, 1)])
def test_what_is_recorded_while_a_mode_is_learned_is_right(depth, norm, seed, precision):
    # After a long wait a value rises within a thousandth of the time: a clock that is 2e-4 wrong
    # shows as one or two per cent there.
    problem, start = MatrixCompletion.random((20, 20), 3, 200, seed), gaussian(norm, seed)
    exactly = Settings(tolerance=1e-7)
    end = gradient_flow(problem, depth, start, 1e-6, settings=exactly).time

    def followed(times, settings):
        record = Record(times, singular_values=3)
        return gradient_flow(
            problem, depth, start, None, until_time=end, record=record, settings=settings
        ).singular_values

    even = np.linspace(0, end, 4001)[1:]
    moved = np.abs(np.diff(followed(even, exactly).numpy(), axis=0)).sum(1)
    way = np.concatenate([[0], np.cumsum(moved)]) + 1e-9 * np.arange(len(even))
    times = np.unique(np.interp(np.linspace(0, way[-1], 600), way, even))
    exact, found = followed(times, exactly), followed(times, Settings(gradient_dtype=precision))
    assert float((found - exact).abs().max()) < 5e-3 * float(exact.max())


def test_a_deep_wait_costs_few_gradients():
    problem = FullObservation(torch.diag(torch.tensor([10.0, 1.0, 0, 0], dtype=DOUBLE)))
    run = gradient_flow(problem, 6, gaussian(1e-12, 0), 1e-4)
    assert run.status is Status.reached
    assert run.n_gradients < 30_000
    assert float(torch.linalg.svdvals(run.product)[1]) > 0.9


def test_runs_that_wait_in_a_batch_are_those_that_wait_alone():
    problem = FullObservation(torch.diag(torch.tensor([10.0, 1.0, 0, 0], dtype=DOUBLE)))
    starts = [gaussian(1e-12, 0), gaussian(1e-2, 2), gaussian(1e-11, 1)]
    together = gradient_flow(problem, 4, starts, 1e-4)
    for start, run in zip(starts, together, strict=True):
        alone = gradient_flow(problem, 4, start, 1e-4)
        assert run.status is alone.status is Status.reached
        assert run.n_gradients == alone.n_gradients
        torch.testing.assert_close(run.product, alone.product, rtol=0, atol=1e-9)


def test_a_mode_that_waits_far_below_large_ones_is_learned():
    problem, factors = waiting(2, (1e3, 1.0), 1e-18)
    run = gradient_flow(problem, start=factors, until_loss=1e-6)
    assert run.status is Status.reached
    assert float(torch.linalg.svdvals(run.product)[1]) > 0.99
    expected = time_to_half(2, 1.0, 1e-18) + 0.5 * math.log(1 / math.sqrt(2e-6))
    assert run.time == pytest.approx(expected, rel=5e-3)


def test_rest_is_proved_where_nothing_waits():
    for depth in (2, 3):
        at = [torch.diag(torch.tensor([2.0, 1.0], dtype=DOUBLE)) for _ in range(depth)]
        fitted = FullObservation(product_matrix(at))
        assert what_waits(fitted, at, 1e-14).time == math.inf
        more = FullObservation(product_matrix(at) + torch.diag(torch.tensor([0.0, 3.0])))
        assert what_waits(more, at, 10.0).time == 0.0  # it moves
        zero = [torch.diag(torch.tensor([2.0, 0.0], dtype=DOUBLE)) for _ in range(depth)]
        saddle = FullObservation(torch.diag(torch.tensor([2.0**depth, 1.0], dtype=DOUBLE)))
        assert what_waits(saddle, zero, 1e-14).time == math.inf
        small = [torch.diag(torch.tensor([2.0, 1e-9], dtype=DOUBLE)) for _ in range(depth)]
        time = what_waits(saddle, small, 1e-9 ** (depth - 1)).time
        exact = math.log(2e-3 / 1e-9) if depth == 2 else 1e9 - 1 / 2e-3
        assert time == pytest.approx(exact, rel=1e-6)


def test_what_rounding_decides_is_said():
    problem, factors = waiting(2, (10.0, 1.0), 1e-40)
    with pytest.warns(RuntimeWarning, match="'unresolved'.*smaller than rounding"):
        run = gradient_flow(problem, start=factors, until_loss=1e-6)
    assert run.status is Status.unresolved
    # The same along the axes is exact, to the last of these scales.
    axes = torch.diag(torch.tensor([10.0, 1.0], dtype=DOUBLE))
    tiny = [1e-100 * torch.eye(2, dtype=DOUBLE)] * 2
    run = gradient_flow(FullObservation(axes), start=tiny, until_loss=1e-6)
    assert run.status is Status.reached
    expected = time_to_half(2, 1.0, 1e-200) + 0.5 * math.log(1 / math.sqrt(2e-6))
    assert run.time == pytest.approx(expected, rel=5e-3)


def test_level_of_what_waits():
    factors = [torch.diag(torch.tensor([1.0, 0.5, 1e-6, 2e-6, 0.0], dtype=DOUBLE))] * 2
    assert lowest_level(factors) == pytest.approx(math.sqrt(10) * 1e-6)
    assert lowest_level([torch.eye(3, dtype=DOUBLE)]) == pytest.approx(math.sqrt(3))
    assert lowest_level([torch.zeros(3, 2, dtype=DOUBLE)]) == 0.0


# --- what the flow conserves ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "until_loss"), [(2, 1e-3), (3, 1e-3), (4, 1e-3), (2, 1e-4), (3, 1e-4)]
)
def test_two_by_two_keeps_the_sign_of_its_determinant(depth, until_loss):
    mask = torch.tensor([[False, True], [True, True]])
    off_diagonal = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE)
    problem = MatrixCompletion(mask, off_diagonal, reduction="half_sum")
    run = gradient_flow(problem, depth, identity(norm=0.1), until_loss)
    assert run.status is Status.reached
    e = (
        math.sqrt(1 + 8 * until_loss) - 1
    ) / 2  # Razin and Cohen's bound, where the determinant is > 0
    assert float(run.product[0, 0]) > 0.99 * (1 - e) ** 1.5 / math.sqrt(e)


def test_a_broken_law_is_named():
    start = balanced(1.0, 3).factors((4, 4), 3)
    assert broken_law(start, start, 1e-5) == ""
    turned = [start[0], start[1], start[2] @ torch.diag(torch.tensor([1, 1, 1, -1.0]).double())]
    assert "sign of the determinant" in broken_law(start, turned, 1e-6)
    longer = [start[0], 1.3 * start[1], start[2]]
    assert "W_2ᵀW_2 - W_1W_1ᵀ" in broken_law(start, longer, 1e-6)
    # From a start that is not balanced the determinant may change its sign.
    free = [W + 0.1 * j * torch.eye(4, dtype=DOUBLE) for j, W in enumerate(start)]
    assert float(balancedness_gap(free)) > 0.01
    flipped = [free[0], free[1], torch.diag(torch.tensor([1, 1, 1, -1.0]).double()) @ free[2]]
    assert broken_law(free, flipped, 1e-6) == ""


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
@pytest.mark.parametrize("hidden", [None, 9])
@pytest.mark.parametrize("start", [balanced(1e-1, 0), gaussian(1e-1, 0)], ids=["balanced", "free"])
def test_no_law_is_broken_by_an_ordinary_run(start, hidden, tolerance):
    for shape in ((5, 5), (4, 7), (8, 3)):
        problem = MatrixCompletion.random(shape, 2, 20, seed=1)
        for depth in (2, 3):
            run = gradient_flow(
                problem, depth, start, 1e-3, hidden=hidden, settings=Settings(tolerance=tolerance)
            )
            assert run.status is Status.reached


@pytest.mark.parametrize(("shape", "hidden"), [((4, 7), None), ((8, 3), None), ((3, 3), 6)])
def test_a_broken_law_is_named_in_every_shape(shape, hidden):
    start = balanced(1.0, 3).factors(shape, 3, hidden)
    assert broken_law(start, start, 1e-5) == ""
    for j in range(3):
        changed = [W * (1.2 if i == j else 1.0) for i, W in enumerate(start)]
        assert "which the flow conserves" in broken_law(start, changed, 1e-5)


def test_a_run_that_breaks_a_law_is_not_reached(monkeypatch):
    original = integration.dormand_prince_step

    def wrong(*arguments):
        step = original(*arguments)
        for state in step.states:
            state[0] += 0.05  # of one factor alone
        return step

    monkeypatch.setattr(integration, "dormand_prince_step", wrong)
    problem = FullObservation(DIAGONAL)
    with pytest.warns(RuntimeWarning, match="'unresolved'.*which the flow conserves"):
        run = gradient_flow(problem, 2, identity(1.0), None, until_time=1.0)
    assert run.status is Status.unresolved


# --- descent --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "is_stable"), [(0.45, True), (0.55, False)])
def test_descent_says_when_its_step_is_beyond_stability(rate, is_stable):
    # At depth 2 and W = 2 the largest curvature is 2·2 = 4: the limit is a rate of 0.5.
    problem = FullObservation(torch.tensor([[2.0]], dtype=DOUBLE))
    at = [torch.full((1, 1), math.sqrt(2) + 1e-4, dtype=DOUBLE)] * 2
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run = gradient_descent(problem, start=at, until_loss=1e-5, learning_rate=rate)
    assert run.status is Status.reached
    assert bool(run.detail) is not is_stable
    assert bool(seen) is not is_stable
    if not is_stable:
        assert "2.2 at the end, beyond 2" in run.detail


def test_normalized_descent_that_cannot_settle_says_so():
    # Its steps grow as the gradient falls, up to 2 over the curvature, here 4: there it hops.
    problem = FullObservation(torch.tensor([[2.0]], dtype=DOUBLE))
    at = [torch.full((1, 1), math.sqrt(2) + 1e-3, dtype=DOUBLE)] * 2
    options = {"start": at, "until_loss": 1e-6, "normalized": True, "max_steps": 2000}
    assert gradient_descent(problem, learning_rate=1e-4, **options).detail == ""
    with pytest.warns(RuntimeWarning, match=r"'step limit'.*curvature is 2.*limit of stability"):
        run = gradient_descent(problem, learning_rate=1e-2, **options)
    assert float(run.detail.split(" is ")[1].split()[0]) == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    ("momentum", "decay", "rate", "is_stable"),
    [(0.0, 0.0, 0.9, True), (0.0, 0.0, 1.1, False), (0.5, 0.0, 1.1, True), (0.0, 0.5, 0.9, False)],
)
def test_training_says_when_its_step_is_beyond_stability(momentum, decay, rate, is_stable):
    mask = torch.ones(1, 1, dtype=torch.bool)
    problem = MatrixCompletion(mask, torch.ones(1, 1, dtype=DOUBLE))  # curvature 2 at depth 1
    options = {"momentum": momentum, "weight_decay": decay, "until_loss": 5.0}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run = train([problem], 1, [gaussian(0.1, 0)], learning_rate=rate, **options)[0]
    assert run.reached
    assert bool(run.detail) is not is_stable
    assert bool(seen) is not is_stable


# --- input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-13, 1e13])
def test_single_gradients_at_extreme_scales(scale):
    problem = MatrixCompletion.random((6, 5), 2, 24, seed=0)
    scaled = MatrixCompletion(problem.mask, scale * problem.values)
    one = gradient_flow(
        problem, 2, gaussian(1e-2, 0), 1e-6, settings=Settings(gradient_dtype=torch.float32)
    )
    run = gradient_flow(
        scaled,
        2,
        gaussian(1e-2 * scale, 0),
        1e-6 * scale**2,
        settings=Settings(gradient_dtype=torch.float32),
    )
    assert run.status is Status.reached
    assert run.time * scale == pytest.approx(one.time, rel=1e-4)
    torch.testing.assert_close(run.product / scale, one.product, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex128])
def test_precisions_that_resolve_no_flow_are_refused(dtype):
    problem = FullObservation(DIAGONAL)
    words = r"dtype must be torch\.float64 or torch\.float32"
    with pytest.raises(ValueError, match=words):
        gradient_flow(problem, 2, settings=Settings(dtype=dtype))
    with pytest.raises(ValueError, match=words):
        gradient_descent(problem, 2, learning_rate=0.1, dtype=dtype)
    with pytest.raises(TypeError, match="W must be"):
        nuclear_norm(torch.eye(2).to(dtype))


def test_complex_factors_are_refused():
    with pytest.raises(TypeError, match="complex"):
        gradient_flow(FullObservation(DIAGONAL), start=[1j * torch.eye(4)] * 2)


def test_problems_keep_no_array_of_the_caller():
    A, y, truth = torch.randn(3, 2, 2, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE), torch.eye(2)
    truth = truth.double()
    problems = [
        MatrixSensing(A, y, truth),
        MatrixCompletion(torch.ones(2, 2, dtype=torch.bool), A[0], truth),
    ]
    W = torch.ones(2, 2, dtype=DOUBLE)
    before = [(float(p.loss(W)), float(p.error(W))) for p in problems]
    A *= 2
    y *= 3
    truth *= 4
    assert [(float(p.loss(W)), float(p.error(W))) for p in problems] == before


def test_every_pair_of_factors_is_conserved_from_a_small_start():
    problem, factors = waiting(3, (5.0, 1.0), 1e-6, shape=(4, 3), hidden=3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "hidden = ")
        run = gradient_flow(problem, start=factors, until_loss=1e-8)
    for lower, upper in pairwise(run.factors):
        assert float((upper.T @ upper - lower @ lower.T).norm()) < 1e-3
