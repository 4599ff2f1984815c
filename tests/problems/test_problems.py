"""Losses, gradients and observations of the problems."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from problems_with_answers import KNOWN

from dmf_utils._support import checks
from dmf_utils.problems.base import low_rank_matrix
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.sensing import MatrixSensing
from dmf_utils.problems.stacking import stack

SHAPES = [(4, 4), (3, 6), (6, 3), (1, 5), (5, 1)]
REDUCTIONS = ["mean", "half_sum"]


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, rtol=1e-13, atol=1e-14):
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def completion(shape, reduction="mean", seed=0):
    mask = randn(*shape, seed=seed + 50) > -0.3
    mask[0, 0] = True
    return MatrixCompletion.from_mask(randn(*shape, seed=seed), mask, None, reduction)


def sensing(shape, reduction="mean", seed=0, m=4):
    return MatrixSensing(randn(m, *shape, seed=seed), randn(m, seed=seed + 1), None, reduction)


def full(shape, reduction="mean", seed=0):
    return FullObservation(randn(*shape, seed=seed), reduction)


MAKERS = [completion, sensing, full]


def sum_of_squares(problem, W):
    """The residuals one by one, in Python, and their number."""
    total, count = 0.0, 0
    if isinstance(problem, MatrixSensing):
        for a, y in zip(problem.operator.tolist(), problem.values.tolist(), strict=True):
            total += (sum(x * w for x, w in zip(a, W.flatten().tolist(), strict=True)) - y) ** 2
            count += 1
        return total, count
    seen = torch.ones_like(W).bool() if isinstance(problem, FullObservation) else problem.mask
    values = problem.target if isinstance(problem, FullObservation) else problem.values
    for i in range(W.shape[0]):
        for j in range(W.shape[1]):
            if seen[i, j]:
                total += (float(W[i, j]) - float(values[i, j])) ** 2
                count += 1
    return total, count


# --- loss and gradient ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", MAKERS)
def test_scale_of_the_loss(make, shape):
    W = randn(*shape, seed=9)
    total, count = sum_of_squares(make(shape), W)
    assert float(make(shape, "mean").loss(W)) == pytest.approx(total / count, rel=1e-13)
    assert float(make(shape, "half_sum").loss(W)) == pytest.approx(total / 2, rel=1e-13)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", MAKERS)
def test_gradient_is_that_of_the_loss(make, shape, reduction):
    problem = make(shape, reduction)
    W = randn(*shape, seed=9).requires_grad_()
    problem.loss(W).backward()
    gradient = problem.gradient(W.detach())
    close(gradient, W.grad)
    # The loss is quadratic: central differences are exact up to rounding.
    for i, j in ((0, 0), (shape[0] - 1, shape[1] - 1)):
        move = torch.zeros(shape, dtype=torch.float64)
        move[i, j] = 0.5
        difference = problem.loss(W.detach() + move) - problem.loss(W.detach() - move)
        assert float(difference) == pytest.approx(float(gradient[i, j]), rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("make", MAKERS)
def test_half_sum_is_half_the_count_times_the_mean(make):
    # A gradient divided by m in one place and not in another moves W by a factor of m.
    W = randn(3, 5, seed=2)
    count = sum_of_squares(make((3, 5)), W)[1]
    assert count > 2
    mean, half_sum = make((3, 5), "mean"), make((3, 5), "half_sum")
    close(half_sum.loss(W), count / 2 * mean.loss(W))
    close(half_sum.gradient(W), count / 2 * mean.gradient(W))


@pytest.mark.parametrize("make", MAKERS)
def test_loss_vanishes_at_what_was_observed(make):
    problem = make((3, 4))
    if make is sensing:
        W = (torch.linalg.pinv(problem.operator) @ problem.values).view(3, 4)
    else:
        W = torch.where(problem.mask, problem.values, 7.0) if make is completion else problem.target
    assert float(problem.loss(W)) < 1e-28
    assert float(problem.gradient(W).abs().max()) < 1e-13


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_batch_is_its_members(make, shape):
    problem, W = make(shape), randn(6, *shape, seed=4)
    loss, gradient = problem.loss_and_gradient(W)
    assert loss.shape == (6,)
    assert gradient.shape == W.shape
    for b in range(6):
        close(loss[b], problem.loss(W[b]))
        close(gradient[b], problem.gradient(W[b]))
    close(problem.loss(W), loss)
    close(problem.gradient(W), gradient)


@pytest.mark.parametrize("make", MAKERS)
def test_default_scale_of_the_loss(make):
    kinds = {"completion": "mean", "sensing": "mean", "full": "half_sum"}
    made = {
        "completion": MatrixCompletion.from_mask(randn(2, 3), torch.ones(2, 3) > 0),
        "sensing": MatrixSensing(randn(2, 2, 3), randn(2)),
        "full": FullObservation(randn(2, 3)),
    }
    assert made[make.__name__].reduction == kinds[make.__name__]


@pytest.mark.parametrize("known", KNOWN, ids=str)
def test_known_limit_has_no_loss_and_no_gradient(known):
    assert float(known.problem.loss(known.limit)) < 1e-28
    assert float(known.problem.gradient(known.limit).abs().max()) < 1e-13


# --- one problem written in two ways --------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (6, 3)])
def test_completion_is_sensing_with_indicators(shape, reduction):
    problem = MatrixCompletion.random(shape, 2, 10, seed=3, reduction=reduction)
    places = problem.mask.nonzero().tolist()
    A = torch.zeros(10, *shape, dtype=torch.float64)
    for k, (i, j) in enumerate(places):
        A[k, i, j] = 1
    y = torch.stack([problem.ground_truth[i, j] for i, j in places])
    same = MatrixSensing(A, y, problem.ground_truth, reduction)
    W = randn(4, *shape, seed=1)
    close(problem.loss(W), same.loss(W))
    close(problem.gradient(W), same.gradient(W))
    close(problem.error(W), same.error(W))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_full_observation_is_completion_of_everything(shape, reduction):
    target, W = randn(*shape, seed=1), randn(2, *shape, seed=2)
    everything = MatrixCompletion.from_mask(target, torch.ones(shape) > 0, target, reduction)
    problem = FullObservation(target, reduction)
    assert everything.n_observed == target.numel()
    close(problem.loss(W), everything.loss(W))
    close(problem.gradient(W), everything.gradient(W))
    close(problem.error(W), everything.error(W))


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
def test_entries_stand_where_they_were_observed(shape):
    # The flat index of (i, j) is i·d' + j: dividing by d instead misplaces entries unless d = d'.
    truth = torch.arange(21, dtype=torch.float64).view(shape)
    problem = MatrixCompletion.from_entries(
        [i for i in range(shape[0]) for _ in range(shape[1])],
        list(range(shape[1])) * shape[0],
        truth.flatten(),
        shape,
    )
    assert torch.equal(problem.values, truth)
    drawn = MatrixCompletion.random(shape, 2, 9, seed=0)
    assert torch.equal(drawn.values[drawn.mask], drawn.ground_truth[drawn.mask])
    assert float(drawn.loss(drawn.ground_truth)) < 1e-31
    assert drawn.values.shape == drawn.mask.shape == shape
    # Every place can be observed, in the last row and the last column too.
    assert MatrixCompletion.random(shape, 2, 21, seed=0).mask.all()


def test_entries_and_mask_agree():
    entries = MatrixCompletion.from_entries([0, 2, 1], [3, 0, 1], [1.5, -2.0, 0.1], (3, 4))
    matrix = torch.full((3, 4), math.nan, dtype=torch.float64)
    matrix[0, 3], matrix[2, 0], matrix[1, 1] = 1.5, -2.0, 0.1
    marked = MatrixCompletion.from_mask(matrix)
    masked = MatrixCompletion.from_mask(matrix, ~torch.isnan(matrix))
    for other in (marked, masked):
        assert torch.equal(other.mask, entries.mask)
        assert torch.equal(other.values, entries.values)
    assert entries.n_observed == 3
    assert entries.values[~entries.mask].tolist() == [0.0] * 9


def test_entries_and_mask_keep_the_ground_truth():
    truth = randn(2, 3)
    for problem in (
        MatrixCompletion.from_entries([0], [1], [5.0], (2, 3), truth),
        MatrixCompletion.from_mask(torch.full((2, 3), 5.0), torch.ones(2, 3) > 0, truth),
    ):
        assert torch.equal(problem.ground_truth, truth)
        assert float(problem.error(truth + 2)) == pytest.approx(4, rel=1e-14)


def test_entry_given_twice_with_one_value_counts_once():
    problem = MatrixCompletion.from_entries([0, 1, 0], [1, 0, 1], [2.0, 3.0, 2.0], (2, 2))
    assert problem.n_observed == 2
    assert float(problem.loss(torch.zeros(2, 2))) == pytest.approx((4 + 9) / 2)


# --- error ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (6, 3)])
def test_error_is_the_mean_square_over_all_entries(shape):
    truth, W = randn(*shape), randn(3, *shape, seed=5)
    mask = torch.zeros(shape).bool()
    mask[0, 0] = True
    problem = MatrixCompletion.from_mask(truth, mask, truth)
    expected = [np.mean((W[b].numpy() - truth.numpy()) ** 2) for b in range(3)]
    assert problem.error(W).tolist() == pytest.approx(expected, rel=1e-13)
    assert float(problem.error(W[1])) == pytest.approx(expected[1], rel=1e-13)
    assert float(problem.error(truth)) == 0


@pytest.mark.parametrize("make", [completion, sensing])
def test_error_needs_a_ground_truth(make):
    with pytest.raises(ValueError, match=r"no ground truth.*pass ground_truth"):
        make((2, 3)).error(torch.zeros(2, 3))


# --- random instances -----------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "rank"), [((20, 20), 3), ((7, 19), 1), ((19, 7), 7)])
def test_low_rank_matrix(shape, rank):
    W = low_rank_matrix(shape, rank, seed=1)
    assert W.shape == shape
    assert W.dtype == torch.float64
    assert int(torch.linalg.matrix_rank(W)) == rank
    # Entries of mean square one.
    assert float(W.square().mean()) == pytest.approx(1, rel=1e-13)
    assert torch.equal(W, low_rank_matrix(shape, rank, seed=1))
    assert float((W - low_rank_matrix(shape, rank, seed=2)).abs().max()) > 0.1


def test_low_rank_matrix_of_rank_zero():
    assert torch.equal(low_rank_matrix((3, 4), 0, 5), torch.zeros(3, 4, dtype=torch.float64))


def test_factors_of_the_ground_truth_are_gaussian():
    # At rank 1 a row of W* is a standard normal vector times a number: its kurtosis is 3.
    row = low_rank_matrix((2, 200_000), 1, seed=3)[0]
    normal = row / row.std()
    assert float(normal.mean()) == pytest.approx(0, abs=0.01)
    assert float((normal**4).mean()) == pytest.approx(3, abs=0.06)


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (9, 5)])
def test_completions_of_a_seed_are_nested(shape):
    few, more = (MatrixCompletion.random(shape, 2, m, seed=4) for m in (12, 30))
    assert (few.n_observed, int(few.mask.sum())) == (12, 12)
    assert (more.n_observed, int(more.mask.sum())) == (30, 30)
    assert torch.equal(few.ground_truth, more.ground_truth)
    assert torch.equal(few.ground_truth, low_rank_matrix(shape, 2, seed=4))
    assert not (few.mask & ~more.mask).any()
    other = MatrixCompletion.random(shape, 2, 12, seed=5)
    assert not torch.equal(other.mask, few.mask)
    assert not torch.equal(other.ground_truth, few.ground_truth)


def test_sensings_of_a_seed_are_nested():
    few, more = (MatrixSensing.random((4, 6), 2, m, seed=4) for m in (5, 9))
    assert torch.equal(few.ground_truth, more.ground_truth)
    assert torch.equal(few.operator, more.operator[:5])
    close(few.values, more.values[:5])
    assert float(few.loss(few.ground_truth)) < 1e-28
    other = MatrixSensing.random((4, 6), 2, 5, seed=5)
    assert float((other.operator - few.operator).abs().max()) > 0.1


def test_observed_places_are_uniform():
    hits = sum(MatrixCompletion.random((3, 4), 1, 3, seed=s).mask.double() for s in range(800))
    # Each place is hit 200 times, give or take a standard deviation of 12.
    assert float((hits - 200).abs().max()) < 5 * math.sqrt(800 * 0.25 * 0.75)


def test_measurements_have_variance_one_over_the_number_of_entries():
    problem = MatrixSensing.random((10, 40), 3, 500, seed=0)
    assert problem.n_measurements == 500
    assert float(problem.operator.var()) == pytest.approx(1 / 400, rel=0.02)
    assert float(problem.values.square().mean()) == pytest.approx(1, rel=0.25)


# --- stacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 4), (3, 6)])
def test_stacked_problems_each_meet_their_matrix(shape):
    several = [
        [completion(shape, seed=s) for s in range(3)],
        [completion(shape, "mean"), completion(shape, "half_sum", 1), completion(shape, seed=2)],
        [sensing(shape, seed=s, m=s + 2) for s in range(3)],
        [completion(shape), sensing(shape), full(shape)],
        [full(shape, seed=1)] * 3,
    ]
    W = randn(3, *shape, seed=8)
    for problems in several:
        joined = stack(problems)
        loss, gradient = joined.loss_and_gradient(W)
        for b, problem in enumerate(problems):
            close(loss[b], problem.loss(W[b]))
            close(gradient[b], problem.gradient(W[b]))
        chosen = torch.tensor([2, 0])
        loss, gradient = joined.take(chosen).loss_and_gradient(W[chosen])
        for k, b in enumerate([2, 0]):
            close(loss[k], problems[b].loss(W[b]))
            close(gradient[k], problems[b].gradient(W[b]))
        single = joined.to("cpu", torch.float32).loss_and_gradient(W.to(torch.float32))
        assert {part.dtype for part in single} == {torch.float32}
        close(single[0].double(), joined.loss_and_gradient(W)[0], rtol=1e-5)


def test_stack_of_one_problem_is_that_problem():
    problem = sensing((3, 4))
    assert stack([problem] * 5) is problem
    assert problem.take(torch.tensor([1, 3])) is problem


def test_stack_refuses_different_shapes():
    with pytest.raises(ValueError, match=r"one shape, got \[\(3, 4\), \(4, 3\)\]"):
        stack([full((3, 4)), full((4, 3))])


# --- precision, device, immutability --------------------------------------------------------------


def test_numbers_of_python_are_read_in_double_precision():
    # 0.1 in single precision is off by 1.5e-9.
    problem = MatrixCompletion.from_entries([0], [1], [0.1], (1, 2))
    assert float(problem.values[0, 1]) == 0.1
    assert float(problem.loss([[5.0, 0.1]])) < 1e-33
    assert float(FullObservation([[0.1, 0.2]]).target[0, 1]) == 0.2
    assert float(MatrixSensing([[[0.1, 0.0]]], [0.3]).operator[0, 0]) == 0.1
    assert float(MatrixSensing([[[0.1, 0.0]]], [0.3]).values[0]) == 0.3
    assert MatrixCompletion.from_entries([0], [1], [3], (1, 2)).values.dtype == torch.float64
    assert FullObservation(torch.ones(2, 2, dtype=torch.float32)).target.dtype == torch.float64


@pytest.mark.parametrize("make", MAKERS)
def test_single_precision(make):
    problem, W = make((3, 5)), randn(2, 3, 5, seed=3)
    moved = problem.to("cpu", torch.float32)
    loss, gradient = moved.loss_and_gradient(W.to(torch.float32))
    assert loss.dtype == gradient.dtype == torch.float32
    close(loss.double(), problem.loss(W), rtol=1e-5)
    close(gradient.double(), problem.gradient(W), rtol=1e-4, atol=1e-5)
    # A matrix of single precision is judged in double.
    assert problem.loss(W.to(torch.float32)).dtype == torch.float64


@pytest.mark.parametrize("make", [*MAKERS, lambda shape: stack([m(shape) for m in MAKERS])])
def test_device_is_honoured(make):
    # The device "meta" has shapes and no numbers.
    W = torch.empty(len(MAKERS), 3, 5, dtype=torch.float64, device="meta")
    for part in make((3, 5)).to("meta", torch.float64).loss_and_gradient(W):
        assert part.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("make", MAKERS)
def test_on_the_graphics_card(make):
    problem, W = make((3, 5)), randn(2, 3, 5, seed=3)
    loss, gradient = problem.to("cuda", torch.float64).loss_and_gradient(W.cuda())
    assert loss.device.type == gradient.device.type == "cuda"
    close(loss.cpu(), problem.loss(W))
    close(gradient.cpu(), problem.gradient(W))


@pytest.mark.parametrize("make", MAKERS)
def test_problems_do_not_change(make):
    problem = make((3, 4))
    with pytest.raises(AttributeError, match=r"reduction of a \w+ cannot change; make another"):
        problem.reduction = "half_sum"
    W = randn(3, 4)
    for twin in (copy.deepcopy(problem), pickle.loads(pickle.dumps(problem))):
        assert torch.equal(twin.gradient(W), problem.gradient(W))


def test_problems_keep_their_data_when_the_arrays_change():
    target, mask = randn(2, 3), torch.ones(2, 3) > 0
    observed, known = FullObservation(target), MatrixCompletion.from_mask(target, mask)
    W = torch.zeros(2, 3, dtype=torch.float64)
    before = observed.loss(W), known.loss(W)
    target[0, 0], mask[0, 0] = 99.0, False
    assert (observed.loss(W), known.loss(W)) == before
    assert int(known.mask.sum()) == known.n_observed == 6


# --- bad input ------------------------------------------------------------------------------------


GOOD = torch.ones(2, 3)
NAN = torch.tensor([[1.0, math.nan, 0.0], [0.0, math.inf, 0.0]])
BAD = {
    "shape": (lambda: low_rank_matrix((3,), 1, 0), ValueError, r"shape must be two.*got \(3,\)"),
    "no shape": (lambda: low_rank_matrix(3, 1, 0), ValueError, "shape must be two.*got 3"),
    "size 0": (lambda: low_rank_matrix((0, 3), 1, 0), ValueError, r"shape\[0\] must be at least 1"),
    "size": (lambda: low_rank_matrix((3, 2.5), 1, 0), TypeError, r"shape\[1\].*whole.*2.5"),
    "rank": (lambda: low_rank_matrix((3, 4), 4, 0), ValueError, "rank must be between 0.*3, got 4"),
    "negative rank": (lambda: low_rank_matrix((3, 4), -1, 0), ValueError, "rank must be.*got -1"),
    "half rank": (lambda: low_rank_matrix((3, 4), 1.5, 0), TypeError, "rank must.*got 1.5"),
    "seed": (lambda: low_rank_matrix((3, 4), 1, -7), ValueError, "seed must be at least 0, got -7"),
    "seed's type": (lambda: low_rank_matrix((3, 4), 1, "a"), TypeError, "seed must.*got 'a'"),
    "n_observed 0": (
        lambda: MatrixCompletion.random((3, 4), 1, 0, 0),
        ValueError,
        "n_observed must be.*got 0",
    ),
    "n_observed 13": (
        lambda: MatrixCompletion.random((3, 4), 1, 13, 0),
        ValueError,
        "n_observed must be between 1 and d·d' = 12, got 13",
    ),
    "n_observed 3.0": (
        lambda: MatrixCompletion.random((3, 4), 1, 3.0, 0),
        TypeError,
        "n_observed must be a whole number, got 3.0",
    ),
    "n_measurements": (
        lambda: MatrixSensing.random((3, 4), 1, 0, 0),
        ValueError,
        "n_measurements must be at least 1, got 0",
    ),
    "too many measurements": (
        lambda: MatrixSensing.random((1000, 1000), 1, 10**9, 0),
        ValueError,
        r"n_measurements = 1000000000 .* need 7450580\.6 GiB, this machine has .*; take fewer",
    ),
    "reduction": (
        lambda: FullObservation(GOOD, "sum"),
        ValueError,
        """reduction must be "mean" or "half_sum", got 'sum'""",
    ),
    "reduction of sensing": (
        lambda: MatrixSensing(GOOD[None], [1.0], None, "x"),
        ValueError,
        "reduction must be.*got 'x'",
    ),
    "mask": (
        lambda: MatrixCompletion(GOOD, GOOD),
        TypeError,
        "mask must be of dtype bool, got torch.float32; use `mask != 0`",
    ),
    "mask's shape": (
        lambda: MatrixCompletion(GOOD.T > 0, GOOD),
        ValueError,
        r"one shape \(d, d'\), got \(3, 2\) and \(2, 3\)",
    ),
    "no matrix": (lambda: MatrixCompletion(GOOD[0] > 0, GOOD[0]), ValueError, "must be matrices"),
    "nothing observed": (
        lambda: MatrixCompletion(GOOD < 0, GOOD),
        ValueError,
        "mask has no observed entry: there is nothing to fit; observe some",
    ),
    "only NaN": (
        lambda: MatrixCompletion.from_mask(GOOD * math.nan),
        ValueError,
        "no observed entry",
    ),
    "no entries": (
        lambda: MatrixCompletion.from_entries([], [], [], (2, 3)),
        ValueError,
        "no observed entry",
    ),
    "NaN observed": (
        lambda: MatrixCompletion.from_mask(NAN, GOOD > 0),
        ValueError,
        "values has 2 NaN or infinite numbers; remove them, or leave those places unobserved",
    ),
    "NaN entry": (
        lambda: MatrixCompletion.from_entries([0], [0], [math.nan], (2, 3)),
        ValueError,
        "values has 1 NaN",
    ),
    "ground truth's shape": (
        lambda: MatrixCompletion.from_mask(GOOD, GOOD > 0, GOOD.T),
        ValueError,
        r"ground_truth must have shape \(2, 3\), got \(3, 2\)",
    ),
    "NaN in the ground truth": (
        lambda: MatrixSensing(GOOD[None], [1.0], NAN),
        ValueError,
        "ground_truth has 2 NaN",
    ),
    "row outside": (
        lambda: MatrixCompletion.from_entries([0, 2], [0, 0], [1.0, 1.0], (2, 3)),
        ValueError,
        r"rows\[1\] = 2 is outside 0…1 \(shape \(2, 3\)\); indices count from 0",
    ),
    "negative column": (
        lambda: MatrixCompletion.from_entries([0, 1], [-1, 0], [1.0, 1.0], (2, 3)),
        ValueError,
        r"columns\[0\] = -1 is outside 0…2",
    ),
    "column outside": (
        lambda: MatrixCompletion.from_entries([0], [3], [1.0], (4, 3)),
        ValueError,
        r"columns\[0\] = 3 is outside 0…2",
    ),
    "repeated": (
        lambda: MatrixCompletion.from_entries([0, 1, 0], [2, 0, 2], [1.0, 5.0, 4.0], (2, 3)),
        ValueError,
        r"entry \(0, 2\) is observed more than once with different values.*; keep one",
    ),
    "lengths": (
        lambda: MatrixCompletion.from_entries([0, 1], [0], [1.0], (2, 3)),
        ValueError,
        r"of one length, got \(2,\), \(1,\) and \(1,\)",
    ),
    "index's type": (
        lambda: MatrixCompletion.from_entries([0.0], [0], [1.0], (2, 3)),
        TypeError,
        "rows must be whole numbers, got dtype",
    ),
    "shape of entries": (
        lambda: MatrixCompletion.from_entries([0], [0], [1.0], (2, -3)),
        ValueError,
        r"shape\[1\] must be at least 1, got -3",
    ),
    "measurements": (
        lambda: MatrixSensing(GOOD, [1.0, 1.0]),
        ValueError,
        r"measurements must have shape \(m, d, d'\) and values shape \(m,\), got \(2, 3\)",
    ),
    "number of values": (
        lambda: MatrixSensing(GOOD[None], [1.0, 1.0]),
        ValueError,
        r"got \(1, 2, 3\) and \(2,\)",
    ),
    "no measurements": (
        lambda: MatrixSensing(torch.ones(0, 2, 3), torch.ones(0)),
        ValueError,
        "measurements is empty",
    ),
    "NaN measurement": (
        lambda: MatrixSensing(NAN[None], [1.0]),
        ValueError,
        "measurements has 2 NaN",
    ),
    "infinite value": (
        lambda: MatrixSensing(GOOD[None], [math.inf]),
        ValueError,
        "values has 1 NaN or inf",
    ),
    "target": (
        lambda: FullObservation(GOOD[0]),
        ValueError,
        r"target must be a matrix, got shape \(3,\)",
    ),
    "NaN target": (lambda: FullObservation(NAN), ValueError, "target has 2 NaN"),
    "complex target": (
        lambda: FullObservation(GOOD * 1j),
        TypeError,
        "target must be real, got torch.complex64; pass its real part",
    ),
    "text": (lambda: FullObservation([["a"]]), TypeError, "target must be numbers, got list"),
    "W": (
        lambda: FullObservation(GOOD).loss(GOOD.T),
        ValueError,
        r"W must have shape \(\.\.\., 2, 3\), got \(3, 2\)",
    ),
    "W of the gradient": (
        lambda: completion((2, 3)).gradient(torch.ones(3)),
        ValueError,
        r"W must have shape.*got \(3,\)",
    ),
    "W of the error": (
        lambda: FullObservation(GOOD).error(GOOD[:, :1]),
        ValueError,
        r"W must have shape.*got \(2, 1\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    make, error, message = BAD[case]
    with pytest.raises(error, match=message):
        make()


def test_numbers_that_are_none_are_counted_in_every_piece(monkeypatch):
    monkeypatch.setattr(checks, "_PIECE", 4)
    values = torch.zeros(3, 5)
    checks.check_finite("values", values)
    values[0, 1], values[1, 4], values[2, 4] = torch.nan, torch.inf, -torch.inf
    with pytest.raises(ValueError, match="values has 3 NaN or infinite numbers"):
        checks.check_finite("values", values.T)
