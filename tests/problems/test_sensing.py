"""Matrix sensing: the measurement operator, its flow, and what is convex about it."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.sensing import authors_gradient, steps_of_descent
from dmf_utils.convex import measurement_operator
from dmf_utils.convex.nuclear_norm import min_nuclear_norm
from dmf_utils.factorization.initialization import gaussian
from dmf_utils.factorization.norms import nuclear_norm
from dmf_utils.factorization.product import factor_gradients, product_matrix
from dmf_utils.flow.descent import gradient_descent
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.trajectory import Record
from dmf_utils.problems import sensing, small_kernels
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.sensing import MatrixSensing
from dmf_utils.sweep import run_parameters, table as sweeps

SHAPES = [(5, 5), (3, 7), (7, 3)]


def randn(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def measured(problem, W):
    """The measurements one by one: what `operator` must do to a matrix of this shape."""
    matrices = problem.operator.view(-1, *problem.shape)
    return torch.stack([(A * W).sum() for A in matrices])


# --- the operator ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("reduction", "factor"), [("mean", 1 / 11), ("half_sum", 0.5)])
def test_random_instances_take_the_scale_of_the_loss(reduction, factor):
    problem, W = MatrixSensing.random((4, 3), 1, 11, seed=0, reduction=reduction), randn(4, 3)
    residual = measured(problem, W - problem.ground_truth)
    assert float(problem.loss(W)) == pytest.approx(factor * float(residual.square().sum()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [("mean", 2 / 11), ("half_sum", 1.0)])
def test_gradient_is_the_adjoint_of_the_measurements(shape, scale):
    reduction, factor = scale
    problem = MatrixSensing(randn(11, *shape, seed=1), randn(11, seed=2), None, reduction)
    V, W = randn(*shape, seed=3), randn(*shape, seed=4)
    at_zero = problem.gradient(torch.zeros(shape, dtype=torch.float64))
    # <V, A*(A(W))> = <A(V), A(W)>, and A*(y) is the slope at zero.
    bilinear = float((V * (problem.gradient(W) - at_zero)).sum())
    assert bilinear == pytest.approx(factor * float(measured(problem, V) @ measured(problem, W)))
    assert bilinear == pytest.approx(float((W * (problem.gradient(V) - at_zero)).sum()))
    slope = -factor * float(measured(problem, V) @ problem.values)
    assert float((V * at_zero).sum()) == pytest.approx(slope)


@pytest.mark.parametrize("shape", SHAPES)
def test_rotated_measurements_rotate_the_gradient(shape):
    problem = MatrixSensing(randn(9, *shape, seed=1), randn(9, seed=2))
    Q, R = (torch.linalg.qr(randn(size, size, seed=size))[0] for size in shape)
    turned = MatrixSensing(Q @ problem.operator.view(9, *shape) @ R.mT, problem.values)
    W = randn(*shape, seed=3)
    assert float(turned.loss(Q @ W @ R.mT)) == pytest.approx(float(problem.loss(W)), rel=1e-12)
    torch.testing.assert_close(
        turned.gradient(Q @ W @ R.mT), Q @ problem.gradient(W) @ R.mT, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_batch_costs_one_product_there_and_one_back(batch, monkeypatch):
    monkeypatch.setattr(small_kernels, "serve", lambda *_: False)  # what is counted is torch's
    problem = MatrixSensing.random((6, 5), 2, 40, seed=0)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _flops})
    with counter:
        problem.loss_and_gradient(randn(batch, 6, 5))
    assert counter.get_total_flops() == 2 * (2 * batch * 40 * 30)


def _flops(_: torch.Size, first: torch.Size, second: torch.Size, **_others: object) -> int:
    """Of a product that is added in place, which the counter does not know."""
    return 2 * first[0] * first[1] * second[1]


def test_all_starts_share_the_measurements_where_they_lie():
    problem = MatrixSensing.random((6, 5), 2, 40, seed=0)
    place = problem.operator.data_ptr()
    assert problem.to("cpu", torch.float64).operator.data_ptr() == place
    assert problem.take(torch.tensor([2, 0])).operator.data_ptr() == place


def test_paper_sized_batch_is_its_members():
    problem = MatrixSensing.random((100, 100), 5, 300, seed=3)
    W = randn(5, 100, 100, seed=1)
    losses, gradients = problem.loss_and_gradient(W)
    for b in range(5):
        residual = problem.operator @ W[b].flatten() - problem.values
        assert float(losses[b]) == pytest.approx(float(residual.square().mean()), rel=1e-13)
        exact = (2 / 300) * (problem.operator.mT @ residual).view(100, 100)
        torch.testing.assert_close(gradients[b], exact, rtol=1e-11, atol=1e-13)


# --- completion as a special case -----------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("shape", [(6, 6), (5, 8)])
def test_flow_of_completion_is_that_of_sensing_with_indicators(shape, depth):
    problem = MatrixCompletion.random(shape, 1, 24, seed=2)
    places = problem.mask.nonzero(as_tuple=True)
    indicators = torch.zeros(24, *shape, dtype=torch.float64)
    indicators[range(24), places[0], places[1]] = 1
    same = MatrixSensing(indicators, problem.values[places], problem.ground_truth)
    start = gaussian(norm=0.1, seed=1)
    one, other = (gradient_flow(p, depth, start, 1e-4) for p in (problem, same))
    assert other.time == pytest.approx(one.time, rel=1e-10)
    torch.testing.assert_close(other.product, one.product, rtol=0, atol=1e-10)
    assert float(same.error(other.product)) == pytest.approx(float(problem.error(one.product)))


# --- Gaussian measurements ------------------------------------------------------------------------


def isometry(W, count, seeds):
    """``d d'/m |A(W)|^2`` of one matrix under many instances."""
    return np.array(
        [float(measured_square(MatrixSensing.random(W.shape, 1, count, seed), W)) for seed in seeds]
    )


def measured_square(problem, W):
    return W.numel() * (problem.operator @ W.flatten()).square().mean()


@pytest.mark.parametrize("kind", ["one entry", "rank one", "full rank"])
def test_gaussian_measurements_keep_lengths_in_expectation(kind):
    count, seeds = 30, range(600)
    W = {
        "one entry": torch.arange(24, dtype=torch.float64).view(4, 6) == 16,
        "rank one": torch.outer(randn(4), randn(6)),
        "full rank": randn(4, 6),
    }[kind].double()
    W = W / torch.linalg.matrix_norm(W)
    kept = isometry(W, count, seeds)
    # A sum of m squares of normal numbers over m: mean 1, variance 2/m.
    assert kept.mean() == pytest.approx(1, abs=5 * math.sqrt(2 / (count * len(seeds))))
    assert kept.std() == pytest.approx(math.sqrt(2 / count), rel=0.15)


def test_gaussian_measurements_keep_angles_in_expectation():
    V, W = randn(4, 6, seed=1), randn(4, 6, seed=2)
    W = W - (V * W).sum() / V.square().sum() * V
    V, W = V / V.norm(), W / W.norm()
    seeds, count = range(600), 30
    products = [
        24 * float((p.operator @ V.flatten()) @ (p.operator @ W.flatten())) / count
        for p in (MatrixSensing.random((4, 6), 1, count, seed) for seed in seeds)
    ]
    assert np.mean(products) == pytest.approx(0, abs=5 / math.sqrt(count * len(seeds)))


def test_measurements_do_not_know_the_ground_truth_of_their_seed():
    # Were both drawn from one stream of numbers, <A_i, W*> would not have mean square one.
    squares = [
        float(MatrixSensing.random((4, 6), 1, 30, seed).values.square().mean())
        for seed in range(600)
    ]
    assert np.mean(squares) == pytest.approx(1, abs=5 * math.sqrt(2 / (30 * 600)))


def test_measurements_of_one_instance_are_independent():
    A = MatrixSensing.random((8, 10), 1, 400, seed=1).operator
    gram = A @ A.T
    # Off the diagonal: products of independent unit vectors' worth, variance 1/(d d').
    apart = gram[~torch.eye(400, dtype=torch.bool)]
    assert float(gram.diagonal().mean()) == pytest.approx(1, abs=5 * math.sqrt(2 / (80 * 400)))
    assert float(apart.square().mean()) == pytest.approx(1 / 80, rel=0.05)


# --- the minimum nuclear norm ---------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["clarabel", "scs"])
@pytest.mark.parametrize("ratio", [1.5, 2.05, 3.5], ids=["below", "paper's ratio", "above"])
def test_both_solvers_agree_at_the_ratio_of_the_paper(solver, ratio):
    shape, rank = (16, 16), 2
    problem = MatrixSensing.random(shape, rank, round(ratio * rank * (32 - rank)), seed=0)
    ours = min_nuclear_norm(problem, tolerance=1e-9)
    theirs = min_nuclear_norm(problem, solver, tolerance=1e-6, max_iterations=100_000)
    assert ours.method == "douglas-rachford"
    assert max(ours.feasibility, theirs.feasibility) < 1e-12
    # Each dual vector bounds the other's primal value.
    for one, other in ((ours, theirs), (theirs, ours)):
        image = torch.einsum("i,ijk->jk", one.dual, problem.operator.view(-1, *shape))
        assert float(torch.linalg.matrix_norm(image, 2)) <= 1 + 1e-12
        assert float(one.dual @ problem.values) <= other.nuclear_norm * (1 + 1e-12)
    assert theirs.nuclear_norm == pytest.approx(ours.nuclear_norm, rel=2e-6)
    size = torch.linalg.matrix_norm(ours.matrix)
    assert torch.linalg.matrix_norm(theirs.matrix - ours.matrix) < 3e-3 * size
    recovered = float(problem.error(ours.matrix)) < 1e-10
    assert recovered == (ratio > 2)


@pytest.mark.slow
def test_paper_size_next_to_the_threshold_is_settled():
    problem = MatrixSensing.random((100, 100), 5, 2000, seed=0)
    found = min_nuclear_norm(problem)
    image = (found.dual @ problem.operator).view(100, 100)
    assert float(torch.linalg.matrix_norm(image, 2)) <= 1 + 1e-12
    bound = float(found.dual @ problem.values)
    assert float(nuclear_norm(found.matrix)) - bound <= 1e-8 * found.nuclear_norm
    assert torch.linalg.vector_norm(problem.operator @ found.matrix.flatten() - problem.values) < (
        1e-10 * torch.linalg.vector_norm(problem.values)
    )
    # The gap closes before the matrix settles: at a hundredfold gap the error is the same.
    looser = min_nuclear_norm(problem, tolerance=1e-6)
    assert float(problem.error(looser.matrix)) == pytest.approx(
        float(problem.error(found.matrix)), rel=1e-2
    )


# --- memory ---------------------------------------------------------------------------------------

PAPER = {"problem": "sensing", "n_observed": 5000}


@pytest.mark.parametrize(
    ("run", "gigabytes"),
    [
        (PAPER, 0.6),  # in double and in single precision
        (PAPER | {"method": "truth"}, 0.4),
        (PAPER | {"method": "min_nuclear_norm"}, 1.0),  # with three matrices of 5000 rows
        ({"problem": "completion", "n_observed": 5000}, 0),
    ],
)
def test_memory_of_a_run(run, gigabytes):
    assert run_parameters.needed_bytes(run_parameters.complete_run(run, 0)) == pytest.approx(
        gigabytes * 1e9
    )


def test_a_sweep_too_large_is_refused_before_any_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "compute_chunk", None)
    small = {"problem": "sensing", "rows": 4, "columns": 4, "rank": 1, "n_observed": 8}
    large = small | {"n_observed": 10**12}
    message = (
        r"run 1: n_observed = 1000000000000 measurements of shape \(4, 4\) need 178813\.9 GiB "
        r"with 'flow', this machine has [\d.]+ GiB; take fewer"
    )
    with pytest.raises(ValueError, match=message):
        sweeps.sweep([small, large], cache=tmp_path / "cache", progress=False)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(run_parameters, "memory_in_bytes", lambda: 10**6)
    with pytest.raises(ValueError, match=r"with 'min_nuclear_norm', this machine has 0\.0 GiB"):
        sweeps.sweep([small | {"n_observed": 200, "method": "min_nuclear_norm"}], progress=False)


def test_too_many_measurements_for_the_convex_problem_are_refused(monkeypatch):
    problem = MatrixSensing(torch.ones(1, 1).expand(50, 2, 2), torch.ones(50))
    monkeypatch.setattr(
        measurement_operator, "memory_in_bytes", lambda: 70_000
    )  # 60,000 would be 24·50²
    monkeypatch.setattr(measurement_operator, "_gram", None)
    message = r"problem has 50 measurements.* need 0\.0 GiB; this machine has 0\.0 GiB; take fewer"
    with pytest.raises(ValueError, match=message):
        min_nuclear_norm(problem)


@pytest.mark.parametrize(("memory", "workers"), [(10**9, 3), (8000, 2), (4000, 1)])
def test_no_more_workers_than_fit_into_memory(memory, workers, monkeypatch):
    # 16 measurements of a 4×4 matrix take 2048 bytes, and half of it in single precision.
    taken = []

    class Counted(ThreadPoolExecutor):
        def __init__(self, count):
            taken.append(count)
            super().__init__(count)

    monkeypatch.setattr(sweeps, "memory_in_bytes", lambda: memory)
    monkeypatch.setattr(sweeps, "WorkerProcesses", Counted)
    small = {"problem": "sensing", "rows": 4, "columns": 4, "rank": 1, "n_observed": 16}
    table = sweeps.sweep(sweeps.grid(**small, seed=[0, 1, 2]), workers=3, progress=False)
    assert list(table.status) == ["reached"] * 3
    assert taken == ([workers] if workers > 1 else [])


# --- the benchmark --------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_authors_way_is_the_same_gradient(depth):
    problem = MatrixSensing.random((5, 8), 2, 30, seed=0)
    factors = gaussian(norm=1.0, seed=1).factors(problem.shape, depth)
    found = authors_gradient(problem, factors)()
    expected = factor_gradients(factors, problem.gradient(product_matrix(factors)))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("depth", [2, 3])
def test_steps_of_descent_are_counted_along_the_flow(depth):
    problem = MatrixSensing.random((12, 12), 1, 80, seed=0)
    start, rate = gaussian(norm=1e-2, seed=1), 1e-3
    end = gradient_flow(problem, depth, start, 1e-5).time
    record = Record(np.linspace(0, end, 500)[:-1], factors=True)
    counted = steps_of_descent(gradient_flow(problem, depth, start, 1e-5, record=record), rate)
    taken = gradient_descent(
        problem, depth, start, 1e-5, learning_rate=rate, normalized=True
    ).n_gradients
    # The average of their step length over some hundred steps makes it a little longer.
    assert 0.9 * taken < counted < taken


def test_memory_of_given_measurements():
    many = torch.ones(1, 1, 1, dtype=torch.float64).expand(10**7, 1000, 1000)
    message = (
        r"measurements of shape \(1000, 1000\) need 74505\.8 GiB, this machine has .*; take fewer"
    )
    with pytest.raises(ValueError, match=message):
        MatrixSensing(many, torch.ones(10**7))


# --- blocks of measurements -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4)], ids=["one", "batch"])
def test_blocks_of_measurements_add_up(shape, monkeypatch):
    problem = MatrixSensing.random((5, 4), 2, 100, seed=3)
    W = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = problem.loss_and_gradient(W)
    monkeypatch.setattr(sensing, "_CACHED_BYTES", 1)  # blocks of 32, 32, 32 and 4
    residual = torch.einsum("mij,...ij->...m", problem.operator.view(-1, 5, 4), W) - problem.values
    loss, gradient = problem.loss_and_gradient(W)
    torch.testing.assert_close(loss, residual.square().mean(-1), rtol=1e-13, atol=0)
    torch.testing.assert_close((loss, gradient), whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_loss_alone_is_the_loss_and_takes_one_product(shape, dtype):
    problem = MatrixSensing(randn(9, *shape, seed=1), randn(9, seed=2)).to("cpu", dtype)
    W = randn(4, *shape, seed=3).to(dtype)
    with FlopCounterMode(display=False) as counter:
        found = problem.unchecked_loss(W)
    assert counter.get_total_flops() == 2 * 4 * 9 * shape[0] * shape[1]
    exact = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found, problem.loss_and_gradient(W)[0], rtol=exact, atol=0)
    assert found.dtype == dtype
