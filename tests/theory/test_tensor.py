"""CP factorizations: sums, rates, flow, and the matrix case."""

import pytest
import torch

from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.theory.tensor import (
    TensorCompletion,
    component_flow,
    component_norm_rates,
    component_norms,
    component_start,
    component_sum,
)

SHAPES = [(3, 4), (3, 2, 4), (2, 3, 2, 3)]
LETTERS = "abcd"


def reference_sum(factors):
    axes = ",".join(f"{LETTERS[k]}z" for k in range(len(factors)))
    return torch.einsum(f"{axes}->{LETTERS[: len(factors)]}", *factors)


def slopes(problem, factors):
    at = [factor.clone().requires_grad_() for factor in factors]
    problem.loss(reference_sum(at)).backward()
    return [-factor.grad for factor in at]


@pytest.mark.parametrize("shape", SHAPES)
def test_sum_and_norms(shape):
    factors = component_start(shape, 5, 0.3, seed=0)
    torch.testing.assert_close(component_sum(factors), reference_sum(factors))
    singles = [component_sum([factor[:, [r]] for factor in factors]) for r in range(5)]
    expected = torch.stack([torch.linalg.vector_norm(T) for T in singles])
    torch.testing.assert_close(component_norms(factors), expected)
    torch.testing.assert_close(expected, torch.full((5,), 0.3, dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_norms_move_as_the_formula_says(shape):
    problem = TensorCompletion.random(shape, 2, 7, seed=1)
    factors = component_start(shape, 4, 0.7, seed=2)
    # the derivative of a product of norms, from autograd slopes
    sizes = [torch.linalg.vector_norm(factor, dim=0) for factor in factors]
    parts = [
        (factor * slope).sum(dim=0) / size**2
        for factor, slope, size in zip(factors, slopes(problem, factors), sizes, strict=True)
    ]
    expected = component_norms(factors) * torch.stack(parts).sum(dim=0)
    found = component_norm_rates(factors, problem.gradient(component_sum(factors)))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def test_unbalanced_factors_are_refused():
    factors = component_start((2, 3, 2), 2, 1.0, seed=0)
    factors[0] = 2 * factors[0]
    with pytest.raises(ValueError, match="factors must be balanced"):
        component_norm_rates(factors, torch.zeros(2, 3, 2, dtype=torch.float64))


def test_order_2_is_a_matrix_factorization_of_depth_2():
    problem = TensorCompletion.random((4, 3), 1, 8, seed=0)
    left, right = component_start((4, 3), 3, 0.1, seed=1)
    matrix = MatrixCompletion(problem.mask, problem.values, reduction="half_sum")
    expected = gradient_flow(
        matrix, start=[right.mT, left], until_loss=1e-6, settings=Settings(tolerance=1e-10)
    )
    found = component_flow(problem, [left, right], 1e-6, tolerance=1e-10)
    assert found.reached
    assert float(found.times[-1]) == pytest.approx(expected.time, rel=1e-3)  # located to 1 %
    torch.testing.assert_close(found.tensor, expected.product, rtol=0, atol=1e-4)


def test_flow_conserves_balance_and_lowers_the_loss():
    problem = TensorCompletion.random((4, 3, 3), 1, 24, seed=0)
    run = component_flow(problem, component_start((4, 3, 3), 4, 1e-2, seed=0), 1e-4, tolerance=1e-9)
    sizes = torch.stack([torch.linalg.vector_norm(factor, dim=0) for factor in run.factors])
    assert float((sizes - sizes[0]).abs().max()) < 1e-6
    assert bool((run.losses.diff() < 0).all())
    assert float(run.losses[-1]) == pytest.approx(1e-4, rel=1e-6)
    assert float(problem.error(run.tensor)) < 1e-3  # one component is learned, and is the truth
    torch.testing.assert_close(run.norms[-1], component_norms(run.factors))


def test_flow_ends_at_the_asked_time():
    problem = TensorCompletion.random((3, 3, 3), 2, 20, seed=0)
    run = component_flow(problem, component_start((3, 3, 3), 4, 0.1, seed=0), 1e-12, until_time=0.5)
    assert not run.reached
    assert float(run.times[-1]) == 0.5


def test_random_instances():
    problem = TensorCompletion.random((3, 4, 5), 2, 30, seed=3)
    assert problem.shape == (3, 4, 5)
    assert int(problem.mask.sum()) == 30
    assert float(problem.ground_truth.square().mean()) == pytest.approx(1)
    assert float(problem.loss(problem.ground_truth)) == 0
    assert float(problem.error(torch.zeros(3, 4, 5))) == pytest.approx(1)
    again = TensorCompletion.random((3, 4, 5), 2, 40, seed=3)
    assert torch.equal(again.ground_truth, problem.ground_truth)
    assert bool(again.mask[problem.mask].all())
    unfolded = problem.ground_truth.flatten(1)
    assert int(torch.linalg.matrix_rank(unfolded)) == 2


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="n_observed must be at most 8, got 9"):
        TensorCompletion.random((2, 2, 2), 1, 9, seed=0)
    with pytest.raises(ValueError, match="shape must have two sizes or more"):
        TensorCompletion.random((4,), 1, 2, seed=0)
    with pytest.raises(ValueError, match="norm must be a positive number"):
        component_start((2, 2), 1, 0.0, seed=0)
    problem = TensorCompletion.random((2, 3, 2), 1, 5, seed=0)
    with pytest.raises(ValueError, match="do not make a tensor of shape"):
        component_flow(problem, component_start((2, 3), 2, 0.1, seed=0), 1e-3)
    blind = TensorCompletion(problem.mask, problem.values)
    with pytest.raises(ValueError, match="no ground truth"):
        blind.error(problem.values)
