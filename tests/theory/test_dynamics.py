"""The equations of motion, the analytic decomposition, and the closed solutions."""

import math

import pytest
import torch
from reference_flow import factor_flow, product_flow
from scipy.integrate import quad
from scipy.special import hyp2f1

from dmf_utils.factorization.initialization import balanced_factors
from dmf_utils.factorization.product import factor_gradients, product_matrix
from dmf_utils.theory.aligned_modes import (
    aligned_singular_value,
    incremental_learning_log_start,
    time_to_reach,
)
from dmf_utils.theory.analytic_svd import analytic_svd, gradient_alignment, singular_flow
from dmf_utils.theory.dynamics import (
    conserved_matrices,
    product_dynamics,
    singular_value_rates,
    singular_vector_rates,
)
from dmf_utils.theory.one_measurement import one_measurement_asymptote, one_measurement_relation

SHAPES = [(4, 4), (3, 5), (5, 3)]
DEPTHS = [1, 2, 3, 4, 5]
# From all shapes, one with wider hidden layers.
CASES = [(*shape, hidden) for shape in SHAPES for hidden in (None, 7)]


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def completion(shape, seed=0):
    """The gradient of half the squared error on about two thirds of the entries."""
    target = randn(*shape, seed=seed + 100)
    seen = randn(*shape, seed=seed + 200) > -0.4
    return lambda W: seen * (W - target)


def close(a, b, tolerance):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=0, atol=tolerance)


def velocity_from_factors(factors, gradient):
    """The product rule, with no equation of the package."""
    slopes = factor_gradients(factors, gradient)
    return sum(
        product_matrix([*factors[:j], -slopes[j], *factors[j + 1 :]]) for j in range(len(factors))
    )


# --- conservation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
@pytest.mark.parametrize(("rows", "columns", "hidden"), CASES)
def test_flow_conserves_from_any_start(rows, columns, hidden, depth):
    hidden = hidden or min(rows, columns)
    sizes = [columns, *[hidden] * (depth - 1), rows]
    factors = [0.6 * randn(sizes[j + 1], sizes[j], seed=j) for j in range(depth)]
    before = conserved_matrices(factors)
    end = factor_flow(completion((rows, columns)), factors, [0.0, 0.5])[-1]
    assert max(float(D.abs().max()) for D in before) > 0.3  # not balanced
    assert float((end[0] - factors[0]).abs().max()) > 0.01  # and it moves
    for D, later in zip(before, conserved_matrices(end), strict=True):
        close(later, D, 1e-12)


def test_conserved_matrices_of_given_factors():
    (D,) = conserved_matrices([[[1.0, 2.0]], [[3.0], [1.0]]])
    close(D, [[10.0 - 5.0]], 0)
    assert conserved_matrices([torch.eye(2)]) == []
    for D in conserved_matrices(balanced_factors(randn(3, 5), 4, 6)):
        close(D, torch.zeros(6, 6), 1e-14)


# --- product matrix -------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1, 3])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("rows", "columns", "hidden"), CASES)
def test_product_dynamics_is_the_product_rule(rows, columns, hidden, depth, rank):
    # Balanced factors of a diagonal matrix, turned: its zero singular values are exact.
    diagonal = torch.zeros(rows, columns)
    diagonal[range(rank), range(rank)] = torch.tensor([2.0, 0.7, 0.3])[:rank]
    factors = balanced_factors(diagonal, depth, hidden if depth > 1 else None)
    factors[-1] = torch.linalg.qr(randn(rows, rows)).Q @ factors[-1]
    factors[0] = factors[0] @ torch.linalg.qr(randn(columns, columns, seed=1)).Q
    W, gradient = product_matrix(factors), randn(rows, columns, seed=3)
    velocity = product_dynamics(W, gradient, depth, factors=factors)
    close(velocity, velocity_from_factors(factors, gradient), 1e-12)
    if rank == 0:
        close(velocity, -gradient if depth == 1 else torch.zeros_like(W), 0)


def test_product_dynamics_needs_balance():
    factors = [randn(4, 4, seed=j) for j in range(3)]
    W, gradient = product_matrix(factors), randn(4, 4, seed=9)
    gap = product_dynamics(W, gradient, 3) - velocity_from_factors(factors, gradient)
    assert float(gap.norm() / velocity_from_factors(factors, gradient).norm()) > 0.1
    with pytest.raises(ValueError, match=r"factors must be balanced.*balanced_factors"):
        product_dynamics(W, gradient, 3, factors=factors)


def test_product_dynamics_refuses():
    W = randn(3, 4)
    with pytest.raises(ValueError, match=r"gradient must have shape \(3, 4\), got \(4, 3\)"):
        product_dynamics(W, W.T, 2)
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        product_dynamics(W, W, 0)
    with pytest.raises(TypeError, match=r"depth must be a whole number, got 2\.5"):
        product_dynamics(W, W, 2.5)
    with pytest.raises(ValueError, match="W has entries that are NaN"):
        product_dynamics(W * math.nan, W, 2)
    with pytest.raises(TypeError, match="gradient must be real"):
        product_dynamics(W, W * 1j, 2)
    with pytest.raises(ValueError, match="factors must hold depth = 3 matrices, got 2"):
        product_dynamics(W, W, 3, factors=balanced_factors(W, 2))
    with pytest.raises(ValueError, match="factors must multiply to the product matrix"):
        product_dynamics(W, W, 2, factors=balanced_factors(2 * W, 2))
    with pytest.raises(ValueError, match="list W_1 first"):
        conserved_matrices([randn(2, 3), randn(2, 3)])


# --- singular values and vectors ------------------------------------------------------------------


def signed_decomposition(shape):
    """An unordered decomposition with a negative singular value."""
    U, s, V = analytic_svd(randn(*shape, seed=5))
    order = torch.tensor([1, 2, 0, *range(3, s.shape[0])])
    sign = torch.ones_like(s)
    sign[1] = -1
    return U[:, order] * sign, (s * 1.0)[order] * sign, V[:, order]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_rates_are_those_of_the_product_matrix(shape, depth):
    U, s, V = signed_decomposition(shape)
    W, gradient = (U * s) @ V.T, randn(*shape, seed=6)
    velocity = velocity_from_factors(balanced_factors(W, depth), gradient)
    ds = singular_value_rates(U, s, V, gradient, depth)
    dU, dV = singular_vector_rates(U, s, V, gradient, depth, factors=balanced_factors(W, depth))
    close(ds, ((velocity @ V) * U).sum(0), 1e-12)
    zero = torch.zeros(s.shape[0], s.shape[0])
    # Columns that stay orthonormal, and together the velocity: this determines both rates.
    close(U.T @ dU + dU.T @ U, zero, 1e-12)
    close(V.T @ dV + dV.T @ V, zero, 1e-12)
    close((dU * s) @ V.T + (U * ds) @ V.T + (U * s) @ dV.T, velocity, 1e-12)
    if shape[0] != shape[1]:
        assert float(gradient_alignment(U, V, gradient)[2:][shape[0] < shape[1]]) > 0.1


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_rates_are_finite_differences_of_a_flow(shape, depth):
    gradient, h = completion(shape), 2e-4
    times = [0.0, *(0.05 + i * h for i in (-2, -1, 0, 1, 2))]
    path = product_flow(gradient, balanced_factors(randn(*shape, seed=5), depth), times)
    at = analytic_svd(path[3])
    beside = [analytic_svd(path[i], near=at) for i in (1, 2, 4, 5)]
    dU, dV = singular_vector_rates(*at, gradient(path[3]), depth)
    ds = singular_value_rates(*at, gradient(path[3]), depth)
    for rate, *values in zip((dU, ds, dV), *beside, strict=True):
        difference = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        close(rate, difference, 1e-7)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("rows", "columns", "hidden"), CASES)
def test_integrated_decomposition_is_the_factor_flow(rows, columns, hidden, depth):
    gradient, times = completion((rows, columns)), [0.0, 0.1, 0.2]
    start = signed_decomposition((rows, columns))
    factors = balanced_factors(
        (start[0] * start[1]) @ start[2].T, depth, hidden if depth > 1 else None
    )
    flow = singular_flow(gradient, start, depth, times)
    close(flow.product, product_flow(gradient, factors, times), 1e-10)
    eye = torch.eye(min(rows, columns), dtype=torch.float64).expand(3, -1, -1)
    close(flow.U.mT @ flow.U, eye, 1e-10)
    close(flow.V.mT @ flow.V, eye, 1e-10)
    assert float((flow.product[-1] - flow.product[0]).abs().max()) > 0.05


def test_only_depth_one_crosses_zero():
    """The loss pulls a positive value to -1: depth 1 gets there, deeper flows stop at zero."""
    U = V = torch.eye(2)
    s, gradient = torch.tensor([0.0, 2.0]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    close(singular_value_rates(U, s, V, gradient, 1), [-1.0, 0.0], 0)
    for depth in DEPTHS[1:]:
        close(singular_value_rates(U, s, V, gradient, depth), [0.0, 0.0], 0)
    target = torch.diag(torch.tensor([-1.0, 2.0], dtype=torch.float64))
    start = (torch.eye(2), torch.tensor([0.5, 2.0]), torch.eye(2))
    ends = [singular_flow(lambda W: W - target, start, n, [0.0, 2.0]).s[-1, 0] for n in (1, 2)]
    close(ends[0], -1 + 1.5 * math.exp(-2), 1e-10)
    assert 0 < ends[1] < 0.05


def test_analytic_svd_keeps_order_and_signs():
    U, s, V = signed_decomposition((5, 3))
    W = (U * s) @ V.T + 1e-6 * randn(5, 3, seed=8)
    near = analytic_svd(W, near=(U, s, V))
    close((near.U * near.s) @ near.V.T, W, 1e-14)
    for new, old in zip(near, (U, s, V), strict=True):
        close(new, old, 1e-4)
    assert torch.all(analytic_svd(W).s > 0)
    with pytest.raises(ValueError, match="near must hold 3 singular values, got 2"):
        analytic_svd(W, near=(U[:, :2], s[:2], V[:, :2]))


def test_singular_rates_refuse():
    U, s, V = analytic_svd(randn(4, 3))
    gradient = randn(4, 3, seed=1)
    for repeated in ([2.0, 1.0, -1.0], [2.0, -2.0, 1.0]):
        with pytest.raises(ValueError, match="squares of s must be distinct"):
            singular_vector_rates(U, repeated, V, gradient, 2)
    with pytest.raises(ValueError, match="s must have no zero singular value"):
        singular_vector_rates(U, [2.0, 1.0, 0.0], V, gradient, 2)
    with pytest.raises(ValueError, match="columns of U must be orthonormal"):
        singular_value_rates(2 * U, s, V, gradient, 2)
    with pytest.raises(ValueError, match=r"V must have shape \(3, 3\)"):
        singular_value_rates(U, s, V[:2], gradient, 2)
    with pytest.raises(
        ValueError, match=r"s must hold all min\(d, d'\) = 3 singular values, got 2"
    ):
        singular_vector_rates(U[:, :2], s[:2], V[:, :2], gradient, 2)
    unbalanced = [randn(3, 3), randn(4, 3, seed=2)]
    at = analytic_svd(product_matrix(unbalanced))
    for rates in (singular_value_rates, singular_vector_rates):
        with pytest.raises(ValueError, match="factors must be balanced"):
            rates(*at, gradient, 2, factors=unbalanced)
    with pytest.raises(ValueError, match="times must hold at least two increasing numbers"):
        singular_flow(lambda W: W, at, 2, [0.0, 0.0])


# --- Corollary 1 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
def test_square_vectors_stand_still_exactly_when_aligned(depth):
    U, s, V = analytic_svd(randn(4, 4))
    aligned = (U * torch.tensor([0.3, -2.0, 1.0, 0.0])) @ V.T
    assert float(gradient_alignment(U, V, aligned).off_diagonal) < 1e-14
    assert max(float(x.abs().max()) for x in singular_vector_rates(U, s, V, aligned, depth)) < 1e-12
    turned = aligned + 0.5 * U[:, :1] @ V[:, 1:2].T
    close(gradient_alignment(U, V, turned).off_diagonal, 0.5, 1e-14)
    assert max(float(x.norm()) for x in singular_vector_rates(U, s, V, turned, depth)) > 0.05


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("depth", DEPTHS)
def test_rectangular_vectors_can_turn_though_aligned(depth, transposed):
    """Not in the paper: M is diagonal, and the vectors still turn out of their span."""
    full, _ = torch.linalg.qr(randn(5, 5))
    U, outside, V = full[:, :3], full[:, 3], torch.linalg.qr(randn(3, 3, seed=1)).Q
    s = torch.tensor([2.0, 1.0, 0.5])
    gradient = (U * torch.tensor([1.0, 2.0, 3.0])) @ V.T + 0.7 * outside[:, None] * V[:, 0]
    if transposed:
        U, V, gradient = V, U, gradient.T
    found = gradient_alignment(U, V, gradient)
    residual, other = (found.right, found.left) if transposed else (found.left, found.right)
    assert float(found.off_diagonal) < 1e-14
    close(residual, 0.7, 1e-14)
    close(other, 0.0, 0)
    moving = singular_vector_rates(U, s, V, gradient, depth)[transposed]
    # Only u_1 moves, out of the span, at the rate of the projection term.
    wanted = torch.zeros_like(moving)
    wanted[:, 0] = -0.7 * 2.0 ** (1 - 2 / depth) * outside
    close(moving, wanted, 1e-12)


# --- one measurement ------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_one_measurement_relation_holds_along_the_flow(rows, columns, depth):
    rho, start = (
        torch.tensor([3.0, 1.2, -0.5], dtype=torch.float64),
        torch.tensor([0.5, 0.4, 0.6], dtype=torch.float64),
    )
    U = torch.linalg.qr(randn(rows, rows)).Q[:, :3]
    V = torch.linalg.qr(randn(columns, columns, seed=1)).Q[:, :3]
    A = (U * rho) @ V.T
    path = product_flow(
        lambda W: ((A * W).sum() - 30.0) * A,
        balanced_factors((U * start) @ V.T, depth),
        [0.0, 0.01, 0.03, 1.0],
    )
    s = torch.diagonal(U.T @ path @ V, dim1=1, dim2=2)
    assert float(s[-1, 0]) > 5
    for r in (1, 2):
        q = float(rho[r] / rho[0])
        close(s[:, r], one_measurement_relation(s[:, 0], s[0, 0], s[0, r], q, depth), 1e-8)


@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize("q", [0.4, 0.9, -0.5])
def test_asymptote(depth, q):
    limit = one_measurement_asymptote(0.5, 0.4, q, depth)
    b = (depth - 2) / depth
    close(one_measurement_relation(1e300, 0.5, 0.4, q, depth), limit, 1e-8)
    near = one_measurement_relation([1e8, 1e9], 0.5, 0.4, q, depth) - limit
    close(torch.log10(near[0] / near[1]), b, 0.05)  # it is approached like a power


def test_growth_is_linear_then_polynomial_then_bounded():
    other = torch.tensor([1e5, 1e6], dtype=torch.float64)
    exponent = [
        math.log10(torch.divide(*one_measurement_relation(other, 0.1, 0.1, 0.5, n).flip(0)))
        for n in (1, 2, 3)
    ]
    assert exponent[0] == pytest.approx(1, abs=0.01)
    assert exponent[1] == pytest.approx(0.5, abs=1e-12)
    assert exponent[2] == pytest.approx(0, abs=0.03)


def test_one_measurement_refuses():
    with pytest.raises(ValueError, match="start must be a positive number"):
        one_measurement_relation(1.0, 0.5, 0.0, 0.5, 2)
    with pytest.raises(ValueError, match="other must be positive"):
        one_measurement_relation(-1.0, 0.5, 0.5, 0.5, 3)
    with pytest.raises(ValueError, match="it never reaches"):
        one_measurement_relation(100.0, 0.5, 0.5, 2.0, 3)
    # At depth 4, 1 + 2 (4^(-1/2) - 1) = 0: it diverges just there.
    with pytest.raises(ValueError, match="diverges before"):
        one_measurement_relation(4.0, 1.0, 1.0, 2.0, 4)
    with pytest.raises(ValueError, match="outgrows the other"):
        one_measurement_asymptote(1.0, 1.0, 1.0, 4)
    with pytest.raises(ValueError, match="outgrows the other"):
        one_measurement_asymptote(0.5, 0.5, 2.0, 3)
    with pytest.raises(ValueError, match="depth must be at least 3, got 2"):
        one_measurement_asymptote(0.5, 0.5, 0.5, 2)


# --- aligned modes --------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_aligned_singular_values_solve_the_flow(rows, columns, depth):
    start, goal = (
        torch.tensor([0.01, 0.3, 2.5], dtype=torch.float64),
        torch.tensor([2.0, 0.7, 0.9], dtype=torch.float64),
    )
    U = torch.linalg.qr(randn(rows, rows)).Q[:, :3]
    V = torch.linalg.qr(randn(columns, columns, seed=1)).Q[:, :3]
    target, times = (U * goal) @ V.T, [0.0, 0.2, 1.0, 2.0, 6.0]
    path = product_flow(lambda W: W - target, balanced_factors((U * start) @ V.T, depth), times)
    s = torch.diagonal(U.T @ path @ V, dim1=1, dim2=2)
    for r in range(3):
        close(s[:, r], aligned_singular_value(times, start[r], goal[r], depth), 1e-8)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("start", "target"), [(1e-3, 2.0), (0.4, 0.7), (3.0, 0.7), (1e-6, 0.1)])
def test_time_to_reach_integrates_the_rate(start, target, depth):
    values = [start + x * (target - start) for x in (0.0, 0.1, 0.5, 0.9, 1 - 1e-9)]
    times = time_to_reach(values, start, target, depth)
    assert float(times[0]) == 0

    def slowness(x):
        return math.exp(x) / (depth * math.exp(x) ** (2 - 2 / depth) * (target - math.exp(x)))

    for value, time in zip(values[1:4], times[1:4], strict=True):
        wanted = quad(slowness, math.log(start), math.log(value), epsabs=0, epsrel=1e-11)[0]
        assert float(time) == pytest.approx(wanted, rel=1e-8)
    close(aligned_singular_value(times, start, target, depth), values, 1e-8)


@pytest.mark.parametrize("depth", [3, 4, 5, 9])
def test_time_to_reach_is_the_hypergeometric_function(depth):
    a = 2 - 2 / depth
    x = torch.tensor([0.01, 0.2, 0.6, 0.9], dtype=torch.float64)
    G = x.numpy() ** (1 - a) / (1 - a) * hyp2f1(1, 1 - a, 2 - a, x.numpy())
    wanted = (G[1:] - G[0]) / (depth * 3.0**a)
    close(time_to_reach(3 * x[1:], 0.03, 3.0, depth), wanted, 1e-8)


@pytest.mark.parametrize("depth", DEPTHS)
def test_aligned_singular_value_at_the_ends(depth):
    close(aligned_singular_value([0.0, 1e9], 0.2, 1.5, depth), [0.2, 1.5], 1e-15)
    close(aligned_singular_value(3.0, 1.5, 1.5, depth), 1.5, 1e-15)


def test_aligned_singular_value_from_any_start_at_depth_one():
    # s' = y - s, whose solution forgets its start exponentially, be that zero or negative.
    for start in (0.0, -2.0):
        expected = 1.5 + (start - 1.5) * math.exp(-0.7)
        close(aligned_singular_value(0.7, start, 1.5, 1), expected, 1e-14)


def test_aligned_modes_refuse():
    with pytest.raises(ValueError, match="start must be a positive number"):
        aligned_singular_value(1.0, 0.0, 1.0, 2)
    with pytest.raises(ValueError, match="target must be a positive number"):
        aligned_singular_value(1.0, 0.1, -1.0, 3)
    with pytest.raises(ValueError, match="times must not be negative"):
        aligned_singular_value([-1.0, 1.0], 0.1, 1.0, 3)
    for value in (1.0, 1.1, 0.05):
        with pytest.raises(ValueError, match="value must lie between start"):
            time_to_reach(value, 0.1, 1.0, 3)
    with pytest.raises(ValueError, match="ratio must be above 1"):
        incremental_learning_log_start(1.0, 3)
    with pytest.raises(ValueError, match="both modes take the same time"):
        incremental_learning_log_start(2.0, 1)


# --- incremental learning -------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
@pytest.mark.parametrize("target", [1.0, 0.3])
def test_incremental_threshold_is_where_both_happen_at_once(depth, target):
    ratio = 1.5
    start = math.exp(incremental_learning_log_start(ratio, depth, target=target))
    first = time_to_reach(0.9 * ratio * target, start, ratio * target, depth)
    second = time_to_reach(0.1 * target, start, target, depth)
    assert float(first) == pytest.approx(float(second), rel=1e-8)
    # A smaller start has the modes learned one after the other.
    first = time_to_reach(0.9 * ratio * target, start / 2, ratio * target, depth)
    assert float(first) < float(time_to_reach(0.1 * target, start / 2, target, depth))


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_incremental_threshold_is_a_power_for_deep_factorizations(depth):
    logs = [incremental_learning_log_start(1 + h, depth) for h in (1e-3, 1e-4)]
    assert float(logs[0] - logs[1]) / math.log(10) == pytest.approx(depth / (depth - 2), abs=0.05)


def test_incremental_threshold_is_exponential_at_depth_two():
    scaled = [h * float(incremental_learning_log_start(1 + h, 2)) for h in (1e-3, 1e-5)]
    assert scaled == pytest.approx([-2 * math.log(9)] * 2, abs=0.05)
