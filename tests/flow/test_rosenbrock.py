"""The exact Hessian on the factors, and linearly implicit steps in blocks of their own scale."""

import pytest
import torch

from dmf_utils.factorization.initialization import gaussian
from dmf_utils.factorization.product import product_matrix
from dmf_utils.flow.hessian import Linearized, Turned
from dmf_utils.flow.rosenbrock import Blocks, RosenbrockSteps, conjugate_gradients
from dmf_utils.flow.waiting import is_swallowed
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.sensing import MatrixSensing

DOUBLE = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


PROBLEMS = [
    FullObservation(drawn(4, 6)),
    MatrixCompletion.random((4, 6), 2, 13, seed=1),
    MatrixSensing.random((4, 6), 2, 9, seed=2),
]


def uneven(sizes, seed=0):
    """Factors of uneven hidden sizes, from ``(d_0, ..., d_N)``."""
    pairs = zip(sizes[1:], sizes[:-1], strict=True)
    return [drawn(*pair, seed=seed + j) for j, pair in enumerate(pairs)]


def flat(factors):
    return torch.cat([W.reshape(-1) for W in factors])


@pytest.mark.parametrize("sizes", [(6, 4), (6, 5, 4), (6, 7, 3, 4), (6, 2, 9, 5, 4)])
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: type(p).__name__)
def test_hessian_is_that_of_autograd(problem, sizes):
    factors = uneven(sizes)
    numbers = [W.numel() for W in factors]
    left, right = (torch.linalg.qr(drawn(n, n, seed=n))[0] for n in problem.shape)

    def loss(point):
        pieces = point.split(numbers)
        at = [x.view(W.shape) for x, W in zip(pieces, factors, strict=True)]
        return problem.loss_and_gradient((left @ product_matrix(at) @ right.T)[None])[0].squeeze()

    point, direction = flat(factors), drawn(sum(numbers), seed=9)
    exact = torch.autograd.functional.hessian(loss, point) @ direction
    at = Linearized(Turned(problem, left, right), [W[None] for W in factors])
    assert at.loss == pytest.approx(float(loss(point)))
    torch.testing.assert_close(at.gradient, torch.autograd.functional.jacobian(loss, point))
    for scale in (1.0, 1e-30):  # no digit is lost to what the loss has at zero
        found = at.hessian_times(scale * direction) / scale
        torch.testing.assert_close(found, exact, rtol=1e-11, atol=1e-11 * float(exact.norm()))


def saddle(depth=3, small=1e-9):
    """Factors with one singular value learned and one that waits, in a turned basis."""
    U, V = (torch.linalg.qr(drawn(n, 2, seed=n))[0] for n in (5, 4))
    hidden = torch.linalg.qr(drawn(3, 2, seed=3))[0]
    target = U @ torch.diag(torch.tensor([8.0, 1.0], dtype=DOUBLE)) @ V.T
    root = torch.diag(torch.tensor([8.0 ** (1 / depth), small], dtype=DOUBLE))
    ends = [hidden, *[hidden] * (depth - 1), U]
    starts = [V, *[hidden] * (depth - 1)]
    factors = [
        left @ root @ right.T for left, right in zip([hidden, *ends[2:]], starts, strict=True)
    ]
    return FullObservation(target), factors


@pytest.mark.parametrize("share", [1e-2, 1e4, 1e8])
def test_solutions_are_exact_in_each_block_of_its_own_size(share):
    blocks = Blocks(*saddle())
    at = Linearized(blocks.problem, blocks.factors(blocks.point))
    dense = torch.stack([at.hessian_times(e) for e in torch.eye(len(blocks.point), dtype=DOUBLE)])
    b = drawn(len(blocks.point), seed=5) * blocks.point.abs()
    x, iterations = conjugate_gradients(at, blocks, share, b, 0.0)
    exact = torch.linalg.solve(torch.eye(len(b), dtype=DOUBLE) + share * dense, b)
    off, size = (blocks.squares(of).sqrt() for of in (x - exact, exact))
    waits = blocks.squares(blocks.point).sqrt() > 1e-12
    assert int(waits.sum()) == 2  # of size 2, and of size 1e-9
    assert bool((off[waits] <= 1e-5 * size[waits]).all())
    assert iterations < 30  # however long the step


def test_a_matrix_that_is_not_positive_has_no_solution():
    blocks = Blocks(*saddle(depth=2))
    at = Linearized(blocks.problem, blocks.factors(blocks.point))
    assert conjugate_gradients(at, blocks, 1e6, blocks.point, 0.0)[0] is None


def test_a_step_has_order_3_and_counts_its_gradients():
    problem = MatrixCompletion.random((5, 4), 2, 14, seed=3)
    factors = gaussian(1.0, 1).factors((5, 4), 3)
    state, ends = flat(factors), {}

    def go(h, n):
        steps, at = RosenbrockSteps(problem, factors), state
        for _ in range(n):
            step = steps.step(at, h, 1e-13)
            steps.accept()
            at = step.states[0]
        return at

    for n in (8, 16, 32, 512):
        ends[n] = go(0.4 / n, n)
    off = [float((ends[n] - ends[512]).norm()) for n in (8, 16, 32)]
    assert off[0] / off[1] == pytest.approx(8, rel=0.4)
    assert off[1] / off[2] == pytest.approx(8, rel=0.3)
    calls = 0
    original = problem.unchecked_gradient, problem.loss_and_gradient

    def counted(which):
        def call(W):
            nonlocal calls
            calls += 1
            return original[which](W)

        return call

    watched = problem._changed(unchecked_gradient=counted(0), loss_and_gradient=counted(1))
    steps = RosenbrockSteps(watched, factors)
    step = steps.step(state, 0.05, 1e-10)
    # A Hessian times a direction calls for one gradient, and is charged with two.
    assert step.evaluations == [2 * calls - 5]
    assert float((step.interpolate(0, 1.0) - step.states[0]).norm()) < 1e-14
    assert float((step.interpolate(0, 0.5) - go(0.025, 1)).norm()) < 1e-3 * step.moves[0]


def test_what_rounding_has_swallowed():
    at = [torch.diag(torch.tensor([3.0, 1e-3], dtype=DOUBLE))] * 2
    lost = [torch.diag(torch.tensor([3.0, 1e-17], dtype=DOUBLE)), at[0]]
    assert is_swallowed(at, lost)
    assert not is_swallowed(at, at)
    assert not is_swallowed(lost, lost)  # nor was it larger at the start
