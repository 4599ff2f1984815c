"""Norms and ranks against closed forms, NumPy, and a computation in logarithms of their own."""

import math

import numpy as np
import pytest
import torch

from dmf_utils.factorization.norms import (
    effective_rank,
    nuclear_norm,
    numerical_rank,
    schatten_norm,
    singular_values,
)

SHAPES = [(5, 5), (3, 7), (7, 3), (1, 4), (4, 1), (1, 1)]
MEASURES = [
    singular_values,
    nuclear_norm,
    effective_rank,
    numerical_rank,
    lambda W: schatten_norm(W, 0.5),
]


def with_singular_values(values, shape=None, seed=0):
    """A matrix with the given singular values and random singular vectors."""
    values = np.asarray(values, dtype=float)
    rows, columns = shape or (len(values), len(values))
    rng = np.random.default_rng(seed)
    U, _ = np.linalg.qr(rng.standard_normal((rows, len(values))))
    V, _ = np.linalg.qr(rng.standard_normal((columns, len(values))))
    return torch.from_numpy(U * values @ V.T)


def log_of_schatten_norm(sigma, p):
    """In Python's own arithmetic: ln of (Σ σ^p)^(1/p)."""
    logs = [p * math.log(s) for s in sigma]
    top = max(logs)
    return (top + math.log(math.fsum(math.exp(x - top) for x in logs))) / p


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_norms_agree_with_numpy(shape):
    W = np.random.default_rng(3).standard_normal(shape)
    numpys = np.linalg.svd(W, compute_uv=False)
    torch.testing.assert_close(singular_values(W), torch.from_numpy(numpys), rtol=1e-13, atol=0)
    assert float(nuclear_norm(W)) == pytest.approx(np.linalg.norm(W, "nuc"), rel=1e-13)
    assert float(schatten_norm(W, 1)) == pytest.approx(np.linalg.norm(W, "nuc"), rel=1e-12)
    assert float(schatten_norm(W, 2)) == pytest.approx(np.linalg.norm(W), rel=1e-12)
    assert float(schatten_norm(W, math.inf)) == pytest.approx(np.linalg.norm(W, 2), rel=1e-13)
    assert int(numerical_rank(W)) == np.linalg.matrix_rank(W)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 2 / 3, 1, 3, 10])
def test_schatten_norm_of_given_singular_values(p):
    sigma = [3.0, 0.7, 2e-3]
    W = with_singular_values(sigma, (6, 4))
    expected = log_of_schatten_norm(sigma, p)
    assert math.log(float(schatten_norm(W, p))) == pytest.approx(expected, abs=1e-11 / p)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_equal_singular_values(k):
    W = with_singular_values([0.3] * k, (6, 8))
    assert float(effective_rank(W)) == pytest.approx(k, rel=1e-12)
    assert int(numerical_rank(W)) == k
    assert float(nuclear_norm(W)) == pytest.approx(0.3 * k, rel=1e-13)
    assert float(schatten_norm(W, 0.5)) == pytest.approx(0.3 * k**2, rel=1e-12)


def test_effective_rank_of_two_values():
    # H(3/4, 1/4) = 2 ln 2 - (3/4) ln 3, so the effective rank is 4 / 3^(3/4).
    W = with_singular_values([0.75, 0.25], (4, 3))
    assert float(effective_rank(W)) == pytest.approx(4 / 3**0.75, rel=1e-12)


def test_effective_rank_ignores_scale_and_rotation():
    W = with_singular_values([5.0, 1.0, 0.1], (5, 4), seed=1)
    turned = with_singular_values([5.0, 1.0, 0.1], (5, 4), seed=2)
    assert float(effective_rank(1e-150 * W)) == pytest.approx(float(effective_rank(turned)))


def test_schatten_norm_of_low_rank_matrix_at_small_exponent():
    # A rank-2 matrix of 6×6: rounding leaves four singular values near 1e-16, and
    # (1e-16)^0.01 = 0.69, so that counting them makes the norm 37 orders of magnitude too large.
    sigma = [1.6, 1.25]
    W = with_singular_values(sigma, (6, 6))
    expected = math.exp(log_of_schatten_norm(sigma, 0.01))
    assert 1.7e30 < expected < 1.9e30
    assert float(schatten_norm(W, 0.01)) == pytest.approx(expected, rel=1e-11)
    naive = float((torch.linalg.svdvals(W) ** 0.01).sum() ** 100)
    assert naive > 1e60


def test_schatten_norm_where_powers_overflow():
    W = torch.tensor([[1e200, 0.0], [0.0, 1e200]], dtype=torch.float64)
    assert float(schatten_norm(W, 3)) == pytest.approx(2 ** (1 / 3) * 1e200, rel=1e-10)
    assert float(schatten_norm(1e-300 * W, 4)) == pytest.approx(2**0.25 * 1e-100, rel=1e-10)


# --- zeros and rank deficiency ------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_zero_matrix(shape):
    W = torch.zeros(shape, dtype=torch.float64)
    assert singular_values(W).tolist() == [0.0] * min(shape)
    for measure in (nuclear_norm, effective_rank, numerical_rank):
        assert float(measure(W)) == 0
    for p in (0.01, 1, 2, math.inf):
        assert float(schatten_norm(W, p)) == 0


@pytest.mark.parametrize(("shape", "rank"), [((9, 6), 2), ((6, 9), 3), ((40, 40), 1)])
def test_rounding_is_cut_off(shape, rank):
    rng = np.random.default_rng(rank)
    W = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    sigma = singular_values(W)
    assert torch.equal(sigma[rank:], torch.zeros(min(shape) - rank, dtype=torch.float64))
    assert (sigma[:rank] > 0.1).all()
    assert int(numerical_rank(W)) == rank
    assert 1 <= float(effective_rank(W)) <= rank + 1e-12


def test_cut_off_is_the_larger_size_times_rounding():
    eps = torch.finfo(torch.float64).eps
    W = torch.zeros(2, 50, dtype=torch.float64)
    W[0, 0] = 1.0
    W[1, 1] = 49 * eps
    assert int(numerical_rank(W)) == 1
    W[1, 1] = 52 * eps
    assert int(numerical_rank(W)) == 2


def test_asked_tolerance_of_the_rank():
    W = with_singular_values([10.0, 1.0, 0.1, 1e-14])
    assert [int(numerical_rank(W, t)) for t in (0.5, 0.05, 0.005, 1e-16)] == [1, 2, 3, 4]
    assert singular_values(W, 0.05)[2:].tolist() == [0.0, 0.0]


# --- batches and types --------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES)
def test_batch_is_its_members(measure):
    W = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    W[1, 2] = 0
    W[0, 1] = W[0, 1, :, :1] @ W[0, 1, :1, :]
    batch = measure(W)
    assert batch.shape[:2] == (2, 3)
    for a in range(2):
        for b in range(3):
            torch.testing.assert_close(batch[a, b], measure(W[a, b]), rtol=1e-14, atol=0)


def test_cut_off_does_not_know_the_size_of_the_batch():
    W = torch.tensor([[1.0, 0.0], [0.0, 10 * torch.finfo(torch.float64).eps]], dtype=torch.float64)
    assert numerical_rank(W.expand(50, 2, 2)).tolist() == [2] * 50


@pytest.mark.parametrize("measure", MEASURES[1:])
def test_one_matrix_gives_a_number(measure):
    assert measure(torch.eye(3, dtype=torch.float64)).ndim == 0


def test_numbers_of_python_are_read_in_double_precision():
    # 0.1 in single precision is off by 1.5e-9.
    assert float(nuclear_norm([[0.1, 0.0], [0.0, 0.2]])) == pytest.approx(0.3, rel=1e-15)
    assert float(nuclear_norm([[3, 0], [0, 4]])) == 7
    assert float(nuclear_norm(np.eye(3, dtype=np.int64))) == 3


def test_single_precision_has_its_own_rounding():
    W = with_singular_values([1.0, 1e-3, 1e-8], (20, 20)).to(torch.float32)
    assert singular_values(W).dtype == torch.float32
    assert int(numerical_rank(W)) == 2


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(measure, bad):
    W = torch.eye(3, dtype=torch.float64)
    W[1, 2] = bad
    with pytest.raises(ValueError, match="W has NaN or infinite entries"):
        measure(W)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 0)])
def test_what_is_no_matrix(measure, shape):
    with pytest.raises(ValueError, match=r"W must be a matrix of shape \(\.\.\., d, d'\), got"):
        measure(torch.ones(shape))


@pytest.mark.parametrize("p", [0, -1, math.nan])
def test_exponent_that_is_not_positive(p):
    with pytest.raises(ValueError, match=f"p must be positive, got {p}; use numerical_rank"):
        schatten_norm(torch.eye(2), p)


@pytest.mark.parametrize("tolerance", [-1e-3, math.nan])
def test_tolerance_that_is_negative(tolerance):
    with pytest.raises(ValueError, match=f"tolerance must be at least 0, got {tolerance}"):
        numerical_rank(torch.eye(2), tolerance)
    with pytest.raises(ValueError, match=f"relative_floor must be at least 0, got {tolerance}"):
        singular_values(torch.eye(2), tolerance)
