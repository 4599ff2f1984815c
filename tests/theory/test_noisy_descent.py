"""Noise with the right mean and size, spectral steps, and plain descent against the engine's."""

import math

import numpy as np
import pytest
import torch

from dmf_utils import MatrixCompletion, MatrixSensing, gaussian, gradient_descent, product_matrix
from dmf_utils.theory.noisy_descent import batch_noise, label_noise, noisy_descent, polar_factor

PROBLEM = MatrixCompletion.random((5, 4), 1, 14, seed=0)


def batch(depth, count=2):
    made = [gaussian(norm=0.5, seed=s).factors((5, 4), depth) for s in range(count)]
    return [torch.stack(layer) for layer in zip(*made, strict=True)]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_without_noise_it_is_gradient_descent(depth):
    factors = noisy_descent(PROBLEM, batch(depth), 0.1, 50)
    for b in range(2):
        start = [W[b] for W in batch(depth)]
        with pytest.warns(RuntimeWarning, match="step limit"):
            run = gradient_descent(PROBLEM, depth, start, 1e-12, learning_rate=0.1, max_steps=50)
        torch.testing.assert_close(product_matrix(factors)[b], run.product)


def test_decay_alone_is_geometric():
    begun = [W * 1e-8 for W in batch(3)]  # where the loss pulls at nothing
    ended = noisy_descent(PROBLEM, begun, 0.1, 20, weight_decay=0.5)
    for before, after in zip(begun, ended, strict=True):
        torch.testing.assert_close(after, before * 0.95**20, atol=0.0, rtol=1e-6)


def test_what_disturbs_the_gradient_decides_the_step():
    begun = batch(2)
    same = noisy_descent(PROBLEM, begun, 0.1, 5, disturb=torch.zeros_like)
    for before, after in zip(begun, same, strict=True):
        torch.testing.assert_close(after, before, atol=0.0, rtol=0.0)
    back = noisy_descent(
        PROBLEM, noisy_descent(PROBLEM, begun, 1e-6, 1), 1e-6, 1, disturb=torch.neg
    )
    for before, after in zip(begun, back, strict=True):
        torch.testing.assert_close(after, before, atol=1e-10, rtol=0.0)


def test_noise_has_the_mean_of_the_gradient_and_its_own_size():
    gradient = torch.from_numpy(np.random.default_rng(0).standard_normal((20_000, 2, 3)))
    half = batch_noise(0.25, seed=0)(torch.ones_like(gradient))
    assert float(half.mean()) == pytest.approx(1, abs=0.02)
    assert set(half.unique().tolist()) == {0.0, 4.0}
    sensing = MatrixSensing.random((2, 3), 1, 4, seed=0)
    noise = label_noise(sensing.operator, 0.5, 0.25, seed=0)(torch.zeros_like(gradient))
    expected = (2 * 0.25 * 0.5) ** 2 * sensing.operator.T @ sensing.operator
    covariance = noise.flatten(1).T @ noise.flatten(1) / len(noise)
    torch.testing.assert_close(covariance, expected, atol=0.01 * float(expected.max()), rtol=0.05)
    assert float(noise.mean().abs()) < 0.01


def test_label_noise_is_the_gradient_at_other_labels():
    sensing = MatrixSensing.random((2, 3), 1, 4, seed=0)
    W = torch.ones(1, 2, 3, dtype=torch.float64)
    plain = sensing.loss_and_gradient(W)[1]
    xi = torch.randn((1, 4), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    A = sensing.operator.view(4, 2, 3)
    other = MatrixSensing(A, sensing.values + 0.3 * xi[0], reduction="mean")
    found = label_noise(sensing.operator, 0.3, 1 / 4, seed=7)(plain)
    torch.testing.assert_close(found, other.loss_and_gradient(W)[1])


def test_polar_factor_is_the_nearest_isometry():
    G = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 5, 3)))
    polar = polar_factor(G)
    torch.testing.assert_close(polar.mT @ polar, torch.eye(3).double().expand(3, 3, 3))
    # P with G = P (G^T G)^(1/2), the root by eigenvalues.
    values, vectors = torch.linalg.eigh(G.mT @ G)
    root = (vectors * values.sqrt()[:, None, :]) @ vectors.mT
    torch.testing.assert_close(polar @ root, G)
    rank_one = torch.outer(torch.arange(1.0, 4), torch.arange(1.0, 3)).double()
    expected = rank_one / torch.linalg.matrix_norm(rank_one)
    torch.testing.assert_close(polar_factor(rank_one), expected)
    assert not polar_factor(torch.zeros(2, 3)).any()


def test_a_spectral_step_has_the_length_of_its_rank():
    begun = batch(2)
    ended = noisy_descent(PROBLEM, begun, 0.01, 1, spectral=True)
    for before, after in zip(begun, ended, strict=True):
        singular = torch.linalg.svdvals(after - before)
        torch.testing.assert_close(singular[:, :4], torch.full((2, 4), 0.01).double())


def test_looks_come_when_asked_and_steps_follow_the_schedule():
    steps, rates = [], []

    def rate(step):
        rates.append(step)
        return 0.01

    noisy_descent(PROBLEM, batch(2), rate, 7, look=lambda k, W: steps.append(k), look_every=3)
    assert steps == [0, 3, 6, 7]
    assert rates == list(range(7))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="shapes"):
        noisy_descent(PROBLEM, gaussian(norm=0.5, seed=0).factors((5, 4), 2), 0.1, 5)
    with pytest.raises(ValueError, match="learning_rate"):
        noisy_descent(PROBLEM, batch(2), -0.1, 5)
    with pytest.raises(ValueError, match="weight_decay"):
        noisy_descent(PROBLEM, batch(2), 0.1, 5, weight_decay=-1)
    with pytest.raises(ValueError, match="share"):
        batch_noise(0.0, seed=0)
    with pytest.raises(RuntimeError, match="lower the learning rate"):
        noisy_descent(PROBLEM, batch(3), 1e9, 40)
    assert math.isfinite(float(noisy_descent(PROBLEM, batch(2), 0.1, 5)[0].sum()))
