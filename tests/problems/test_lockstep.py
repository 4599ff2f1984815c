"""Computations that wait for each other: one evaluation for all, and none is left waiting."""

import threading
from functools import partial

import pytest
import torch

from dmf_utils.factorization.initialization import gaussian
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.problems.lockstep import in_lockstep
from dmf_utils.problems.sensing import MatrixSensing

PROBLEM = MatrixSensing.random((4, 3), 1, 9, seed=0)


@pytest.fixture
def batches(monkeypatch):
    """The sizes of the batches that are evaluated."""
    seen, evaluate = [], MatrixSensing.loss_and_gradient

    def counted(problem, W):
        seen.append(W.shape[:-2].numel())
        return evaluate(problem, W)

    monkeypatch.setattr(MatrixSensing, "loss_and_gradient", counted)
    return seen


def descend(problem, count, begin):
    """Gradient descent by hand, on W itself."""
    W = torch.full((4, 3), begin, dtype=torch.float64)
    for _ in range(count):
        W = W - 0.3 * problem.gradient(W)
    return W


TASKS = [partial(descend, count=count, begin=0.1 * count) for count in (5, 2, 3)]


def test_each_computes_what_it_computes_alone(batches):
    found = in_lockstep(PROBLEM, TASKS)
    assert batches == [3, 3, 2, 1, 1]  # three, until the shortest is done
    for W, task in zip(found, TASKS, strict=True):
        torch.testing.assert_close(W, task(PROBLEM), rtol=1e-12, atol=1e-14)


def test_the_same_to_the_last_bit_every_time():
    one, other = in_lockstep(PROBLEM, TASKS), in_lockstep(PROBLEM, TASKS)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_flows_of_other_depths_and_precisions_share_evaluations(batches):
    def flow(problem, depth, dtype):
        return gradient_flow(
            problem,
            depth,
            gaussian(1e-1, seed=depth),
            1e-4,
            settings=Settings(gradient_dtype=dtype, tolerance=1e-4),
        )

    tasks = [
        partial(flow, depth=depth, dtype=dtype)
        for depth in (1, 2, 3)
        for dtype in (torch.float64, torch.float32)
    ]
    together = in_lockstep(PROBLEM, tasks)
    n_together = len(batches)
    for run, task in zip(together, tasks, strict=True):
        alone = task(PROBLEM)
        torch.testing.assert_close(run.product, alone.product, rtol=0, atol=1e-4)
        assert run.n_gradients == pytest.approx(alone.n_gradients, rel=0.05)
    assert n_together < 0.7 * (len(batches) - n_together)


def test_one_thread_runs_at_a_time():
    at_work, most = set(), []

    def task(problem):
        for _ in range(20):
            at_work.add(threading.get_ident())
            most.append(len(at_work))
            torch.linalg.svdvals(torch.ones(30, 30))  # during which another thread could begin
            at_work.discard(threading.get_ident())
            problem.loss(torch.zeros(4, 3))

    in_lockstep(PROBLEM, [task] * 3)
    assert set(most) == {1}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", [0, 2])
def test_what_one_raises_ends_the_others(place):
    ended = []

    def fails(problem):
        problem.loss(torch.zeros(4, 3))
        raise KeyError("mine")

    def goes_on(problem):
        try:
            while True:
                problem.loss(torch.zeros(4, 3))
        finally:
            ended.append(True)

    tasks = [goes_on, goes_on]
    tasks.insert(place, fails)
    with pytest.raises(KeyError, match="mine"):
        in_lockstep(PROBLEM, tasks)
    assert ended == [True, True]


@pytest.mark.timeout(60)
def test_what_the_problem_raises_reaches_the_caller(monkeypatch):
    def refuse(problem, W):
        raise RuntimeError("no memory")

    monkeypatch.setattr(MatrixSensing, "loss_and_gradient", refuse)
    with pytest.raises(RuntimeError, match="no memory"):
        in_lockstep(PROBLEM, TASKS)


def test_a_loss_is_told_without_waiting(batches):
    losses = []

    def task(problem, begin):
        W = torch.full((1, 4, 3), begin, dtype=torch.float64)
        losses.append(float(problem.unchecked_loss(W)))
        problem.loss_and_gradient(W)
        return float(problem.loss_and_gradient(W)[0])

    found = in_lockstep(PROBLEM, [partial(task, begin=begin) for begin in (0.1, 0.2, 0.3)])
    assert batches == [3, 3]
    assert sorted(losses) == pytest.approx(sorted(found), rel=1e-12)
