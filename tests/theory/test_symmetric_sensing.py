"""Measurements that are nearly an isometry, and angles between spaces."""

import math

import numpy as np
import pytest
import torch

from dmf_utils import gradient_flow
from dmf_utils.theory.symmetric_sensing import (
    leading_space,
    space_angle,
    symmetric_gaussian,
    symmetric_sensing,
)


def test_measurements_are_symmetric_and_twice_an_isometry_on_average():
    problem = symmetric_sensing([2.0, 1.0], 6, 4000, seed=0)
    A = problem.operator.view(-1, 6, 6)
    torch.testing.assert_close(A, A.mT)
    assert float(problem.loss(problem.ground_truth)) == pytest.approx(0, abs=1e-20)
    drawn = torch.from_numpy(np.random.default_rng(1).standard_normal((6, 6)))
    W = drawn + drawn.T
    size = (problem.operator @ W.flatten()).square().sum()
    assert float(size / W.square().sum()) == pytest.approx(2, rel=0.1)
    values = torch.linalg.eigvalsh(problem.ground_truth)
    torch.testing.assert_close(values[-2:], torch.tensor([1.0, 2.0]).double())
    assert float(values[:-2].abs().max()) < 1e-12


def test_the_flow_keeps_the_factors_transposed():
    problem = symmetric_sensing([1.0], 5, 30, seed=0)
    start = symmetric_gaussian(0.1, seed=0)
    run = gradient_flow(problem, 2, start, None, until_time=3.0, hidden=2)
    torch.testing.assert_close(run.factors[0], run.factors[1].T)
    assert run.factors[1].shape == (5, 2)
    assert float(problem.error(run.product)) < 1e-3


def test_angle_of_two_planes():
    for angle in (0.0, 0.3, math.pi / 2):
        turned = torch.tensor([[1.0, 0], [0, math.cos(angle)], [0, math.sin(angle)]]).double()
        flat = torch.eye(3).double()[:, :2]
        assert space_angle(flat, turned) == pytest.approx(math.sin(angle), abs=1e-8)
    # The basis does not matter.
    mixed = torch.linalg.qr(torch.tensor([[1.0, 2], [3, 4]]).double()).Q
    assert space_angle(flat, flat @ mixed) == pytest.approx(0, abs=1e-8)


def test_leading_space_belongs_to_the_largest_eigenvalues():
    W = torch.diag(torch.tensor([3.0, -5.0, 1.0])).double()
    assert space_angle(leading_space(W, 1), torch.eye(3).double()[:, :1]) < 1e-12


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="n must be at least 2"):
        symmetric_sensing([1.0, 1.0], 1, 10, seed=0)
    with pytest.raises(ValueError, match="square shape and depth 2"):
        symmetric_gaussian(0.1, 0).factors((3, 4), 2)
    with pytest.raises(ValueError, match="alpha"):
        symmetric_gaussian(0.0, 0)
    with pytest.raises(ValueError, match="square with at least 4"):
        leading_space(torch.eye(3), 4)
    with pytest.raises(ValueError, match="one shape"):
        space_angle(torch.eye(3)[:, :1], torch.eye(3)[:, :2])
