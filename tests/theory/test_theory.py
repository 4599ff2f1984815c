"""Commuting sensing: the end point, its certificate, the limit, and what the limit hides."""

import math

import numpy as np
import pytest
import torch
from reference_flow import product_flow
from scipy.integrate import solve_ivp

from dmf_utils.factorization.norms import nuclear_norm
from dmf_utils.theory.commuting import commuting_eigenbasis, commuting_end_point
from dmf_utils.theory.dynamics import product_dynamics
from dmf_utils.theory.minimum_trace import minimum_trace_vertex
from dmf_utils.theory.transversal import transversal_growth_rates


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def orthogonal(d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q


def sensing(eigenvalues, solution, rotation=None):
    """Measurements with these eigenvalues, one row each, and the values of the solution."""
    a = tensor(eigenvalues)
    Q = torch.eye(a.shape[1], dtype=torch.float64) if rotation is None else rotation
    return Q @ torch.diag_embed(a) @ Q.T, a @ tensor(solution)


def gradient_of(A, y):
    return lambda W: torch.einsum("i,ikl->kl", torch.einsum("ikl,kl->i", A, W) - y, A)


# Two measurements of four eigenvalues; the least trace is at (1.3, 0, 0.7, 0).
ROWS = [[1.0, 0.3, -0.2, 0.5], [0.2, -0.4, 1.0, 0.3]]
TRUTH = [1.3, 0.0, 0.7, 0.0]
PROBLEMS = {
    "two of four": (ROWS, [0.9, 0.3, 0.5, 0.2]),
    "one of three": ([[1.0, 0.8, 0.5]], [0.2, 0.9, 0.4]),
    "all": ([[1.0, 0.0], [0.5, 1.2]], [0.7, 1.8]),
    "repeated": ([[1.0, 0.3, 0.2], [2.0, 0.6, 0.4]], [0.5, 0.5, 0.5]),
    "indefinite": ([[1.0, -0.5, 0.3], [0.0, 1.0, -0.4]], [1.0, 0.6, 0.2]),
}


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
@pytest.mark.parametrize("name", PROBLEMS)
def test_end_point_is_where_the_full_flow_ends(name, depth):
    """On all factors, rotated, with a start so large that no instability has time to act."""
    rows, solution = PROBLEMS[name]
    d = len(rows[0])
    A, y = sensing(rows, solution, orthogonal(d))
    start = [0.6 * torch.eye(d, dtype=torch.float64)] * depth
    W = product_flow(gradient_of(A, y), start, [0.0, 80.0])[-1]
    assert float((torch.einsum("ikl,kl->i", A, W) - y).abs().max()) < 1e-9
    end = commuting_end_point(A, y, 0.6, depth)
    torch.testing.assert_close(W, end.W, rtol=0, atol=1e-8)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_end_point_from_a_small_start_in_the_eigenbasis(depth):
    alpha, (A, y) = 0.02, sensing(ROWS, TRUTH)
    a, target = tensor(ROWS).numpy(), y.numpy()

    def rate(_, x):  # x = ln lambda
        lam = np.exp(x)
        return depth * lam ** (1 - 2 / depth) * ((target - a @ lam) @ a)

    start = np.full(4, depth * math.log(alpha))
    found = solve_ivp(
        rate, (0, 20 + 60 * alpha ** (2 - depth)), start, "LSODA", rtol=1e-12, atol=1e-12
    )
    lam = np.exp(found.y[:, -1])
    assert np.abs(a @ lam - target).max() < 1e-9
    end = commuting_end_point(A, y, alpha, depth)
    # measured in the eigenbasis, whose order is not ours
    torch.testing.assert_close(end.W, torch.diag(torch.as_tensor(lam)), rtol=0, atol=1e-8)


@pytest.mark.parametrize("alpha", [1.5, 0.5, 1e-2, 1e-4])
@pytest.mark.parametrize("depth", [2, 3, 4, 5])
@pytest.mark.parametrize("name", PROBLEMS)
def test_end_point_and_its_certificate(name, depth, alpha):
    rows, solution = PROBLEMS[name]
    A, y = sensing(rows, solution, orthogonal(len(rows[0]), seed=1))
    end = commuting_end_point(A, y, alpha, depth)
    lam = end.eigenvalues
    assert float((torch.einsum("ikl,kl->i", A, end.W) - y).abs().max()) < 1e-10
    s = end.basis.T @ torch.einsum("i,ikl->kl", end.multipliers, A) @ end.basis
    assert float((s - torch.diag(s.diagonal())).abs().max()) < 1e-9 * max(1, float(s.abs().max()))
    s = s.diagonal()
    # The stationarity of the dual, in the logarithm where lambda is far below 1.
    if depth == 2:
        torch.testing.assert_close(torch.log(lam), 2 * math.log(alpha) + 2 * s, rtol=0, atol=1e-7)
        scale = max(math.log(1 / alpha), float(s.max()))
        wanted = end.multipliers / scale if scale > 0 else torch.zeros_like(end.multipliers)
        torch.testing.assert_close(end.certificate, wanted, rtol=1e-9, atol=1e-12)
    else:
        room = 1 - (depth - 2) * alpha ** (depth - 2) * s
        wanted = (lam / alpha**depth) ** (-(depth - 2) / depth)
        torch.testing.assert_close(room, wanted, rtol=1e-7, atol=1e-14)
        gap = alpha ** (depth - 2) * (lam ** (2 / depth)).sum()
        torch.testing.assert_close(end.gap, gap, rtol=1e-7, atol=1e-13)
        scaled = (depth - 2) * alpha ** (depth - 2) * end.multipliers
        torch.testing.assert_close(end.certificate, scaled, rtol=1e-12, atol=0)
    # Feasible for the dual: so the gap bounds how far the trace is from the least one.
    dual = torch.linalg.eigvalsh(torch.einsum("i,ikl->kl", end.certificate, A))
    assert float(dual[-1]) <= 1 + 1e-12
    torch.testing.assert_close(torch.sort(end.certificate_eigenvalues).values, dual)
    torch.testing.assert_close(end.gap, lam.sum() - y @ end.certificate, rtol=0, atol=1e-12)
    assert float(end.gap) >= -1e-12


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_end_point_minimizes_the_regularized_trace(depth):
    alpha, (A, y) = 0.2, sensing(*PROBLEMS["two of four"])
    _, eigenvalues = commuting_eigenbasis(A)
    lam = commuting_end_point(A, y, alpha, depth).eigenvalues
    free = torch.linalg.svd(eigenvalues).Vh[2:]

    def objective(lam):
        return float(lam.sum() - depth / 2 * alpha ** (depth - 2) * (lam ** (2 / depth)).sum())

    for direction in (*free, free.sum(0), free[0] - 2 * free[1]):
        step = 0.01 * lam.min() * direction
        moved = [objective(x) - objective(lam) for x in (lam + step, lam - step)]
        assert min(moved) > 0
        assert moved[0] == pytest.approx(moved[1], rel=0.1)  # no first-order term is left


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_approach_to_the_limit_has_the_predicted_exponent(depth):
    A, y = sensing(ROWS, TRUTH, orthogonal(4, seed=2))
    limit = minimum_trace_vertex(A, y)
    Q = orthogonal(4, seed=2)
    torch.testing.assert_close(limit.W, (Q * tensor(TRUTH)) @ Q.T, rtol=0, atol=1e-12)
    alphas = (1e-3, 1e-4) if depth < 4 else (3e-2, 1e-2)
    errors = [float((commuting_end_point(A, y, x, depth).W - limit.W).norm()) for x in alphas]
    seen = math.log(errors[0] / errors[1]) / math.log(alphas[0] / alphas[1])
    assert seen == pytest.approx(limit.error_exponent(depth), abs=0.05)
    # By hand: nu* solves the two active equations, and z* is the rest.
    a = tensor(ROWS)
    z = a.T @ torch.linalg.solve(a[:, [0, 2]].T, torch.ones(2, dtype=torch.float64))
    wanted = 2 * (1 - float(z[[1, 3]].max())) if depth == 2 else depth
    assert limit.error_exponent(depth) == pytest.approx(wanted, abs=1e-10)


def test_limit_is_certified():
    A, y = sensing(ROWS, TRUTH, orthogonal(4, seed=3))
    limit = minimum_trace_vertex(A, y)
    assert float(y @ limit.certificate) == pytest.approx(2.0, abs=1e-12)
    dual = torch.linalg.eigvalsh(torch.einsum("i,ikl->kl", limit.certificate, A))
    assert dual[2:].tolist() == pytest.approx([1, 1], abs=1e-12)
    assert float(dual[1]) < 0.99
    for depth in (2, 3, 4):  # the certificates of the end points tend to it
        end = commuting_end_point(A, y, 1e-5 if depth < 4 else 1e-3, depth)
        allowed = 0.2 if depth == 2 else 1e-4
        torch.testing.assert_close(end.certificate, limit.certificate, rtol=0, atol=allowed)


def test_limit_without_a_rate():
    assert (
        minimum_trace_vertex(*sensing([[1.0, 0.0], [0.5, 2.0]], [0.7, 1.8])).error_exponent(2)
        == math.inf
    )
    for rows, solution in (([[1.0, 1.0]], [0.5, 0.5]), (ROWS, [0.0, 0.0, 0.7, 0.0])):
        with pytest.raises(ValueError, match="degenerate vertex or a face"):
            minimum_trace_vertex(*sensing(rows, solution))
    with pytest.raises(ValueError, match="fit no positive semidefinite matrix"):
        minimum_trace_vertex(torch.eye(2)[None], [-1.0])
    with pytest.raises(ValueError, match="values must be a vector of length 1"):
        minimum_trace_vertex(torch.eye(2)[None], [1.0, 1.0])


def test_commuting_sensing_refuses():
    A = torch.stack([torch.eye(2), tensor([[0.0, 1.0], [1.0, 0.0]])])
    crossing = torch.stack([torch.diag(tensor([1.0, 2.0])), A[1]])
    with pytest.raises(ValueError, match="measurements must commute"):
        commuting_end_point(crossing, [1.0, 1.0], 0.1, 2)
    with pytest.raises(ValueError, match="measurements must be symmetric"):
        commuting_end_point(tensor([[[1.0, 1.0], [0.0, 1.0]]]), [1.0], 0.1, 2)
    with pytest.raises(
        ValueError, match=r"measurements must have shape \(m, d, d\), got \(1, 2, 3\)"
    ):
        commuting_end_point(torch.ones(1, 2, 3), [1.0], 0.1, 2)
    with pytest.raises(ValueError, match="values must be a vector of length 2"):
        commuting_end_point(A, [1.0], 0.1, 2)
    with pytest.raises(ValueError, match="values must be those of a positive definite matrix"):
        commuting_end_point(A, [1.0, 1.5], 0.1, 2)  # an eigenvalue -0.25 at any solution
    with pytest.raises(ValueError, match="values contradict each other"):
        commuting_end_point(torch.stack([A[0], A[0]]), [1.0, 2.0], 0.1, 2)
    with pytest.raises(ValueError, match="alpha must be a positive number"):
        commuting_end_point(A, [1.0, 0.2], 0.0, 2)
    with pytest.raises(ValueError, match="depth must be at least 2, got 1"):
        commuting_end_point(A, [1.0, 0.2], 0.1, 1)
    with pytest.raises(ValueError, match="too small for depth 6"):
        commuting_end_point(A, [1.0, 0.2], 1e-4, 6)


@pytest.mark.parametrize("seed", [0, 1])
def test_common_eigenbasis(seed):
    """Also where every single measurement has repeated eigenvalues."""
    rows = [[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]]
    A, _ = sensing(rows, TRUTH, orthogonal(4, seed))
    Q, eigenvalues = commuting_eigenbasis(A)
    torch.testing.assert_close((Q * eigenvalues[:, None]) @ Q.T, A, rtol=0, atol=1e-12)
    torch.testing.assert_close(Q.T @ Q, torch.eye(4, dtype=Q.dtype), rtol=0, atol=1e-12)


@pytest.mark.parametrize("unit", [1e6, 1e-6])
def test_whether_measurements_commute_does_not_depend_on_their_unit(unit):
    A, _ = sensing(ROWS, TRUTH, orthogonal(4, seed=2))
    found = commuting_eigenbasis(unit * A)[1].sort().values / unit
    torch.testing.assert_close(found, tensor(ROWS).sort().values, rtol=0, atol=1e-12)
    crossing = torch.stack([torch.diag(tensor([1.0, 2.0])), tensor([[0.0, 1.0], [1.0, 0.0]])])
    with pytest.raises(ValueError, match="measurements must commute"):
        commuting_eigenbasis(unit * crossing)


# --- what the limit hides -------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_transversal_rates_linearize_the_dynamics(depth):
    lam, q = tensor([2.0, 0.3, 0.3, 0.05, 0.0]), tensor([0.1, 0.7, -0.4, 1.0, 0.5])
    rates = transversal_growth_rates(lam, q, depth)
    h = 1e-6
    for k in range(4):
        for other in range(k):
            for sign, found in ((1, rates.symmetric), (-1, rates.antisymmetric)):
                E = torch.zeros(5, 5, dtype=torch.float64)
                E[k, other], E[other, k] = 1, sign
                ahead, back = (
                    product_dynamics(torch.diag(lam) + x * E, -torch.diag(q), depth)
                    for x in (h, -h)
                )
                slope = ((ahead - back) / (2 * h))[k, other]
                assert float(found[k, other]) == pytest.approx(float(slope), abs=1e-7)
                torch.testing.assert_close(found, found.T)


@pytest.mark.parametrize(("depth", "rate"), [(2, 1.0), (3, 2 ** (1 / 3)), (4, math.sqrt(2))])
def test_transversal_rate_while_one_mode_waits(depth, rate):
    """Mode 1 learned at 2, mode 2 waiting with residual q."""
    for q in (1.0, -0.5):
        found = transversal_growth_rates([2.0, 0.0], [0.0, q], depth)
        assert float(found.symmetric[0, 1]) == pytest.approx(q * rate, abs=1e-12)
        assert float(found.antisymmetric[0, 1]) == pytest.approx(-q * rate, abs=1e-12)
        assert found.symmetric.diagonal().tolist() == [0, 0]
    with pytest.raises(ValueError, match="eigenvalues must not be negative"):
        transversal_growth_rates([1.0, -1.0], [0.0, 0.0], depth)
    with pytest.raises(ValueError, match="residuals must be a vector of length 2"):
        transversal_growth_rates([1.0, 1.0], [0.0], depth)


@pytest.mark.parametrize("depth", [3, 4])
def test_flow_leaves_the_aligned_solution(depth):
    """Observe the diagonal (2, 1): the flow ends at rank 1, same nuclear norm, no loss."""
    alpha = 0.01 if depth == 3 else 0.03
    y = tensor([2.0, 1.0])
    A = torch.stack([torch.diag(tensor([1.0, 0.0])), torch.diag(tensor([0.0, 1.0]))])
    gradient = gradient_of(A, y)
    noise = 1e-12 * tensor([[0.0, 1.0], [1.0, 0.0]])

    def rate(_, state):
        W = torch.as_tensor(state).reshape(2, 2)
        return product_dynamics(W, gradient(W), depth).flatten().numpy()

    start = alpha**depth * torch.eye(2, dtype=torch.float64) + noise
    wait = alpha ** (2 - depth) / (depth - 2)
    times = np.linspace(0, 2 * wait, 4001)
    found = solve_ivp(rate, (0, times[-1]), start.flatten(), "LSODA", times, rtol=1e-10, atol=1e-22)
    path = torch.from_numpy(found.y.T.copy()).reshape(-1, 2, 2)
    # While the noise is small it grows at the predicted rates, from the first mode's learning on.
    off = path[:, 0, 1]
    last = int(torch.nonzero(off < 1e-5).max())
    rates = [
        transversal_growth_rates(W.diagonal(), y - W.diagonal(), depth).symmetric[0, 1]
        for W in path[: last + 1]
    ]
    total = torch.trapezoid(torch.stack(rates), torch.from_numpy(times[: last + 1].copy()))
    grown = torch.log(off[last] / off[0])
    assert float(grown) > 12
    assert float(grown / total) == pytest.approx(1, abs=0.01)
    assert float(rates[-1]) == pytest.approx(2 ** ((depth - 2) / depth), abs=0.05)
    # The end: rank one where the theorem's limit is diag(2, 1).
    wanted = tensor([[2.0, math.sqrt(2)], [math.sqrt(2), 1.0]])
    torch.testing.assert_close(path[-1], wanted, rtol=0, atol=1e-4)
    assert float(nuclear_norm(path[-1])) == pytest.approx(3, abs=1e-6)
    assert float(gradient(path[-1]).abs().max()) < 1e-8
