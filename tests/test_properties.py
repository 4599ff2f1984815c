"""What holds for every problem, start, depth and shape: symmetries, scaling, conservation laws.

Hypothesis chooses sizes, seeds and kinds; the entries are Gaussian from the seed. The examples are
the same in every run of the same code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from dmf_utils.convex.measurement_operator import affine_constraint
from dmf_utils.factorization.initialization import balanced_factors
from dmf_utils.factorization.norms import (
    effective_rank,
    nuclear_norm,
    numerical_rank,
    schatten_norm,
    singular_values,
)
from dmf_utils.factorization.product import balancedness_gap, factor_gradients, product_matrix
from dmf_utils.flow.descent import gradient_descent
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.trajectory import Record, Trajectory
from dmf_utils.problems.base import Problem
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.sensing import MatrixSensing

ALWAYS_ALIKE = {"derandomize": True, "database": None, "deadline": None}
many = settings(max_examples=100, **ALWAYS_ALIKE)
some = settings(max_examples=25, **ALWAYS_ALIKE)  # of what follows flows

TIMES = (0.0, 0.05, 0.2, 0.6)
TOLERANCE = 1e-8

sizes = st.integers(1, 5)
depths = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)
exponents = st.sampled_from([0.3, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf])
stretches = st.floats(0.3, 3.0)
reductions = st.sampled_from(["mean", "half_sum"])


def randn(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def orthogonal(seed: int, size: int) -> Tensor:
    return torch.linalg.qr(randn(seed, size, size))[0]


def signed_permutation(seed: int, size: int) -> Tensor:
    """A matrix that permutes and flips signs: it maps entries to entries."""
    rng = np.random.default_rng(seed)
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], size))
    return torch.diag(signs)[torch.from_numpy(rng.permutation(size))]


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Matrices of every rank down to one, with equal and with very different singular values."""
    rows, columns = draw(sizes), draw(sizes)
    choices = st.sampled_from([0.0, 1e-6, 0.1, 0.5, 1.0, 1.0, 3.0])
    rest = draw(st.lists(choices, min_size=min(rows, columns) - 1, max_size=min(rows, columns) - 1))
    sigma = torch.tensor([1.0, *rest], dtype=torch.float64)
    U, V = orthogonal(draw(seeds), rows), orthogonal(draw(seeds), columns)
    return (U[:, : len(sigma)] * sigma) @ V[:, : len(sigma)].T


@dataclass(frozen=True)
class Case:
    """A problem, factors at time 0, and a symmetry of the problem's kind."""

    problem: Problem
    factors: list[Tensor]
    left: Tensor
    right: Tensor
    seed: int

    @property
    def W(self) -> Tensor:
        return product_matrix(self.factors)


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[str, ...] = ("completion", "sensing", "full")) -> Case:
    rows, columns, depth = draw(sizes), draw(sizes), draw(depths)
    hidden = draw(st.integers(min(rows, columns), min(rows, columns) + 2))
    kind, reduction, seed = draw(st.sampled_from(kinds)), draw(reductions), draw(seeds)
    truth = randn(seed, rows, columns)
    if kind == "completion":
        mask = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
        mask[seed % len(mask)] = True
        mask = torch.tensor(mask).view(rows, columns)
        problem = MatrixCompletion.from_mask(truth, mask, truth, reduction)
        turn = signed_permutation
    elif kind == "sensing":
        A = randn(seed + 1, draw(st.integers(1, 8)), rows, columns) / math.sqrt(rows * columns)
        problem = MatrixSensing(A, (A * truth).sum((1, 2)), truth, reduction)
        turn = orthogonal
    else:
        problem, turn = FullObservation(truth, reduction), orthogonal
    widths = [columns, *[hidden] * (depth - 1), rows]
    factors = [
        0.8 * randn(seed + 2 + j, upper, lower) / math.sqrt(max(upper, lower))
        for j, (lower, upper) in enumerate(pairwise(widths))
    ]
    return Case(problem, factors, turn(seed + 8, rows), turn(seed + 9, columns), seed)


def moved(
    problem: Problem, left: Tensor, right: Tensor, c: float = 1.0, reduction: str | None = None
) -> Problem:
    """The problem whose data are those of ``c · left · W · right``."""
    truth, reduction = c * left @ problem.ground_truth @ right, reduction or problem.reduction
    if isinstance(problem, FullObservation):
        return FullObservation(truth, reduction)
    if isinstance(problem, MatrixSensing):
        A = left @ problem.operator.view(-1, *problem.shape) @ right
        return MatrixSensing(A, c * problem.values, truth, reduction)
    mask = left.abs() @ problem.mask.double() @ right.abs() > 0.5
    return MatrixCompletion(mask, c * left @ problem.values @ right, truth, reduction)


def stretched(problem: Problem, c: float, reduction: str | None = None) -> Problem:
    """The problem whose data are those of ``c · W``."""
    eyes = (torch.eye(size, dtype=torch.float64) for size in problem.shape)
    return moved(problem, *eyes, c, reduction)


def transposed(problem: Problem) -> Problem:
    """The problem of the transposed matrix."""
    truth = problem.ground_truth.T
    if isinstance(problem, FullObservation):
        return FullObservation(truth, problem.reduction)
    if isinstance(problem, MatrixSensing):
        A = problem.operator.view(-1, *problem.shape).mT
        return MatrixSensing(A, problem.values, truth, problem.reduction)
    return MatrixCompletion(problem.mask.T, problem.values.T, truth, problem.reduction)


def shuffled(problem: MatrixCompletion | MatrixSensing, seed: int) -> Problem:
    """The same problem with its observations in another order."""
    rng = np.random.default_rng(seed)
    if isinstance(problem, MatrixSensing):
        order = torch.from_numpy(rng.permutation(problem.n_measurements))
        A = problem.operator.view(-1, *problem.shape)[order]
        return MatrixSensing(A, problem.values[order], problem.ground_truth, problem.reduction)
    order = torch.from_numpy(rng.permutation(problem.n_observed))
    i, j = problem.mask.nonzero()[order].T
    return MatrixCompletion.from_entries(
        i, j, problem.values[i, j], problem.shape, problem.ground_truth, problem.reduction
    )


def flow(problem: Problem, factors: list[Tensor], speed: float = 1.0, **more: object) -> Trajectory:
    """The flow up to the times above, divided by `speed`."""
    times = [t / speed for t in TIMES]
    record = Record(times, factors=True)
    return gradient_flow(
        problem,
        start=factors,
        until_loss=None,
        until_time=times[-1],
        record=record,
        settings=Settings(tolerance=TOLERANCE),
        **more,
    )


def products(run: Trajectory) -> Tensor:
    return torch.stack([product_matrix(factors) for factors in run.recorded_factors])


def assert_same(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


FLOWS_AGREE = 1e-7  # some ten times the tolerance of the two flows


# --- norms ----------------------------------------------------------------------------------------


@many
@given(matrices(), seeds, exponents, stretches)
def test_norms_do_not_see_rotations_nor_transposition(W, seed, p, c):
    """All measures depend on the singular values alone; norms grow with `c`, ranks do not."""
    turned = orthogonal(seed, W.shape[0]) @ W @ orthogonal(seed + 1, W.shape[1])
    for other in (turned, W.T):
        assert_same(singular_values(c * other), c * singular_values(W), 1e-13)
        assert float(nuclear_norm(c * other)) == pytest.approx(c * float(nuclear_norm(W)))
        # At p = 0.3 a singular value of 1e-6, rounded by 1e-16, still counts.
        assert float(schatten_norm(c * other, p)) == pytest.approx(
            c * float(schatten_norm(W, p)), rel=1e-8
        )
        assert float(effective_rank(c * other)) == pytest.approx(float(effective_rank(W)))
        assert int(numerical_rank(c * other)) == int(numerical_rank(W))


@many
@given(matrices(), seeds, exponents)
def test_norms_of_a_kronecker_product_multiply(W, seed, p):
    """The singular values of A ⊗ B are all products: norms and effective ranks multiply."""
    other = randn(seed, 2, 3)
    both = torch.kron(W, other)
    assert float(schatten_norm(both, p)) == pytest.approx(
        float(schatten_norm(W, p)) * float(schatten_norm(other, p)), rel=1e-8
    )
    for measure in (nuclear_norm, effective_rank, numerical_rank):
        assert float(measure(both)) == pytest.approx(float(measure(W)) * float(measure(other)))


@many
@given(matrices(), exponents, exponents)
def test_norms_and_ranks_bound_each_other(W, p, q):
    """``1 ≤ effective rank ≤ rank``; ``‖W‖_q ≤ ‖W‖_p ≤ rank^(1/p - 1/q) ‖W‖_q`` for p ≤ q."""
    p, q = min(p, q), max(p, q)
    rank, slack = float(numerical_rank(W)), 1 + 1e-12
    assert 1 / slack <= float(effective_rank(W)) <= rank * slack
    # Entropies fall with their order: that of order 2 gives the squared ratio of two norms.
    participation = (nuclear_norm(W) / schatten_norm(W, 2)) ** 2
    assert float(effective_rank(W)) * slack >= float(participation)
    small, large = float(schatten_norm(W, q)), float(schatten_norm(W, p))
    assert small <= large * slack
    assert large <= rank ** (1 / p - 1 / q) * small * slack


@many
@given(matrices(), seeds, exponents)
def test_triangle_and_hoelder_inequalities(A, seed, p):
    """``‖A+B‖_p^r ≤ ‖A‖_p^r + ‖B‖_p^r`` with r = min(p, 1); ``|⟨A, B⟩| ≤ ‖A‖_p ‖B‖_p*``."""
    B, r = randn(seed, *A.shape), min(p, 1.0)
    powers = [float(schatten_norm(M, p)) ** r for M in (A + B, A, B)]
    assert powers[0] <= (powers[1] + powers[2]) * (1 + 1e-12)
    dual = 1 / (1 - 1 / p) if p > 1 else math.inf
    bound = float(schatten_norm(A, p)) * float(schatten_norm(B, dual))
    assert abs(float((A * B).sum())) <= bound * (1 + 1e-12)


# --- problems -------------------------------------------------------------------------------------


@many
@given(cases(), stretches)
def test_loss_and_error_of_a_moved_problem(case, c):
    """For W and the data turned alike and stretched by `c`, both grow by ``c²``, the gradient by c.

    Completion is turned by permutations and signs, which map entries to entries.
    """
    problem, U, V, W = case.problem, case.left, case.right, case.W
    other, at = moved(problem, U, V, c), c * U @ W @ V
    assert_same(other.loss(at), c**2 * problem.loss(W))
    assert_same(other.error(at), c**2 * problem.error(W))
    assert_same(other.gradient(at), c * U @ problem.gradient(W) @ V)


@many
@given(cases())
def test_loss_of_a_transposed_problem(case):
    problem, W = transposed(case.problem), case.W
    assert_same(problem.loss(W.T), case.problem.loss(W))
    assert_same(problem.error(W.T), case.problem.error(W))
    assert_same(problem.gradient(W.T), case.problem.gradient(W).T)


@many
@given(cases(("completion", "sensing")))
def test_order_of_observations_does_not_matter(case):
    problem, W = shuffled(case.problem, case.seed), case.W
    assert_same(problem.loss(W), case.problem.loss(W))
    assert_same(problem.gradient(W), case.problem.gradient(W))
    if isinstance(problem, MatrixCompletion):
        assert torch.equal(problem.mask, case.problem.mask)
        assert torch.equal(problem.values, case.problem.values)


@many
@given(cases())
def test_loss_is_quadratic_and_its_gradient_the_finite_difference(case):
    """Of a quadratic, ``(ℓ(W+D) - ℓ(W-D)) / 2 = ⟨∇ℓ(W), D⟩`` for every length of D."""
    problem, W = case.problem, case.W
    D = randn(case.seed + 5, *W.shape)
    up, here, down = problem.loss(torch.stack([W + D, W, W - D]))
    assert_same((up - down) / 2, (problem.gradient(W) * D).sum())
    curvature = up - 2 * here + down
    assert float(curvature) >= 0
    # Of the curvature the data know nothing: the same for the problem with other values.
    up, here, down = stretched(problem, 2.0).loss(torch.stack([W + D, W, W - D]))
    assert_same(up - 2 * here + down, curvature)


@many
@given(cases(("completion",)))
def test_completion_is_sensing_with_indicators(case):
    problem, W = case.problem, case.W
    i, j = problem.mask.nonzero().T
    A = torch.zeros(len(i), *problem.shape, dtype=torch.float64)
    A[range(len(i)), i, j] = 1.0
    sensing = MatrixSensing(A, problem.values[i, j], problem.ground_truth, problem.reduction)
    assert_same(sensing.loss(W), problem.loss(W), 1e-13)
    assert_same(sensing.gradient(W), problem.gradient(W), 1e-13)
    assert_same(sensing.error(W), problem.error(W), 1e-13)
    ours, theirs = affine_constraint(problem), affine_constraint(sensing)
    assert_same(ours.project(W), theirs.project(W), 1e-13)


@many
@given(cases())
def test_projection_onto_what_fits(case):
    """It fits, changes nothing a second time, and what it adds is orthogonal to all that fits."""
    W, fits = case.W, affine_constraint(case.problem)
    nearest, dual = fits.project(W), randn(case.seed + 4, len(fits.values))
    assert_same(fits.apply(nearest), fits.values)
    assert_same(fits.project(nearest), nearest)
    assert float(case.problem.loss(nearest)) < 1e-18
    within = nearest - case.problem.ground_truth
    assert abs(float(((W - nearest) * within).sum())) < 1e-10
    assert_same((fits.apply(W) * dual).sum(), (W * fits.adjoint(dual)).sum())


# --- factorizations -------------------------------------------------------------------------------


@many
@given(cases(("full",)))
def test_balanced_factors_of_a_product(case):
    """They multiply to it, are balanced, and stay what they are when made again."""
    W, depth, hidden = case.W, len(case.factors), case.factors[0].shape[0]
    made = balanced_factors(W, depth, hidden)
    again = balanced_factors(product_matrix(made), depth, hidden)
    assert_same(product_matrix(made), W, 1e-13)
    assert float(balancedness_gap(made)) < 1e-13 * max(1.0, float(W.norm()))
    # Equal up to the signs of singular vectors, which cancel in each factor's square.
    for one, other in zip(made, again, strict=True):
        assert one.shape == other.shape
        assert_same(one @ one.T if depth > 1 else one, other @ other.T if depth > 1 else other)


@many
@given(cases())
def test_gradient_of_the_factors_is_the_finite_difference(case):
    r"""Along a line, the loss is a polynomial of degree 2N ≤ 8: nine points give its slope exactly.

    The weights are those of the central difference of order 8.
    """
    weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    step, problem = 0.1, case.problem
    directions = [randn(case.seed + 20 + j, *W.shape) for j, W in enumerate(case.factors)]

    def loss(t: float) -> float:
        moved_along = [W + t * D for W, D in zip(case.factors, directions, strict=True)]
        return float(problem.loss(product_matrix(moved_along)))

    slope = sum(w * (loss(k * step) - loss(-k * step)) for k, w in weights.items()) / step
    gradients = factor_gradients(case.factors, problem.gradient(case.W))
    expected = sum(float((G * D).sum()) for G, D in zip(gradients, directions, strict=True))
    assert slope == pytest.approx(expected, rel=1e-9, abs=1e-9)


@many
@given(cases())
def test_gradients_obey_the_laws_of_conservation(case):
    r"""``W_{j+1}ᵀ G_{j+1} = G_j W_jᵀ``: so the flow keeps ``W_{j+1}ᵀW_{j+1} - W_j W_jᵀ``.

    Their traces say that ``⟨W_j, G_j⟩ = ⟨W, ∇ℓ(W)⟩`` for every factor.
    """
    gradient = case.problem.gradient(case.W)
    pairs = list(zip(case.factors, factor_gradients(case.factors, gradient), strict=True))
    for (W, G), (W_next, G_next) in pairwise(pairs):
        assert_same(W_next.T @ G_next, G @ W.T, 1e-13)
    for W, G in pairs:
        assert_same((W * G).sum(), (case.W * gradient).sum(), 1e-12)


# --- flow and descent -----------------------------------------------------------------------------


@some
@given(cases())
def test_flow_moves_with_the_problem(case):
    """With U, V for the problem and Q_j between the factors, ``W(t)`` becomes ``U W(t) V``."""
    Qs = [orthogonal(case.seed + 30 + j, W.shape[0]) for j, W in enumerate(case.factors[:-1])]
    outer, inner = [*Qs, case.left], [case.right, *(Q.T for Q in Qs)]
    factors = [Q @ W @ R for Q, W, R in zip(outer, case.factors, inner, strict=True)]
    run = flow(case.problem, case.factors)
    other = flow(moved(case.problem, case.left, case.right), factors)
    assert_same(products(other), case.left @ products(run) @ case.right, FLOWS_AGREE)
    assert_same(other.losses, run.losses, FLOWS_AGREE)
    for measure in (nuclear_norm, effective_rank, lambda W: schatten_norm(W, 0.5)):
        assert_same(measure(other.product), measure(run.product), 10 * FLOWS_AGREE)


@some
@given(cases())
def test_flow_of_a_transposed_problem(case):
    """The transposed factors in reverse order flow as the factors do."""
    run = flow(case.problem, case.factors)
    other = flow(transposed(case.problem), [W.T.contiguous() for W in case.factors[::-1]])
    assert_same(products(other), products(run).mT, FLOWS_AGREE)
    for j, W in enumerate(run.factors):
        assert_same(other.factors[len(run.factors) - 1 - j], W.T, FLOWS_AGREE)


@some
@given(cases(("completion", "sensing")))
def test_flow_does_not_know_the_order_of_observations(case):
    other = flow(shuffled(case.problem, case.seed), case.factors)
    assert_same(products(other), products(flow(case.problem, case.factors)), FLOWS_AGREE)


@some
@given(cases(), stretches)
def test_scaling_law_of_the_flow(case, c):
    r"""Data ``c·y`` and factors ``c^{1/N} W_j`` flow as before, ``c^{2-2/N}`` times as fast.

    The gradient of the loss for ``c·y`` at ``c·W`` is ``c ∇ℓ(W)``. That of a factor has N - 1 other
    factors besides, so it is multiplied by ``c · c^{(N-1)/N} = c^{2-1/N}``. A factor that is
    ``c^{1/N} W_j(κt)`` moves at ``κ c^{1/N}`` times the velocity: ``κ = c^{2-2/N}``. At depth 1 the
    scale of the data does not matter, at depth 2 time goes with it, and the deeper the closer to
    its square. The loss grows by ``c²``.
    """
    depth = len(case.factors)
    factors = [c ** (1 / depth) * W for W in case.factors]
    run = flow(case.problem, case.factors)
    other = flow(stretched(case.problem, c), factors, speed=c ** (2 - 2 / depth))
    assert_same(products(other) / c, products(run), FLOWS_AGREE)
    assert_same(other.losses / c**2, run.losses, FLOWS_AGREE)
    gaps = [balancedness_gap(one.factors) for one in (run, other)]
    assert_same(gaps[1] / c ** (2 / depth), gaps[0], FLOWS_AGREE)


@some
@given(cases())
def test_scale_of_the_loss_is_a_unit_of_time(case):
    """Half the sum over m observations is m/2 times their mean: the flow is m/2 times as fast."""
    m = len(affine_constraint(case.problem).values)
    mean, half_sum = (stretched(case.problem, 1.0, kind) for kind in ("mean", "half_sum"))
    run = flow(half_sum, case.factors)
    other = flow(mean, case.factors, speed=2 / m)
    assert_same(products(other), products(run), FLOWS_AGREE)
    assert_same(other.losses * m / 2, run.losses, FLOWS_AGREE)


@some
@given(cases())
def test_flow_conserves_every_difference(case):
    """Each ``W_{j+1}ᵀW_{j+1} - W_j W_jᵀ`` stays, from starts that are not balanced."""
    run = flow(case.problem, case.factors)
    for (W, W_next), (V, V_next) in zip(pairwise(case.factors), pairwise(run.factors), strict=True):
        assert_same(V_next.T @ V_next - V @ V.T, W_next.T @ W_next - W @ W.T, FLOWS_AGREE)


@some
@given(cases())
def test_flow_descends_and_goes_on_where_it_was(case):
    """The loss never rises, and a flow begun where another stands is its continuation."""
    run = flow(case.problem, case.factors)
    assert (run.losses.diff() <= 1e-12).all()
    assert_same(run.losses, case.problem.loss(products(run)), 1e-13)
    rest = gradient_flow(
        case.problem,
        start=run.recorded_factors[2],
        until_loss=None,
        until_time=TIMES[3] - TIMES[2],
        settings=Settings(tolerance=TOLERANCE),
    )
    assert_same(rest.product, run.product, FLOWS_AGREE)


@some
@given(cases(), stretches)
def test_scaling_law_of_descent(case, c):
    """Descent obeys the flow's law step by step, with its learning rate over ``c^{2-2/N}``."""
    depth = len(case.factors)
    factors = [c ** (1 / depth) * W for W in case.factors]
    run = descent(case.problem, case.factors, 0.01)
    other = descent(stretched(case.problem, c), factors, 0.01 / c ** (2 - 2 / depth))
    assert_same(other.product / c, run.product)
    assert other.loss / c**2 == pytest.approx(run.loss, rel=1e-10, abs=1e-20)


def descent(problem: Problem, factors: list[Tensor], learning_rate: float) -> Trajectory:
    """Twenty steps."""
    with pytest.warns(RuntimeWarning, match="step limit"):
        return gradient_descent(
            problem, start=factors, until_loss=1e-30, learning_rate=learning_rate, max_steps=20
        )
