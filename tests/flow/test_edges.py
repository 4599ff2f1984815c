"""What decides at the edges: a zero gradient, an optimizer without a limit, a narrow factor."""

import math
import warnings

import pytest
import torch

from dmf_utils.factorization.initialization import gaussian
from dmf_utils.flow.descent import gradient_descent
from dmf_utils.flow.optimizers import train
from dmf_utils.flow.waiting import smallest_resolved_loss, what_waits
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation

DOUBLE = torch.float64


@pytest.mark.parametrize(("rate", "is_stable"), [(0.45, True), (0.55, False)])
def test_a_step_is_beyond_stability_where_the_gradient_is_zero_too(rate, is_stable):
    """At depth 2 and W = 4 the largest curvature is 2·4 = 8, with factors that are exact."""
    problem = FullObservation(torch.tensor([[4.0]], dtype=DOUBLE))
    at = [torch.full((1, 1), 2.0, dtype=DOUBLE)] * 2
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run = gradient_descent(problem, start=at, until_loss=1e-5, learning_rate=rate / 2)
    assert run.loss == 0.0
    assert bool(run.detail) is not is_stable
    assert bool(seen) is not is_stable


def test_nothing_is_said_of_the_stability_of_adam():
    """Its steps are no gradients times a rate: the same rate is beyond stability for descent."""
    mask = torch.ones(1, 1, dtype=torch.bool)
    problem = MatrixCompletion(mask, torch.ones(1, 1, dtype=DOUBLE))
    options = {"learning_rate": 1.1, "until_loss": 5.0}
    (run,) = train([problem], 1, [gaussian(0.1, 0)], optimizer="adam", **options)
    assert run.reached
    assert run.detail == ""
    with pytest.warns(RuntimeWarning, match="limit of stability"):
        assert train([problem], 1, [gaussian(0.1, 0)], **options)[0].detail


def test_a_factor_without_a_direction_adds_nothing_to_what_waits():
    """A factor of fewer singular values than another has zeros for the rest, which wait forever."""
    problem = FullObservation(torch.diag(torch.tensor([1e3, 1.0, 1.0], dtype=DOUBLE)))
    wide = torch.zeros(3, 3, dtype=DOUBLE)
    wide[0, 0] = 10.0
    narrow, back = torch.zeros(1, 3, dtype=DOUBLE), torch.zeros(3, 1, dtype=DOUBLE)
    narrow[0, 0] = back[0, 0] = 10.0
    found = what_waits(problem, [narrow, back, wide], speed=1.0)
    assert found.time == math.inf


def test_stochastic_batches_are_those_of_seed_zero_unless_said():
    problem = MatrixCompletion.random((6, 5), 2, 20, seed=0)
    options = {"learning_rate": 0.05, "max_steps": 5, "batch_share": 0.5}
    runs = [
        train([problem], 2, [gaussian(0.5, 0)], **options, **seed)[0].product
        for seed in ({}, {"batch_seed": 0}, {"batch_seed": 2})
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("depth", [2, 3])
def test_the_smallest_resolved_loss_is_that_of_rounding(depth):
    problem = FullObservation(torch.zeros(2, 2, dtype=DOUBLE))
    W = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=DOUBLE)
    curved = 2 * float(problem.loss(W))  # <W, H W> of a loss that is quadratic about zero
    expected = 25 * depth**2 * 2.0**-104 * curved
    assert smallest_resolved_loss(problem, W, depth) == pytest.approx(expected, rel=1e-6, abs=0.0)
