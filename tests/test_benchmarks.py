"""The authors' loop that the speeds are compared with is theirs, and the measuring measures."""

import mmap
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import growth, scaling, speed
from benchmarks.authors import DeepFactorization, train
from dmf_utils.factorization.initialization import gaussian
from dmf_utils.factorization.product import factor_gradients, product_matrix
from dmf_utils.flow.batch import prepare
from dmf_utils.flow.descent import gradient_descent
from dmf_utils.flow.trajectory import Status
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.sweep.cost import least_seconds


def distance(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.fixture(params=[(6, 6), (5, 8)], ids=["square", "wide"])
def problem(request):
    return MatrixCompletion.random(request.param, 1, 20, seed=2)


# --- the authors' loop ----------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_module_is_the_product_and_its_gradient(problem, depth):
    factors = gaussian(norm=1.0, seed=1).factors(problem.shape, depth)
    module = DeepFactorization(factors)
    W = module()
    assert W.dtype == torch.float32
    assert distance(W.detach(), product_matrix(factors)) < 1e-6
    observed = problem.mask
    loss = (W - problem.values.float())[observed].square().mean()
    found = torch.autograd.grad(loss, list(module.parameters()))
    expected = factor_gradients(factors, problem.gradient(product_matrix(factors)))
    assert len(found) == depth
    for G, exact in zip(found, expected, strict=True):
        assert distance(G, exact) < 3e-6


@pytest.mark.parametrize("depth", [2, 3])
def test_loop_agrees_with_normalized_descent_step_for_step(problem, depth):
    factors = gaussian(norm=0.5, seed=1).factors(problem.shape, depth)
    start = product_matrix(factors)
    for steps in (1, 2, 3, 10, 100):
        loop = train(problem, factors, 1e-2, until_loss=1e-30, max_steps=steps)
        assert loop.n_steps == steps
        with pytest.warns(RuntimeWarning, match="step limit"):
            run = gradient_descent(
                problem,
                start=factors,
                until_loss=1e-30,
                learning_rate=1e-2,
                normalized=True,
                max_steps=steps,
                dtype=torch.float32,
            )
        # Of what was moved: the start would agree by itself.
        moved = float((run.product.double() - start).norm())
        assert moved > 1e-3
        eps = float(np.finfo(np.float32).eps)
        away = float((loop.product - run.product.double()).norm())
        assert away < 4 * eps * steps**0.5 * float(start.norm())


def test_first_step_has_the_length_of_the_learning_rate(problem):
    factors = gaussian(norm=1.0, seed=1).factors(problem.shape, 1)
    loop = train(problem, factors, 1e-2, until_loss=1e-30, max_steps=1)
    size = float(problem.gradient(factors[0]).norm())
    length = float((loop.product - factors[0].float()).norm())
    assert length == pytest.approx(1e-2 * size / (size + 1e-4), rel=1e-5)


def test_loop_ends_at_the_asked_loss(problem):
    factors = gaussian(norm=0.5, seed=1).factors(problem.shape, 2)
    loop = train(problem, factors, 1e-2, until_loss=1e-2)
    run = gradient_descent(
        problem,
        start=factors,
        until_loss=1e-2,
        learning_rate=1e-2,
        normalized=True,
        dtype=torch.float32,
    )
    assert run.status is Status.reached
    assert loop.n_steps == run.n_gradients  # it makes the step of its last gradient
    assert loop.loss == pytest.approx(run.loss, rel=1e-4)
    assert loop.loss <= 1e-2
    assert loop.product.dtype == torch.float64
    assert loop.seconds > 0


def test_loop_leaves_the_start_as_it_was(problem):
    factors = [W.float() for W in gaussian(norm=0.5, seed=1).factors(problem.shape, 2)]
    before = [W.clone() for W in factors]
    train(problem, factors, 1e-2, max_steps=3)
    assert all(torch.equal(W, V) for W, V in zip(factors, before, strict=True))


# --- measuring ------------------------------------------------------------------------------------


def test_seconds_are_the_least_time_of_one_call():
    calls = []

    def work():
        calls.append(time.perf_counter())
        time.sleep(0.02 if len(calls) == 3 else 0.06)  # neither the first nor the last

    assert 0.02 <= least_seconds(work, 0.2) < 0.06
    assert len(calls) >= 4


@pytest.mark.parametrize(("n", "depth", "batch"), [(8, 2, 1), (8, 3, 2), (6, 4, 1)])
def test_gradient_seconds_are_positive_and_of_one_factorization(n, depth, batch, monkeypatch):
    assert scaling._gradient_seconds(n, depth, batch) > 0
    monkeypatch.setattr(scaling, "least_seconds", lambda work, _: work() is None or 6.0)
    assert scaling._gradient_seconds(n, depth, batch) == 6.0 / batch


def test_a_line_names_each_value_and_its_milliseconds(monkeypatch):
    monkeypatch.setattr(scaling, "_gradient_seconds", lambda n, depth, batch: n * depth * batch)
    assert scaling._line((2, 3), lambda n: (n, 3, 5)) == "2: 30000.000, 3: 45000.000"


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_a_gradient_costs_the_products_it_is_charged_with(depth):
    n, batch = 12, 3
    problem = MatrixCompletion.random((n, n), 1, 50, 0)
    starts = [gaussian(1e-2, seed) for seed in range(batch)]
    made, states, _ = prepare(problem, depth, starts, None, "cpu", torch.float64)
    counter = FlopCounterMode(display=False)
    with counter:
        made.gradient(states, out=torch.empty_like(states))
    assert counter.get_total_flops() == (3 * depth - 3) * 2 * n**3 * batch


def _peaks() -> tuple[int, int]:
    """Peaks with memory that came and went, and after it, of a process that does nothing else."""

    def until(seen, least):
        end = time.monotonic() + 60
        while seen.peak <= least:
            assert time.monotonic() < end, f"no sample above {least} bytes"
            time.sleep(0.01)

    with speed._PeakMemory() as memory:
        until(memory, 0)
        before = memory.peak
        held = mmap.mmap(-1, 60 * 2**20)  # of the system itself: an allocator may have had it
        np.frombuffer(held, dtype=np.uint8).fill(1)
        until(memory, before + 40 * 2**20)
        held.close()
        time.sleep(0.3)  # for samples without it
    with speed._PeakMemory() as after:
        until(after, 0)
    return memory.peak, after.peak


def test_memory_is_the_peak_not_the_end():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        peak, after = process.submit(_peaks).result()
    assert peak - after > 40 * 2**20


def test_growth_counts_its_own_memory_whatever_its_parent_took():
    large = np.ones(2**29, dtype=np.uint8)  # more than the child will ever hold
    spawn = multiprocessing.get_context("spawn")
    costs = []
    for n in (50, 200):
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            costs.append(process.submit(growth.cost, n, 2).result())
    assert costs[1].mebibytes > costs[0].mebibytes + 10 * 200**2 * 8 / 2**20
    assert large[-1] == 1


def test_command_says_what_it_does():
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "benchmarks", "--help"]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "--short" in told.stdout
