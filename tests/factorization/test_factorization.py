"""Starts, the product matrix, its gradients and balancedness."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from dmf_utils.factorization.initialization import (
    balanced,
    balanced_factors,
    factor_shapes,
    gaussian,
    identity,
)
from dmf_utils.factorization.product import balancedness_gap, factor_gradients, product_matrix
from dmf_utils.problems.base import low_rank_matrix
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.sensing import MatrixSensing

DEPTHS = [1, 2, 3, 4, 5]
# Rows, columns, hidden: square and not, default and wider hidden layers.
CASES = [(4, 4, None), (3, 5, None), (5, 3, None), (3, 5, 7), (5, 3, 4), (1, 4, None), (1, 1, 2)]


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_factors(shape, depth, hidden=None, seed=0, batch=()):
    sizes = factor_shapes(shape, depth, hidden)
    return [randn(*batch, *size, seed=seed + 31 * j) for j, size in enumerate(sizes)]


def conserved(factors):
    return [float((upper.T @ upper - W @ W.T).norm()) for W, upper in pairwise(factors)]


# --- product matrix and gradients -----------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("rows", "columns", "hidden"), CASES)
def test_product_matrix_multiplies_from_the_left(rows, columns, hidden, depth):
    factors = random_factors((rows, columns), depth, hidden)
    expected = np.linalg.multi_dot([np.eye(rows), *[W.numpy() for W in factors[::-1]]])
    W = product_matrix(factors)
    assert W.shape == (rows, columns)
    np.testing.assert_allclose(W.numpy(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("rows", "columns", "hidden"), CASES)
@pytest.mark.parametrize("kind", ["completion", "sensing"])
def test_gradients_agree_with_autograd(kind, rows, columns, hidden, depth):
    if kind == "completion":
        problem = MatrixCompletion.random((rows, columns), 1, max(1, rows * columns // 2), seed=1)
    else:
        problem = MatrixSensing.random((rows, columns), 1, 3, seed=1, reduction="half_sum")
    factors = random_factors((rows, columns), depth, hidden)
    tracked = [W.clone().requires_grad_() for W in factors]
    problem.loss(product_matrix(tracked)).backward()
    found = factor_gradients(factors, problem.gradient(product_matrix(factors)))
    assert len(found) == depth
    for W, G in zip(tracked, found, strict=True):
        torch.testing.assert_close(G, W.grad, rtol=1e-12, atol=1e-13 * float(W.grad.norm() + 1))


@pytest.mark.parametrize("depth", DEPTHS)
def test_gradients_agree_with_finite_differences(depth):
    problem = MatrixCompletion.random((3, 4), 2, 7, seed=1)
    factors = random_factors((3, 4), depth, 5)
    found = factor_gradients(factors, problem.gradient(product_matrix(factors)))
    for j in range(depth):
        direction = randn(*factors[j].shape, seed=90 + j)

        def loss(h, j=j, direction=direction):
            moved = [*factors[:j], factors[j] + h * direction, *factors[j + 1 :]]
            return float(problem.loss(product_matrix(moved)))

        # φ is quadratic in one factor: the central difference has no error but rounding.
        slope = (loss(0.01) - loss(-0.01)) / 0.02
        assert slope == pytest.approx(float((found[j] * direction).sum()), rel=1e-9)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("hidden", [None, 6])
def test_batch_is_its_members(depth, hidden):
    factors = random_factors((3, 5), depth, hidden, batch=(4,))
    gradient = randn(4, 3, 5, seed=7)
    products, slopes = product_matrix(factors), factor_gradients(factors, gradient)
    gaps = balancedness_gap(factors)
    assert gaps.shape == (4,)
    for b in range(4):
        alone = [W[b] for W in factors]
        torch.testing.assert_close(products[b], product_matrix(alone), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(gaps[b], balancedness_gap(alone), rtol=1e-13, atol=1e-13)
        for j, slope in enumerate(factor_gradients(alone, gradient[b])):
            torch.testing.assert_close(slopes[j][b], slope, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_gradients_leave_the_factors_alone(depth):
    factors, gradient = random_factors((3, 4), depth), randn(3, 4)
    before = [W.clone() for W in factors], gradient.clone()
    factor_gradients(factors, gradient)
    assert all(torch.equal(a, b) for a, b in zip(factors, before[0], strict=True))
    assert torch.equal(gradient, before[1])


# --- balancedness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize(("rows", "columns", "hidden"), CASES)
def test_gap_is_the_largest_of_all_pairs(rows, columns, hidden, depth):
    factors = random_factors((rows, columns), depth, hidden)
    assert float(balancedness_gap(factors)) == pytest.approx(max(conserved(factors)), rel=1e-13)


def test_gap_sees_every_pair():
    for pair in range(3):
        factors = [torch.eye(3, dtype=torch.float64) for _ in range(4)]
        factors[pair + 1 :] = [2 * W for W in factors[pair + 1 :]]
        # Of the three differences one is 4I - I, the others vanish.
        assert float(balancedness_gap(factors)) == pytest.approx(3 * math.sqrt(3), rel=1e-14)


def test_gap_at_depth_one():
    assert float(balancedness_gap([randn(3, 4)])) == 0
    assert balancedness_gap([randn(2, 3, 4)]).tolist() == [0, 0]


# --- balanced factors -----------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("rows", "columns", "hidden"), CASES)
def test_balanced_factors(rows, columns, hidden, depth):
    W = randn(rows, columns, seed=3)
    factors = balanced_factors(W, depth, hidden)
    assert [tuple(F.shape) for F in factors] == factor_shapes((rows, columns), depth, hidden)
    torch.testing.assert_close(product_matrix(factors), W, rtol=1e-12, atol=1e-13)
    assert float(balancedness_gap(factors)) < 1e-13
    for F in factors:  # all factors have the singular values σ^(1/N)
        sigma = torch.linalg.svdvals(F)[: min(rows, columns)]
        torch.testing.assert_close(sigma, torch.linalg.svdvals(W) ** (1 / depth))


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_balanced_factors_of_low_rank_have_its_rank(depth):
    # Rounding leaves W's other singular values near 1e-17, and (1e-17)^(1/5) is 4e-4.
    W = randn(6, 2, seed=1) @ randn(2, 5, seed=2)
    factors = balanced_factors(W, depth)
    torch.testing.assert_close(product_matrix(factors), W, rtol=1e-12, atol=1e-13)
    for F in factors:
        assert int(torch.linalg.matrix_rank(F)) == 2
    assert product_matrix(balanced_factors(torch.zeros(2, 3), depth)).tolist() == [[0.0] * 3] * 2


def test_balanced_factors_through_a_narrow_layer():
    W = randn(6, 2, seed=1) @ randn(2, 5, seed=2)
    with pytest.warns(UserWarning, match=r"hidden = 2 is below min\(d, d'\) = 5"):
        factors = balanced_factors(W, 3, hidden=2)
    torch.testing.assert_close(product_matrix(factors), W, rtol=1e-12, atol=1e-13)
    with (
        pytest.warns(UserWarning, match="hidden = 1"),
        pytest.raises(ValueError, match="hidden = 1 is below the rank 2 of W; use a larger one"),
    ):
        balanced_factors(W, 3, hidden=1)
    # A small singular value is no rounding.
    with (
        pytest.warns(UserWarning, match="hidden = 1"),
        pytest.raises(ValueError, match="hidden = 1 is below the rank 2 of W; use a larger one"),
    ):
        balanced_factors(torch.diag(torch.tensor([1.0, 1e-12])), 3, hidden=1)


def test_balanced_factors_do_not_share_memory():
    W = randn(3, 3)
    for depth in (1, 4):
        factors = balanced_factors(W, depth)
        product = product_matrix(factors).clone()
        factors[0].zero_()
        assert not torch.equal(W, factors[0])
        if depth == 4:
            factors[1].zero_()
            assert float(factors[2].abs().max()) > 0
        assert float(product.abs().max()) > 0


# --- starts ---------------------------------------------------------------------------------------

STARTS = [gaussian(0.03, 5), identity(0.03), balanced(0.03, 5)]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("rows", "columns", "hidden"), CASES)
@pytest.mark.parametrize("start", STARTS, ids=["gaussian", "identity", "balanced"])
def test_start_has_the_asked_norm_and_shapes(start, rows, columns, hidden, depth):
    factors = start.factors((rows, columns), depth, hidden)
    assert [tuple(W.shape) for W in factors] == factor_shapes((rows, columns), depth, hidden)
    assert all(W.dtype == torch.float64 for W in factors)
    assert float(product_matrix(factors).norm()) == pytest.approx(0.03, rel=1e-13)
    if not isinstance(start, gaussian):
        assert float(balancedness_gap(factors)) < 1e-14


@pytest.mark.parametrize("depth", [2, 3])
def test_gaussian_start_is_not_balanced(depth):
    gap = float(balancedness_gap(gaussian(0.03, 5).factors((4, 4), depth)))
    assert gap > 1e-3
    # The factors scale with norm^(1/N), the gap with its square.
    smaller = float(balancedness_gap(gaussian(0.03e-4, 5).factors((4, 4), depth)))
    assert smaller / gap == pytest.approx(1e-4 ** (2 / depth), rel=1e-10)


@pytest.mark.parametrize(("rows", "columns", "hidden"), [(200, 200, None), (150, 300, 250)])
def test_gaussian_start_is_gaussian(rows, columns, hidden):
    factors = gaussian(1.0, 0).factors((rows, columns), 3, hidden)
    scale = [W * math.sqrt(W.shape[1]) for W in factors]
    deviations = [float(W.std()) for W in scale]
    # One number multiplies all factors; a standard deviation has an error of 1/√(2·30000).
    assert deviations == pytest.approx([deviations[0]] * 3, rel=0.025)
    for W in scale:
        assert float((W / W.std()).pow(4).mean()) == pytest.approx(3, abs=0.2)
        assert abs(float(W.mean())) < 5 * float(W.std()) / math.sqrt(W.numel())
    flat = [W.flatten()[:30000] for W in scale]
    assert abs(float(torch.corrcoef(torch.stack(flat))[0, 1])) < 0.03


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("rows", "columns", "hidden"), CASES)
def test_identity_start_is_a_multiple_of_the_identity(rows, columns, hidden, depth):
    factors = identity(0.5).factors((rows, columns), depth, hidden)
    rank = min(rows, columns)
    alpha = (0.5 / math.sqrt(rank)) ** (1 / depth)
    for W in factors:
        expected = torch.zeros(W.shape, dtype=torch.float64)
        expected[:rank, :rank] = alpha * torch.eye(rank, dtype=torch.float64)
        torch.testing.assert_close(W, expected, rtol=1e-14, atol=0)


def test_balanced_start_has_no_preferred_direction():
    # The product of the start is a Gaussian matrix: over seeds its entries have one mean square.
    products = [product_matrix(balanced(1.0, s).factors((2, 3), 3)) for s in range(400)]
    squares = torch.stack(products).square().mean(0)
    assert float((squares * 6 - 1).abs().max()) < 0.3
    assert float(torch.stack(products).mean(0).abs().max()) < 0.1


@pytest.mark.parametrize("make", [gaussian, balanced])
def test_seed_decides_the_start(make):
    first, again, other = (make(0.1, s).factors((3, 4), 3) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(float((a - b).abs().max()) > 1e-3 for a, b in zip(first, other, strict=True))


def test_start_does_not_repeat_the_random_numbers_of_the_problem():
    # Drawn from one stream, both would be the same vector but for a factor.
    start = gaussian(1.0, 3).factors((50, 1), 1)[0]
    truth = low_rank_matrix((50, 1), 1, seed=3)
    assert abs(float(torch.corrcoef(torch.cat([start, truth], 1).T)[0, 1])) < 0.6


@pytest.mark.parametrize("start", STARTS, ids=["gaussian", "identity", "balanced"])
def test_narrow_hidden_layer_is_allowed_but_said(start):
    with pytest.warns(UserWarning, match=r"hidden = 2 is below min\(d, d'\) = 4: .*leave hidden"):
        factors = start.factors((4, 6), 3, hidden=2)
    W = product_matrix(factors)
    assert int(torch.linalg.matrix_rank(W)) == 2
    assert float(W.norm()) == pytest.approx(0.03, rel=1e-12)
    if not isinstance(start, gaussian):
        assert float(balancedness_gap(factors)) < 1e-14


def test_shapes():
    assert factor_shapes((3, 5), 1) == [(3, 5)]
    assert factor_shapes((3, 5), 1, hidden=2) == [(3, 5)]
    assert factor_shapes((3, 5), 2) == [(3, 5), (3, 3)]
    assert factor_shapes((5, 3), 4, hidden=6) == [(6, 3), (6, 6), (6, 6), (5, 6)]


# --- bad input ------------------------------------------------------------------------------------

BAD = {
    "norm 0": (lambda: gaussian(0.0, 1), ValueError, "norm must be a positive.*zero is a.*got 0.0"),
    "negative norm": (lambda: identity(-1.0), ValueError, "norm must be a positive.*got -1.0"),
    "NaN norm": (lambda: balanced(math.nan, 1), ValueError, "norm must be a positive.*got nan"),
    "infinite norm": (lambda: identity(math.inf), ValueError, "norm must be a positive.*got inf"),
    "norm as text": (lambda: identity("0.1"), TypeError, "norm must be a number, got '0.1'"),
    "no norm": (lambda: gaussian(None, 0), TypeError, "norm must be a number, got None"),
    "negative seed": (
        lambda: gaussian(1.0, -1),
        ValueError,
        "seed must be at least 0, got -1",
    ),
    "seed": (lambda: balanced(1.0, 0.5), TypeError, "seed must be a whole number, got 0.5"),
    "depth 0": (
        lambda: identity(1.0).factors((2, 2), 0),
        ValueError,
        "depth must be at least 1, got 0",
    ),
    "depth 2.0": (
        lambda: gaussian(1.0, 0).factors((2, 2), 2.0),
        TypeError,
        "depth must be a whole number, got 2.0",
    ),
    "depth True": (
        lambda: gaussian(1.0, 0).factors((2, 2), True),
        TypeError,
        "depth must be a whole number, got True",
    ),
    "hidden 0": (
        lambda: balanced(1.0, 0).factors((2, 2), 2, 0),
        ValueError,
        "hidden must be at least 1, got 0",
    ),
    "hidden 2.5": (
        lambda: balanced(1.0, 0).factors((2, 2), 2, 2.5),
        TypeError,
        "hidden must be a whole number, got 2.5",
    ),
    "shape": (
        lambda: identity(1.0).factors((2, 2, 2), 2),
        ValueError,
        r"shape must be two positive sizes \(d, d'\), got \(2, 2, 2\)",
    ),
    "size 0": (
        lambda: identity(1.0).factors((2, 0), 2),
        ValueError,
        r"shape\[1\] must be at least 1, got 0",
    ),
    "vector": (lambda: balanced_factors(torch.ones(3), 2), ValueError, r"W must be a matrix.*\(3,"),
    "NaN": (
        lambda: balanced_factors(torch.full((2, 2), math.nan), 2),
        ValueError,
        "W has NaN or infinite entries; replace",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    make, error, message = BAD[case]
    with pytest.raises(error, match=message):
        make()
