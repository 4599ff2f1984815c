"""Measurements near a matrix, for changes in a tangent space."""

import pytest
import torch

from dmf_utils.problems.lockstep import in_lockstep
from dmf_utils.problems.sensing import MatrixSensing

SHAPES = [(9, 9), (7, 12), (12, 7)]


def drawn(*size, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=random, dtype=torch.float64)


def bases(shape, k, seed=1):
    return [torch.linalg.qr(drawn(size, k, seed=seed + i))[0] for i, size in enumerate(shape)]


def near(shape, k, reduction="mean"):
    """A problem, a matrix, and the same problem near the matrix on a tangent space."""
    problem = MatrixSensing.random(shape, 2, 40, seed=0, reduction=reduction)
    U, V = bases(shape, k)
    origin = drawn(*shape, seed=5)
    return problem, origin, problem.on_tangent_space(U, V).near(origin, problem.gradient(origin))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "half_sum"])
def test_on_the_whole_space_it_is_the_problem_itself(shape, reduction):
    problem, origin, nearby = near(shape, min(shape), reduction)
    W = origin + drawn(3, *shape, seed=6)
    loss, gradient = nearby.loss_and_gradient(W)
    torch.testing.assert_close(gradient, problem.gradient(W))
    torch.testing.assert_close(loss, problem.loss(W) - problem.loss(origin))


@pytest.mark.parametrize("shape", SHAPES)
def test_its_gradient_is_that_of_the_projected_measurements(shape):
    problem, origin, nearby = near(shape, 3)
    U, V = nearby.left, nearby.right
    moved = drawn(*shape, seed=6)

    def projected(X):
        left, right = U @ U.T, V @ V.T
        return X @ right + left @ X - left @ X @ right

    measured = problem.operator @ projected(moved).flatten()
    back = projected((measured @ problem.operator).view(shape))
    expected = problem.gradient(origin) + 2 / problem.n_measurements * back
    torch.testing.assert_close(nearby.gradient(origin + moved), expected)
    along = torch.autograd.functional.jacobian(nearby.loss, origin + moved)
    torch.testing.assert_close(along, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_changes_in_the_tangent_space_are_measured_as_they_are(shape):
    problem, origin, nearby = near(shape, 2)
    moved = nearby.left @ drawn(2, shape[1], seed=7) + drawn(shape[0], 2, seed=8) @ nearby.right.T
    change = problem.loss(origin + moved) - problem.loss(origin)
    torch.testing.assert_close(nearby.loss(origin + moved), change)
    outside = drawn(*shape, seed=9)
    whole = problem.loss(origin + outside) - problem.loss(origin)
    assert not torch.isclose(nearby.loss(origin + outside), whole)


def test_coarse_measurements_round_off_what_has_moved_only():
    problem = MatrixSensing.random((9, 9), 2, 40, seed=0)
    coarse = problem.to("cpu", torch.float32)
    origin = drawn(9, 9, seed=5)
    left, right = (basis.float() for basis in bases((9, 9), 9))
    nearby = coarse.on_tangent_space(left, right).near(origin, problem.gradient(origin))
    assert nearby.gradient(origin).dtype == torch.float64
    torch.testing.assert_close(nearby.gradient(origin), problem.gradient(origin), rtol=0, atol=0)
    for size in (1e-3, 1e-6, 1e-9):
        W = origin + size * drawn(9, 9, seed=6)
        missed = torch.linalg.matrix_norm(nearby.gradient(W) - problem.gradient(W))
        assert missed < 1e-5 * size


def test_in_lockstep_each_computation_has_its_own():
    problem = MatrixSensing.random((9, 9), 2, 40, seed=0)
    U, V = bases((9, 9), 3)
    origin, at = drawn(9, 9, seed=5), drawn(9, 9, seed=6)

    def gradient(shared):
        tangent = shared.on_tangent_space(U, V)
        return tangent.near(origin, problem.gradient(origin)).gradient(at)

    alone = gradient(problem)
    for found in in_lockstep(problem, [gradient, gradient]):
        torch.testing.assert_close(found, alone)
