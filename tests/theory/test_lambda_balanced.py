"""The closed form at depth 2 against SciPy's integrator, for shapes that are not square."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from dmf_utils.theory.lambda_balanced import (
    lambda_balanced_flow,
    lambda_balanced_start,
    tangent_kernel,
)

CASES = [((6, 4), 0.0), ((6, 4), 2.0), ((4, 6), -1.0), ((3, 3), 9.0), ((1, 5), 0.3), ((5, 1), -0.3)]


@pytest.mark.parametrize(("shape", "imbalance"), CASES)
def test_start_has_the_imbalance_and_the_norm(shape, imbalance):
    first, last = lambda_balanced_start(shape, imbalance, norm=0.3, seed=1)
    eye = torch.eye(min(shape), dtype=torch.float64)
    torch.testing.assert_close(last.T @ last - first @ first.T, imbalance * eye)
    assert float(torch.linalg.matrix_norm(last @ first)) == pytest.approx(0.3)


@pytest.mark.parametrize(("shape", "imbalance"), CASES)
def test_closed_form_is_the_flow(shape, imbalance):
    Y = np.random.default_rng(2).standard_normal(shape)
    first, last = (W.numpy() for W in lambda_balanced_start(shape, imbalance, 1e-2, seed=0))
    cut = first.size

    def motion(_, state):
        A, B = state[:cut].reshape(first.shape), state[cut:].reshape(last.shape)
        miss = Y - B @ A
        return np.concatenate([(B.T @ miss).ravel(), (miss @ A.T).ravel()])

    moments = np.array([0.0, 0.5, 2.0, 6.0])
    begin = np.concatenate([first.ravel(), last.ravel()])
    options = {"method": "DOP853", "rtol": 1e-13, "atol": 1e-15, "t_eval": moments}
    states = solve_ivp(motion, (0, 6), begin, **options).y.T
    expected = [s[cut:].reshape(last.shape) @ s[:cut].reshape(first.shape) for s in states]
    found = lambda_balanced_flow([first, last], Y, moments)
    np.testing.assert_allclose(found, expected, atol=1e-11)
    # Times need not be in order.
    backwards = lambda_balanced_flow([first, last], Y, moments[::-1].copy())
    np.testing.assert_allclose(backwards.flip(0), found, atol=1e-12)


def test_a_hidden_space_of_another_size_does_as_well():
    rng = np.random.default_rng(0)
    last = np.linalg.qr(rng.standard_normal((5, 2)))[0] * 1.5
    first = np.linalg.qr(rng.standard_normal((4, 2)))[0].T * 0.5
    Y = rng.standard_normal((5, 4))
    step = 1e-5
    ends = lambda_balanced_flow([first, last], Y, [0.0, step])
    W = last @ first
    speed = last @ last.T @ (Y - W) + (Y - W) @ first.T @ first
    np.testing.assert_allclose((ends[1] - ends[0]) / step, speed, atol=1e-3)


def test_the_kernel_moves_the_product():
    first, last = lambda_balanced_start((3, 4), 0.7, 0.5, seed=0)
    G = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 4)))
    expected = last @ last.T @ G + G @ first.T @ first
    torch.testing.assert_close(tangent_kernel([first, last]) @ G.flatten(), expected.flatten())


def test_bad_input_is_named():
    first, last = lambda_balanced_start((3, 4), 0.7, 0.5, seed=0)
    Y = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="not lambda-balanced"):
        lambda_balanced_flow([first + 0.1, last], Y, [1.0])
    with pytest.raises(ValueError, match="got 1 factors"):
        lambda_balanced_flow([first], Y, [1.0])
    with pytest.raises(ValueError, match="do not chain"):
        lambda_balanced_flow([first, last[:, :2]], Y, [1.0])
    with pytest.raises(ValueError, match="times must be at least 0"):
        lambda_balanced_flow([first, last], Y, [-1.0])
    with pytest.raises(ValueError, match="norm"):
        lambda_balanced_start((3, 4), 0.7, 0.0, seed=0)
