"""The mirror maps against quadrature, the flow's end points, and an independent projection."""

import cvxpy
import numpy as np
import pytest
import torch
from scipy.integrate import quad

from dmf_utils import MatrixSensing, Settings, gradient_flow
from dmf_utils.theory.mirror_flow import (
    bregman_divergence,
    mirror_gradient,
    mirror_map,
    mirror_residual,
)

DEPTHS = (1, 2, 3, 4, 7)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_map_is_the_integral_of_one_over_the_speed(depth):
    def curvature(x):
        return x ** (2 / depth - 2) / depth

    for low, high in ((0.01, 0.3), (0.3, 5.0)):
        slopes = mirror_gradient([low, high], depth)
        assert float(slopes[1] - slopes[0]) == pytest.approx(quad(curvature, low, high)[0])
        heights = mirror_map([low, high], depth)
        rise = quad(lambda x: float(mirror_gradient(x, depth)), low, high)[0]
        assert float(heights[1] - heights[0]) == pytest.approx(rise)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_divergence_is_positive_and_zero_at_its_origin(depth):
    lam = np.geomspace(1e-3, 10, 50)
    divergence = bregman_divergence(lam, 0.7, depth)
    assert (divergence > 0).all()
    assert float(bregman_divergence(0.7, 0.7, depth)) == pytest.approx(0, abs=1e-15)


def commuting(seed, size=5, count=2):
    rng = np.random.default_rng(seed)
    Q = torch.from_numpy(np.linalg.qr(rng.standard_normal((size, size)))[0])
    spectra = torch.from_numpy(rng.standard_normal((count, size)))
    A = torch.stack([(Q * s) @ Q.T for s in spectra])
    lam = torch.from_numpy(rng.random(size) + 0.2)
    truth = (Q * lam) @ Q.T
    return Q, spectra, A, MatrixSensing(A, A.flatten(1) @ truth.flatten(), truth, "half_sum")


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_flow_ends_at_the_projection_that_cvxpy_finds(depth):
    alpha = 0.6
    Q, spectra, A, problem = commuting(depth)
    eye = torch.eye(5, dtype=torch.float64)
    run = gradient_flow(
        problem, depth, [alpha * eye] * depth, 1e-18, settings=Settings(tolerance=1e-11)
    )
    lam = cvxpy.Variable(5)
    mu = alpha**depth
    slope = float(mirror_gradient(mu, depth))
    if depth == 2:
        height = -cvxpy.sum(cvxpy.entr(lam)) / 2 - cvxpy.sum(lam) / 2
    else:
        height = -depth / (2 * (depth - 2)) * cvxpy.sum(cvxpy.power(lam, 2 / depth))
    fits = [spectra.numpy() @ lam == problem.values.numpy()]
    cvxpy.Problem(cvxpy.Minimize(height - slope * cvxpy.sum(lam)), fits).solve("CLARABEL")
    found = (Q.T @ run.product @ Q).diagonal().numpy()
    np.testing.assert_allclose(found, lam.value, rtol=2e-4)
    end = (run.product + run.product.T) / 2
    assert mirror_residual(end, mu * eye, A, depth) < 1e-8
    # Another depth's map is not the one that is minimized.
    assert mirror_residual(end, mu * eye, A, depth + 1) > 1e-3


def test_bad_input_is_named():
    eye = torch.eye(3, dtype=torch.float64)
    A = eye[None]
    with pytest.raises(ValueError, match="eigenvalues must be positive"):
        mirror_map([1.0, 0.0], 2)
    with pytest.raises(ValueError, match="end must be positive definite"):
        mirror_residual(-eye, eye, A, 2)
    with pytest.raises(ValueError, match="nothing moved"):
        mirror_residual(eye, eye, A, 2)
    with pytest.raises(ValueError, match="must be symmetric"):
        mirror_residual(eye + torch.ones(3, 3).triu(1), eye, A, 2)
    with pytest.raises(ValueError, match=r"shape \(m, d, d\)"):
        mirror_residual(2 * eye, eye, eye, 2)
    # At depth 1 eigenvalues may have any sign.
    assert mirror_residual(-eye, eye, A, 1) == pytest.approx(0, abs=1e-15)
