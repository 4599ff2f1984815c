"""One step of either method: order, stability, error estimate, interpolant and curvature."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.chebyshev import Chebyshev
from reference_flow import factor_flow
from scipy.integrate import RK45

from dmf_utils.factorization.initialization import gaussian
from dmf_utils.factorization.product import factor_gradients, product_matrix
from dmf_utils.flow import dormand_prince
from dmf_utils.flow.batch import prepare
from dmf_utils.flow.chebyshev import (
    MAX_STAGES,
    MOST_STAGES,
    chebyshev_stages,
    chebyshev_step,
    fewer_stages,
    longest_chebyshev_step,
)
from dmf_utils.flow.curvature import spectral_radius
from dmf_utils.flow.dormand_prince import dormand_prince_step
from dmf_utils.flow.step import Workspace
from dmf_utils.flow.step_size import FASTEST_GROWTH, StepControl
from dmf_utils.flow.trajectory import Record, Recorder
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.sensing import MatrixSensing


class Batch:
    """A batch with its states, gradients and scratch memory at time 0."""

    def __init__(self, problem, depth, start, hidden=None):
        self.batch, self.states, _ = prepare(problem, depth, start, hidden, "cpu", torch.float64)
        self.gradients = torch.empty_like(self.states)
        self.losses = self.batch.gradient(self.states, out=self.gradients)
        room = len(self.batch) + 2, 9, self.states.shape[1]
        self.workspace = Workspace(self.batch, self.states.new_full(room, 99.0))

    def step(self, h, stages=None, expected=None):
        h = [h] * len(self.batch) if isinstance(h, float) else h
        origin = self.batch, self.states, self.gradients, h
        if stages is None:
            return dormand_prince_step(*origin, self.workspace)
        stages = [stages] * len(self.batch) if isinstance(stages, int) else stages
        expected = torch.zeros_like(self.states) if expected is None else expected
        return chebyshev_step(*origin, stages, self.workspace, expected)

    def move_to(self, step):
        self.states, self.gradients = torch.stack(step.states), step.gradients.clone()


def flat(factors):
    return torch.cat([W.flatten() for W in factors])


def test_the_coefficients_are_those_of_scipy():
    table = dormand_prince._TABLE.numpy()
    np.testing.assert_array_equal(table[:6, :5], RK45.A)
    np.testing.assert_array_equal(table[6, :6], RK45.B)
    np.testing.assert_array_equal(table[7], RK45.E)
    np.testing.assert_array_equal(dormand_prince._INTERPOLANT.numpy(), RK45.P)
    assert not table[:6, 5:].any()
    assert table[6, 6] == 0


PROBLEM = MatrixCompletion.random((4, 3), 2, 8, seed=1, reduction="half_sum")
METHODS = {"Dormand-Prince": None, "Chebyshev 2": 2, "Chebyshev 3": 3, "Chebyshev 8": 8}


# --- layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("hidden", [None, 6])
def test_gradient_of_flat_states(depth, hidden):
    starts = [gaussian(1.0, s) for s in range(3)]
    problems = [MatrixCompletion.random((4, 3), 2, 5 + s, seed=s) for s in range(3)]
    several = Batch(problems, depth, starts, hidden)
    for b, (problem, start) in enumerate(zip(problems, starts, strict=True)):
        factors = start.factors((4, 3), depth, hidden)
        W = product_matrix(factors)
        torch.testing.assert_close(several.states[b], flat(factors), rtol=0, atol=0)
        expected = flat(factor_gradients(factors, problem.gradient(W)))
        torch.testing.assert_close(several.gradients[b], expected, rtol=1e-13, atol=1e-14)
        assert float(several.losses[b]) == pytest.approx(float(problem.loss(W)), rel=1e-13)
    chosen = several.batch.take([2, 0])
    assert len(chosen) == 2
    losses = chosen.loss(several.states[[2, 0]])
    torch.testing.assert_close(losses, several.losses[[2, 0]], rtol=1e-13, atol=0)


# --- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    ("method", "order", "count"),
    [
        ("Dormand-Prince", 5, 20),
        ("Chebyshev 2", 2, 80),
        ("Chebyshev 3", 2, 80),
        ("Chebyshev 8", 2, 80),
    ],
)
def test_observed_order(depth, method, order, count):
    start = gaussian(1.5, 0)
    exact = flat(factor_flow(PROBLEM.gradient, start.factors((4, 3), depth), [0.0, 1.0])[-1])
    misses = []
    for steps in (count, 2 * count):
        run = Batch(PROBLEM, depth, start)
        for _ in range(steps):
            run.move_to(run.step(1 / steps, METHODS[method]))
        misses.append(float((run.states[0] - exact).norm()))
    assert misses[1] > 1e-13  # above the reference's own error
    observed = math.log2(misses[0] / misses[1])
    assert observed > order - 0.2
    if order == 2:  # the leading error of Dormand-Prince is so small that the next one is seen
        assert observed < order + 0.2


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    ("method", "h", "order", "of_interpolant", "of_estimate"),
    [
        # One step's errors: a method of order p is off by h^(p+1).
        ("Dormand-Prince", 0.02, 6, 5, 5),
        ("Chebyshev 2", 0.005, 3, 3, 3),
        ("Chebyshev 8", 0.005, 3, 3, 3),
    ],
)
def test_order_of_one_step_its_interpolant_and_its_estimate(
    depth, method, h, order, of_interpolant, of_estimate
):
    start = gaussian(1.5, 0)
    seen = []
    for size in (h, h / 2):
        times = [0.0, 0.3 * size, size]
        found = factor_flow(PROBLEM.gradient, start.factors((4, 3), depth), times)
        within, end = flat(found[1]), flat(found[2])
        step = Batch(PROBLEM, depth, start).step(size, METHODS[method])
        misses = step.states[0] - end, step.interpolate(0, 0.3) - within
        seen.append([float(miss.norm()) for miss in misses] + step.errors)
    if seen[1][0] > 1e-13:  # at depth 1 the error of Dormand-Prince is lost in rounding
        assert order - 0.3 < math.log2(seen[0][0] / seen[1][0]) < order + 0.9
    assert math.log2(seen[0][1] / seen[1][1]) == pytest.approx(of_interpolant, abs=0.35)
    assert math.log2(seen[0][2] / seen[1][2]) == pytest.approx(of_estimate, abs=0.35)


@pytest.mark.parametrize("method", METHODS)
def test_interpolant_meets_both_ends_with_both_slopes(method):
    run, h = Batch(PROBLEM, 3, gaussian(1.0, 2)), 0.3
    step = run.step(h, METHODS[method])
    at, d = step.interpolate, 1e-5
    torch.testing.assert_close(at(0, 0.0), run.states[0], rtol=1e-14, atol=0)
    torch.testing.assert_close(at(0, 1.0), step.states[0], rtol=1e-13, atol=1e-14)
    slopes = (at(0, d) - at(0, -d)) / (2 * d), (at(0, 1 + d) - at(0, 1 - d)) / (2 * d)
    torch.testing.assert_close(slopes[0], -h * run.gradients[0], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(slopes[1], -h * step.gradients[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_step_reports_loss_and_gradient_at_its_end(method):
    run = Batch(PROBLEM, 3, gaussian(1.0, 2))
    step = run.step(0.2, METHODS[method])
    at_end = torch.empty_like(run.states)
    loss = run.batch.gradient(torch.stack(step.states), out=at_end)
    assert step.losses == pytest.approx(loss.tolist(), rel=1e-14)
    torch.testing.assert_close(step.gradients, at_end, rtol=1e-14, atol=1e-15)
    assert step.evaluations == [METHODS[method] or 6]


def test_evaluations_are_those_made(monkeypatch):
    run = Batch(PROBLEM, 3, [gaussian(1.0, s) for s in range(3)])
    calls = []
    kind = type(run.batch)

    def counted(original):
        def call(self, factors, out):
            calls.append(len(factors[0]))
            return original(self, factors, out)

        return call

    for name in ("gradient_at", "slope_at"):
        monkeypatch.setattr(kind, name, counted(getattr(kind, name)))
    assert sum(run.step(0.1).evaluations) == sum(calls) == 18
    calls.clear()
    assert run.step(0.1, [7, 4, 2]).evaluations == [7, 4, 2]
    # The batch narrows as shorter steps are complete, and all meet again at their ends.
    assert calls == [3, 2, 2, 1, 1, 1, 3]
    assert sum(calls) == 13


# --- what a Chebyshev step misses -----------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(
    ("stages", "close"), [(2, 0.5), (3, 0.1), (4, 0.03), (8, 0.02), (20, 0.02)]
)
def test_estimated_error_is_the_error(depth, stages, close):
    start, h = gaussian(1.5, 0), 0.004
    end = flat(factor_flow(PROBLEM.gradient, start.factors((4, 3), depth), [0.0, h])[-1])
    run = Batch(PROBLEM, depth, start)
    step = run.step(h, stages)
    exact = end - step.states[0]
    found = step.missed(0) * (step.errors[0] / float(step.missed(0).norm()))
    assert float((found - exact).norm()) < close * float(exact.norm())
    # What was expected is added to the step, and no longer counted as an error.
    again = run.step(h, stages, expected=[step.missed(0)])
    assert float((end - again.states[0]).norm()) < 1.3 * close * float(exact.norm())
    assert again.errors[0] < close * step.errors[0]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("stages", [8, 20])
def test_steps_that_know_what_the_last_one_missed_are_of_order_three(depth, stages):
    start = gaussian(1.5, 0)
    exact = flat(factor_flow(PROBLEM.gradient, start.factors((4, 3), depth), [0.0, 1.0])[-1])
    misses = {False: [], True: []}
    for knows, seen in misses.items():
        for steps in (40, 80):
            run, expected = Batch(PROBLEM, depth, start), None
            for _ in range(steps):
                step = run.step(1 / steps, stages, expected)
                run.move_to(step)
                expected = [step.missed(0)] if knows else None
            seen.append(float((run.states[0] - exact).norm()))
    assert misses[True][1] < 0.2 * misses[False][1]
    assert math.log2(misses[True][0] / misses[True][1]) > 2.7
    assert math.log2(misses[False][0] / misses[False][1]) < 2.3


@pytest.mark.parametrize("s", [2, 3, 4, 8, 20])
@pytest.mark.parametrize("growth", [1.0, FASTEST_GROWTH])
def test_stiff_modes_stay_damped_when_errors_are_foreseen(s, growth):
    # One step multiplies (state, what it missed, what the one before missed) by a matrix of size
    # three for each curvature; steps grow at a constant rate.
    reach = 0.645 * (s**2 - 1)
    grid = np.linspace(1e-2, reach, 300)
    A = torch.diag(torch.tensor(grid).sqrt()).unsqueeze(1)
    problem = MatrixSensing(A, torch.zeros(len(grid)), reduction="half_sum")
    columns = []
    for state, missed, before in torch.eye(3, dtype=torch.float64).tolist():
        run = Batch(problem, 1, [torch.full((1, len(grid)), state, dtype=torch.float64)])
        memory = StepControl(1.0, 1.0, Recorder(Record()))
        memory.remember(torch.full_like(run.states[0], before), growth**-2)
        memory.remember(torch.full_like(run.states[0], missed), growth**-1)
        step = run.step(1.0, s, [memory.expected(1.0)])
        columns.append(torch.stack([step.states[0], step.missed(0), memory.missed]))
    matrices = torch.stack(columns, dim=1).permute(2, 0, 1)
    assert float(torch.linalg.eigvals(matrices).abs().max()) < 1


@pytest.mark.parametrize("depth", [1, 3])
def test_both_methods_measure_what_is_missed(depth):
    # One fifteenth of h³ times the third derivative, which differences of a fine solution give.
    start, h = gaussian(1.5, 0), 0.01
    times = [0.0, h / 3, 2 * h / 3, h]
    states = [flat(f) for f in factor_flow(PROBLEM.gradient, start.factors((4, 3), depth), times)]
    third = 27 * (states[3] - 3 * states[2] + 3 * states[1] - states[0])
    run = Batch(PROBLEM, depth, start)
    for stages in (None, 4, 5, 20):
        found = run.step(h, stages).missed(0)
        assert float((found - third / 15).norm()) < 0.05 * float(third.norm() / 15)


def test_change_of_what_is_missed_is_foreseen_in_part():
    memory = StepControl(1.0, 1.0, Recorder(Record()))
    memory.remember(torch.tensor([1.0]), 1.0)
    assert float(memory.expected(1.1)) == pytest.approx(1.1**3)
    memory.remember(torch.tensor([2.0]), 1.0)
    # It doubled from one step to the next: 0.4 of that change is taken to come again.
    assert float(memory.expected(1.0)) == pytest.approx(2.4)
    assert float(memory.expected(0.5)) == pytest.approx(0.5**3 * (2 + 0.4 * 0.75))
    # What was missed in proportion to the third power of the step does not change at all.
    memory.remember(torch.tensor([2.0 * 1.1**3]), 1.1)
    assert float(memory.expected(1.2)) == pytest.approx(2 * 1.2**3)
    assert float(memory.expected(9.0)) == pytest.approx(2 * (1.1 * FASTEST_GROWTH) ** 3)


# --- stability ------------------------------------------------------------------------------------


def modes(stages, h, curvatures):
    """Factors by which a step multiplies the modes of a linear flow (depth 1)."""
    values = torch.tensor(curvatures, dtype=torch.float64)
    # One entry a mode: ½ Σ λ_i w_i², so that each obeys dw/dt = -λ w.
    A = torch.diag(values.sqrt()).unsqueeze(1)
    problem = MatrixSensing(A, torch.zeros(len(values)), reduction="half_sum")
    run = Batch(problem, 1, [torch.ones(1, len(values), dtype=torch.float64)])
    step = run.step(h, stages)
    return step.states[0], step


def test_dormand_prince_multiplies_modes_by_its_polynomial():
    z = -np.linspace(0, 5, 11)
    found, step = modes(None, 0.5, (-z / 0.5).tolist())
    exact = 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24 + z**5 / 120 + z**6 / 600
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-12, atol=1e-12)
    # The embedded method of order 4 has other coefficients of z⁵, z⁶ and z⁷.
    e = z**5 * (1097 / 120000 - 1 / 120) + z**6 * (161 / 120000 - 1 / 600) + z**7 / 24000
    assert step.errors == pytest.approx([float(np.linalg.norm(e))], rel=1e-9)


@pytest.mark.parametrize("s", [2, 3, 4, 7, 20, 51])
def test_chebyshev_multiplies_modes_by_its_polynomial(s):
    w0 = 1 + 2 / (13 * s**2)
    T = Chebyshev.basis(s)
    first, second = T.deriv(1)(w0), T.deriv(2)(w0)
    w1, b = first / second, second / first**2
    z = -np.linspace(0, 0.65 * s**2, 15)
    found, _ = modes(s, 2.0, (-z / 2.0).tolist())
    exact = 1 + b * (T(w0 + w1 * z) - T(w0))
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-8, atol=1e-9 * s)


@pytest.mark.parametrize("s", [2, 3, 4, 7, 20, 51])
def test_chebyshev_is_stable_as_far_as_its_stages_say(s):
    reach = 0.645 * (s**2 - 1)
    grid = np.linspace(1e-3, reach, 400).tolist()
    found, _ = modes(s, 1.0, grid)
    assert float(found.abs().max()) < 1
    if s >= 4:  # damped, not only bounded
        assert float(found[40:].abs().max()) < 0.98
    assert chebyshev_stages(1.0, reach) == s
    assert chebyshev_stages(1.0, 1.03 * reach) == s + 1
    assert chebyshev_stages(0.5, 2 * reach) == s
    # Ten percent farther it is not.
    assert float(modes(s, 1.0, [1.12 * 0.654 * s**2])[0].abs()) > 1


def test_few_stages():
    assert chebyshev_stages(1.0, 0.0) == chebyshev_stages(0.1, 1.0) == 2


def test_dormand_prince_is_stable_to_three_point_three():
    assert float(modes(None, 1.0, np.linspace(1e-3, 3.3, 200).tolist())[0].abs().max()) < 1
    assert float(modes(None, 1.0, [3.32])[0].abs()) > 1
    # Where the Chebyshev step with 20 stages is stable it multiplies modes by 10 to the 11th.
    assert float(modes(None, 1.0, [0.65 * 399])[0].abs()) > 1e10


def test_chebyshev_steps_of_a_nonlinear_flow_are_stable_where_dormand_prince_explodes():
    problem = FullObservation(torch.diag(torch.tensor([10.0, 0.1], dtype=torch.float64)))
    runs = [Batch(problem, 3, gaussian(0.1, 0)) for _ in range(2)]
    for run in runs:
        for _ in range(300):  # to the neighbourhood of the minimum
            run.move_to(run.step(0.01))
    assert float(runs[0].losses[0]) > 1
    curvature = largest_curvature(problem, runs[0])
    h, s = 0.6 * 10**2 / curvature, 10
    ends = []
    for run, stages in zip(runs, (s, None), strict=True):
        for _ in range(6):
            step = run.step(h, stages)
            run.move_to(step)
        ends.append(step.losses[0])
    assert ends[0] < 0.01
    assert not ends[1] < 1e6


# --- stages of their own --------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [None, 5])
def test_each_of_a_batch_steps_as_if_alone(hidden):
    problems = [MatrixCompletion.random((4, 3), 2, 6 + s, seed=s) for s in range(5)]
    starts = [gaussian(1.0, s) for s in range(5)]
    sizes = [0.5, 0.4, 0.3, 0.2, 0.1]
    for stages in (None, [9, 8, 5, 5, 2]):
        several = Batch(problems, 3, starts, hidden)
        together = several.step(sizes, stages)
        for b in range(5):
            alone = Batch(problems[b], 3, starts[b], hidden)
            step = alone.step(sizes[b], None if stages is None else stages[b])
            torch.testing.assert_close(together.states[b], step.states[0], rtol=1e-12, atol=1e-13)
            assert together.errors[b] == pytest.approx(step.errors[0], rel=1e-8)
            assert together.moves[b] == pytest.approx(step.moves[0], rel=1e-12)
            change = float((step.states[0] - alone.states[0]).norm())
            assert step.moves == pytest.approx([change], rel=1e-12)
            assert together.losses[b] == pytest.approx(step.losses[0], rel=1e-11)
            within = together.interpolate(b, 0.4), step.interpolate(0, 0.4)
            torch.testing.assert_close(*within, rtol=1e-12, atol=1e-13)


# --- curvature ------------------------------------------------------------------------------------


def hessian(problem, run):
    def loss(state):
        return problem.loss(product_matrix(run.batch.factors(state[None])))[0]

    return torch.autograd.functional.hessian(loss, run.states[0])


def largest_curvature(problem, run):
    return float(torch.linalg.eigvalsh(hessian(problem, run)).abs().max())


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("norm", [0.1, 3.0])
def test_spectral_radius_is_the_largest_eigenvalue_of_the_hessian(depth, norm):
    run = Batch(PROBLEM, depth, gaussian(norm, 4))
    direction = torch.randn(run.states.shape, dtype=torch.float64, generator=torch.manual_seed(0))
    found, seen, evaluations = spectral_radius(
        run.batch, run.states, run.gradients, direction, accuracy=1e-9, max_iterations=3000
    )
    exact = largest_curvature(PROBLEM, run)
    assert found == pytest.approx(exact, rel=1e-4)
    assert 1 <= evaluations <= 3000
    H = hessian(PROBLEM, run)
    unit = seen[0] / seen.norm()
    assert float((H @ unit).norm()) == pytest.approx(exact, rel=1e-4)


def test_spectral_radius_is_seen_from_below_and_stops_when_asked():
    run = Batch(PROBLEM, 3, gaussian(1.0, 4))
    exact = largest_curvature(PROBLEM, run)
    of_run = run.batch, run.states, run.gradients, run.gradients
    for limit in (1, 3, 8):
        found, _, evaluations = spectral_radius(*of_run, 0.0, limit)
        assert evaluations == limit
        assert 0 < found <= exact * (1 + 1e-5)
    close, _, evaluations = spectral_radius(*of_run)
    assert 0.8 * exact < close <= exact * (1 + 1e-5)
    assert evaluations < 20


def test_dormand_prince_sees_the_curvature_that_limits_it():
    values = [100.0, 3.0, 1.0, 0.1]
    _, step = modes(None, 0.03, values)
    assert 30 < step.curvatures[0] <= 100.1
    direction = step.directions[0] / step.directions[0].norm()
    assert float(direction[0].abs()) > 0.9
    # Of a flow with one curvature it is that one.
    assert modes(None, 0.1, [7.0])[1].curvatures == pytest.approx([7.0], rel=1e-10)


def test_many_stages_come_in_few_sizes():
    sizes = [MOST_STAGES]
    while sizes[-1] > 2:
        sizes.append(fewer_stages(sizes[-1]))
    assert len(sizes) == MAX_STAGES - 1 + 16 * math.log2(MOST_STAGES / MAX_STAGES)
    for s in sizes:
        assert chebyshev_stages(longest_chebyshev_step(3.7, s), 3.7) == s
    for h in np.geomspace(1e-2, 1e7, 50):
        s = chebyshev_stages(h, 1.0)
        assert longest_chebyshev_step(1.0, s) >= (1 - 1e-9) * h
