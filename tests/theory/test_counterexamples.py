"""The problems on which norms fail: Proposition 1, and the 2 x 2 completion problem."""

import math

import numpy as np
import pytest
import torch
from reference_flow import product_flow
from scipy.optimize import minimize_scalar

from dmf_utils.factorization.initialization import balanced_factors
from dmf_utils.factorization.norms import effective_rank, nuclear_norm, schatten_norm
from dmf_utils.theory import two_by_two
from dmf_utils.theory.commuting import commuting_end_point
from dmf_utils.theory.counterexamples import (
    rank_two_counterexample,
)
from dmf_utils.theory.two_by_two import (
    two_by_two_flow,
)
from dmf_utils.theory.unobserved_entry import unobserved_entry_bound, unobserved_entry_growth

POWERS = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def close(a, b, tolerance):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype), rtol=0, atol=tolerance)


def orthogonal(d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q


ROTATED = [(d, rotation) for d in (3, 6) for rotation in (None, orthogonal(d))]
CASES = [(rank_two_counterexample(d, rotation), 2) for d, rotation in ROTATED]


def measured(problem, W):
    return torch.einsum("ikl,kl->i", problem.measurements, W)


# --- Proposition 1 --------------------------------------------------------------------------------


@pytest.mark.parametrize(("problem", "rank"), CASES)
def test_limit_has_the_least_trace(problem, rank):
    assert float((problem.measurements - problem.measurements.mT).abs().max()) < 1e-15
    close(measured(problem, problem.limit), problem.values, 1e-14)
    eigenvalues = torch.linalg.eigvalsh(problem.limit)
    close(eigenvalues, [0.0] * (len(eigenvalues) - rank) + [1.0] * rank, 1e-14)
    # The certificate: trace(W) >= <A* nu, W> = <y, nu> for every feasible W, equal at the limit.
    dual = torch.einsum("i,ikl->kl", problem.certificate, problem.measurements)
    assert float(torch.linalg.eigvalsh(dual)[-1]) <= 1 + 1e-14
    close(problem.values @ problem.certificate, torch.trace(problem.limit), 1e-14)
    close(nuclear_norm(problem.limit), float(rank), 1e-13)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize(("problem", "rank"), CASES)
def test_flow_tends_to_the_limit(problem, rank, depth):
    errors = [
        float(
            (
                commuting_end_point(problem.measurements, problem.values, a, depth).W
                - problem.limit
            ).norm()
        )
        for a in (1e-2, 1e-3)
    ]
    # The slack of the certificate is 1/4 on the modes that are left.
    seen = math.log10(errors[0] / errors[1])
    assert seen == pytest.approx(0.5 if depth == 2 else depth, abs=0.05)


@pytest.mark.parametrize("epsilon", [1e-1, -1e-2, 1e-3])
@pytest.mark.parametrize(("problem", "rank"), CASES)
def test_escape_is_feasible_and_lowers_every_quasi_norm(problem, rank, epsilon):
    W = problem.escape(epsilon)
    close(measured(problem, W), problem.values, 1e-14)
    eigenvalues = torch.linalg.eigvalsh(W)
    wanted = sorted([0.0] * (len(W) - rank) + [1.0] * (rank - 2) + [1 - epsilon, 1 + epsilon])
    close(eigenvalues, wanted, 1e-14)
    close(nuclear_norm(W), nuclear_norm(problem.limit), 1e-13)
    for p in POWERS:
        change = schatten_norm(W, p) ** p - schatten_norm(problem.limit, p) ** p
        assert float(change) < 0
        close(change, (1 + epsilon) ** p + (1 - epsilon) ** p - 2, 1e-12)


def test_counterexamples_refuse():
    with pytest.raises(ValueError, match="d must be at least 3, got 2"):
        rank_two_counterexample(2)
    with pytest.raises(ValueError, match="rotation must be orthogonal"):
        rank_two_counterexample(3, 2 * torch.eye(3))
    with pytest.raises(ValueError, match=r"rotation must have shape \(3, 3\)"):
        rank_two_counterexample(3, torch.eye(4))
    with pytest.raises(ValueError, match="epsilon must be from -1 to 1"):
        rank_two_counterexample(3).escape(1.5)


# --- the 2 x 2 problem ----------------------------------------------------------------------------

POSITIVE = {"identity": [[0.1, 0.0], [0.0, 0.1]], "general": [[0.3, 0.1], [-0.2, 0.25]]}


# Of negative determinant: singular values that start close, and far apart (the other coordinates).
NEGATIVE = [[[0.2, 0.0], [0.0, -0.1]], [[0.0, 1.0], [1.0, 1.0]], [[1.5, 0.1], [0.2, -0.1]]]


@pytest.mark.parametrize("start", [*POSITIVE.values(), *NEGATIVE])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_stable_coordinates_follow_the_factor_flow(start, depth):
    times = [0.0, 0.5, 2.0, 10.0]
    wanted = product_flow(two_by_two._gradient, balanced_factors(tensor(start), depth), times)
    flow = two_by_two_flow(start, depth, times)
    close(flow.product, wanted, 1e-8)
    close(flow.unobserved_entry, wanted[:, 0, 0], 1e-8)
    close(flow.log_singular_values.exp(), torch.linalg.svdvals(wanted), 1e-8)
    close(flow.effective_rank, effective_rank(wanted), 1e-7)
    residual = wanted - tensor([[0.0, 1.0], [1.0, 0.0]])
    residual[:, 0, 0] = 0
    close(flow.loss, (residual**2).sum((1, 2)) / 2, 1e-8)
    assert flow.determinant_sign == int(torch.sign(torch.linalg.det(tensor(start))))


def test_gradient_is_that_of_the_loss():
    W = tensor([[3.0, 0.5], [-0.2, 0.7]]).requires_grad_()
    loss = ((W[0, 1] - 1) ** 2 + (W[1, 0] - 1) ** 2 + W[1, 1] ** 2) / 2
    close(two_by_two._gradient(W.detach()), torch.autograd.grad(loss, W)[0], 1e-15)


@pytest.mark.parametrize("loss", [1e-3, 0.1, 0.374, 0.376, 0.45, 0.49])
def test_bound_is_the_infimum_over_all_observed_entries(loss):
    """Positive determinant forces |w11| > w12 w21 / |w22|; search all misses with this loss."""
    polar = np.linspace(1e-4, math.pi / 2, 2001)[:, None]  # the share of w22 in the loss
    around = np.linspace(0, 2 * math.pi, 2001)[None]
    size = math.sqrt(2 * loss)
    first = 1 - size * np.cos(polar) * np.cos(around)
    second = 1 - size * np.cos(polar) * np.sin(around)
    entry = (first * second / (size * np.sin(polar)))[first * second > 0]
    bound = float(unobserved_entry_bound(loss))
    assert entry.min() >= bound * (1 - 1e-12)
    assert entry.min() == pytest.approx(bound, rel=2e-3)


def test_flow_with_no_asked_time_between_two_changes_of_coordinates():
    start = [[-0.022, -0.042], [-0.007, 0.02]]  # its singular values part and meet before t = 1e3
    sparse = two_by_two_flow(start, 3, [0.0, 1e3, 1e6])
    dense = two_by_two_flow(start, 3, [0.0, 10.0, 30.0, 60.0, 100.0, 300.0, 1e3, 1e6])
    close(sparse.unobserved_entry[-2:], dense.unobserved_entry[-2:], 1e-8)


@pytest.mark.parametrize("loss", [1e-8, 1e-3, 0.1, 0.37])
def test_bound_is_sharp(loss):
    """Minimize |w11| = w12 w21 / w22 at det = 0 over the observed entries with this loss."""

    def size(angle):  # w12 = w21 is best; the two squares share the loss
        missing, corner = math.sqrt(loss) * math.cos(angle), math.sqrt(2 * loss) * math.sin(angle)
        return (1 - missing) ** 2 / corner

    found = minimize_scalar(
        size, bounds=(1e-6, math.pi / 2), method="bounded", options={"xatol": 1e-12}
    )
    assert found.fun == pytest.approx(float(unobserved_entry_bound(loss)), rel=1e-8)


def test_bound_at_small_loss():
    loss = tensor([1e-10, 1e-14])
    close(unobserved_entry_bound(loss) * torch.sqrt(2 * loss), [1.0, 1.0], 1e-4)


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_every_norm_grows_while_the_rank_falls(name, depth):
    times = [0.0, 1e2, 1e4, 1e6, 1e8]
    flow = two_by_two_flow(POSITIVE[name], depth, times)
    entry, law = flow.unobserved_entry[1:].abs(), unobserved_entry_growth(times[1:], depth)
    assert torch.all(entry > unobserved_entry_bound(flow.loss[1:]) * (1 - 1e-12))
    assert float(entry[-1] / unobserved_entry_bound(flow.loss[-1])) == pytest.approx(1, abs=1e-5)
    # 843.43, 2181.0 and 3981.1 at the end, to the digits given
    digits = {2: (843.43, 0.005), 3: (2181.0, 0.05), 4: (3981.1, 0.05)}[depth]
    assert float(entry[-1]) == pytest.approx(digits[0], abs=digits[1])
    assert float(entry[-1] / law[-1]) == pytest.approx(1, abs=1e-4)
    exponent = float(torch.log10(entry[-1] / entry[-2])) / 2
    assert exponent == pytest.approx(depth / (2 * depth + 2), abs=0.01)
    for p in (0.1, 0.5, 1.0, 2.0):
        norms = torch.stack([schatten_norm(W, p) for W in flow.product[1:]])
        assert torch.all(norms.diff() > 0)
    assert torch.all(flow.effective_rank.diff()[1:] <= 0)
    assert float(flow.effective_rank[-1]) == pytest.approx(1, abs=1e-6)
    assert torch.all(flow.loss.diff() < 0)


@pytest.mark.parametrize(("depth", "limit"), [(2, 0.187), (3, 0.257), (4, 0.310)])
def test_negative_determinant_has_finite_limits(depth, limit):
    flow = two_by_two_flow([[0.1, 0.0], [0.0, -0.1]], depth, [0.0, 1e3, 1e6])
    assert float(flow.loss[1]) < 1e-15
    close(flow.unobserved_entry[1:], [limit] * 2, 5e-4)
    assert float(flow.effective_rank[-1]) > 1.9
    other = two_by_two_flow([[0.5, 0.0], [0.0, -0.1]], depth, [0.0, 1e3])
    assert abs(float(other.unobserved_entry[-1]) - limit) > 0.1  # it depends on the start


@pytest.mark.parametrize("depth", [2, 3])
def test_determinant_keeps_its_sign_where_entries_lose_it(depth):
    """At late times the second singular value is far below the rounding error of the first."""
    flow = two_by_two_flow(POSITIVE["general"], depth, [0.0, 3e3])
    gap = float(flow.log_singular_values[-1, 0] - flow.log_singular_values[-1, 1])
    assert gap > (40 if depth == 2 else 5)
    # It is the mirror image in the diagonal of the flow from the transposed start.
    mirrored = two_by_two_flow(tensor(POSITIVE["general"]).T, depth, [0.0, 3e3])
    close(mirrored.product, flow.product.mT, 1e-8)


def test_two_by_two_refuses():
    for singular in ([[1.0, 1.0], [1.0, 1.0]], [[1e3, 0.0], [0.0, 1e-13]]):
        with pytest.raises(ValueError, match="start must have a determinant"):
            two_by_two_flow(singular, 2, [0.0, 1.0])
    with pytest.raises(ValueError, match=r"start must have shape \(2, 2\), got \(3, 3\)"):
        two_by_two_flow(torch.eye(3), 2, [0.0, 1.0])
    with pytest.raises(ValueError, match="depth must be at least 2, got 1"):
        two_by_two_flow(torch.eye(2), 1, [0.0, 1.0])
    for times in ([1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 1.0, 1.0], [1.0]):
        with pytest.raises(ValueError, match="times must hold at least two increasing numbers"):
            two_by_two_flow(torch.eye(2), 2, times)
    for loss in (0.0, 1.0):
        with pytest.raises(ValueError, match="loss must be above 0 and below 1"):
            unobserved_entry_bound(loss)
    with pytest.raises(ValueError, match="times must be positive"):
        unobserved_entry_growth([0.0, 1.0], 2)
    with pytest.raises(ValueError, match="the free entry never moves"):
        unobserved_entry_growth(1.0, 1)


@pytest.mark.parametrize("observed", [(1.0, 1.0, 0.3), (1.2, -0.8, 0.2), (0.9, 1.1, -0.4)])
@pytest.mark.parametrize("depth", [2, 3])
def test_other_observed_values_are_followed_like_the_product_matrix(observed, depth):
    start = tensor([[0.3, 0.05], [-0.1, 0.2]])
    times = torch.linspace(0, 3, 7, dtype=torch.float64)
    flow = two_by_two_flow(start, depth, times, observed=observed)
    misses = tensor([[0.0, observed[0]], [observed[1], observed[2]]])

    def gradient(W):
        return (W - misses) * tensor([[0.0, 1.0], [1.0, 1.0]])

    reference = product_flow(gradient, balanced_factors(start, depth), times.tolist())
    close(flow.product, reference, 1e-8)
    expected = torch.stack([gradient(W).square().sum() / 2 for W in flow.product])
    close(flow.loss, expected, 1e-12)
