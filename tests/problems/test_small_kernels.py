"""Products with measurements in pieces: the same as in one, whatever the pieces."""

import numpy as np
import pytest
import torch

from dmf_utils import MatrixSensing
from dmf_utils.problems import small_kernels
from dmf_utils.problems.small_kernels import (
    bases_measured,
    serve,
    squares_and_slopes,
    squares_and_slopes_of_one,
)
from dmf_utils.problems.tangent import TangentSensing


@pytest.fixture
def served(monkeypatch):
    """As on a processor that has the kernels."""
    monkeypatch.setattr(small_kernels, "outruns_torch", lambda: True)


@pytest.mark.parametrize("pieces", [1_000_000, 700, 40])
@pytest.mark.parametrize("count", [2, 4, 5, 9, 10, 16])
def test_pieces_add_up_to_the_whole(count, pieces, monkeypatch):
    monkeypatch.setattr(small_kernels, "_MULTIPLICATIONS", pieces)
    rng = np.random.default_rng(count)
    A, y, X = rng.standard_normal((23, 31)), rng.standard_normal(23), rng.random((count, 31))
    squares, slopes = squares_and_slopes(A, y, X)
    residual = X @ A.T - y
    np.testing.assert_allclose(squares, (residual**2).sum(1), rtol=1e-13)
    np.testing.assert_allclose(slopes, residual @ A, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cached", [1_300_000, 800, 1])
@pytest.mark.parametrize(("m", "size"), [(23, 31), (1, 4), (7, 1)])
def test_pieces_of_one_add_up_to_the_whole(m, size, cached, monkeypatch):
    monkeypatch.setattr(small_kernels, "_CACHED_BYTES", cached)
    rng = np.random.default_rng(m)
    A, x = rng.standard_normal((m, size)), rng.standard_normal(size)
    squares, slopes = squares_and_slopes_of_one(A, x)
    np.testing.assert_allclose(squares, np.sum((A @ x) ** 2), rtol=1e-13)
    np.testing.assert_allclose(slopes, A.T @ (A @ x), rtol=1e-12, atol=1e-12)


def test_the_precision_is_kept():
    A, y, one = np.ones((4, 3), np.float32), np.ones(4, np.float32), np.ones((2, 3), np.float32)
    for found in (*squares_and_slopes(A, y, one), *squares_and_slopes_of_one(A, one[0])):
        assert found.dtype == np.float32


@pytest.mark.parametrize("pieces", [1_000_000, 500, 1])
@pytest.mark.parametrize(("d", "d_prime", "k"), [(7, 5, 2), (4, 9, 3), (1, 3, 1)])
def test_bases_are_measured_as_the_definition_says(d, d_prime, k, pieces, monkeypatch):
    monkeypatch.setattr(small_kernels, "_MULTIPLICATIONS", pieces)
    rng = np.random.default_rng(0)
    A, U, V = rng.random((11, d, d_prime)), rng.random((d, k)), rng.random((d_prime, k))
    out = np.full((11, k * (d + d_prime)), np.nan)
    bases_measured(A.reshape(11, -1), U, V, out)
    np.testing.assert_allclose(out[:, : k * d], np.einsum("iab,bk->iak", A, V).reshape(11, -1))
    np.testing.assert_allclose(out[:, k * d :], np.einsum("ak,iab->ikb", U, A).reshape(11, -1))


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_problem_is_the_same_with_and_without(dtype, monkeypatch):
    problem = MatrixSensing.random((12, 9), 2, 70, seed=1).to("cpu", dtype)
    W = torch.randn(6, 12, 9, dtype=dtype, generator=torch.Generator().manual_seed(0))
    U, V = (torch.linalg.qr(torch.randn(size, 3, dtype=dtype))[0] for size in problem.shape)
    with_them = problem.loss_and_gradient(W)
    tangent = TangentSensing(problem.operator, U, V, 0.5, 32)
    near = tangent.near(W[0], W[1])
    with_them += near.loss_and_gradient(W[2:3])
    monkeypatch.setattr(small_kernels, "outruns_torch", lambda: False)
    exact = 1e-12 if dtype == torch.float64 else 1e-4
    without = problem.loss_and_gradient(W) + near.loss_and_gradient(W[2:3])
    for one, other in zip(with_them, without, strict=True):
        assert one.dtype == dtype
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=exact, atol=exact)
    other = TangentSensing(problem.operator, U, V, 0.5, 32).measured
    torch.testing.assert_close(tangent.measured, other, rtol=exact, atol=exact)


@pytest.mark.usefixtures("served")
def test_they_serve_few_rows_in_memory_that_autograd_does_not_follow(monkeypatch):
    operator, few = torch.zeros(5, 8), torch.zeros(16, 8)
    assert serve(operator)
    assert serve(operator, few)
    assert not serve(operator, torch.zeros(17, 8))
    assert not serve(operator.T)
    assert not serve(operator, few.clone().requires_grad_())
    assert not serve(torch.zeros(5, 8, device="meta"), few)
    assert not serve(torch.zeros(1, 62_501))
    monkeypatch.setattr(small_kernels, "outruns_torch", lambda: False)
    assert not serve(operator)


@pytest.mark.usefixtures("served")
def test_autograd_still_finds_its_way_through_a_loss():
    problem = MatrixSensing.random((4, 3), 1, 20, seed=0)
    W = torch.ones(3, 4, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(problem.loss(W).sum(), W)
    torch.testing.assert_close(slope, problem.gradient(W.detach()))
