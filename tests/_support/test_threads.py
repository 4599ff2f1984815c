"""How many threads multiply: one for small products, whatever large ones may take."""

import os
import subprocess
import sys

import numpy as np
import pytest
import threadpoolctl
import torch

from dmf_utils import MatrixCompletion, gaussian, gradient_flow
from dmf_utils._support.machine import LARGE_VARIABLE, one_thread_environment
from dmf_utils._support.threads import SMALL, few_threads, numpy_library, one_thread, threads_for
from dmf_utils.flow.optimizers import train


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """A process that may use two, whatever this machine has."""
    monkeypatch.delenv(LARGE_VARIABLE, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2  # each limit was taken back
    torch.set_num_threads(before)


def test_small_products_take_one_thread_and_large_ones_all():
    with few_threads(SMALL - 1):
        assert torch.get_num_threads() == 1
    with few_threads(SMALL):
        assert torch.get_num_threads() == 2


def test_the_environment_says_how_many_multiply_large_ones(monkeypatch):
    monkeypatch.setenv(LARGE_VARIABLE, "3")
    with few_threads(SMALL):
        assert torch.get_num_threads() == 3
    with few_threads(10):
        assert torch.get_num_threads() == 1


def test_within_one_thread_nothing_takes_more(monkeypatch):
    monkeypatch.setenv(LARGE_VARIABLE, "3")
    with one_thread():
        with few_threads(10 * SMALL):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    with few_threads(10 * SMALL):  # no longer
        assert torch.get_num_threads() == 3


def test_within_one_thread_numpy_takes_no_more():
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpoolctl.threadpool_limits(2):
        with one_thread():
            assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} != {1}


def test_small_products_of_numpy_take_one_thread_too(monkeypatch):
    library = numpy_library()
    if library is None:
        pytest.skip("numpy has another library than OpenBLAS here")
    with threadpoolctl.threadpool_limits(2):
        with few_threads(SMALL - 1):
            assert library.num_threads == 1
        assert library.num_threads == 2
        with few_threads(SMALL):
            assert library.num_threads == 2
        monkeypatch.setenv(LARGE_VARIABLE, "1")
        with few_threads(SMALL):
            assert library.num_threads == 1
        assert library.num_threads == 2


def test_how_many_threads_there_will_be_is_known_before(monkeypatch):
    assert [threads_for(size) for size in (1, SMALL - 1, SMALL)] == [1, 1, 2]
    monkeypatch.setenv(LARGE_VARIABLE, "3")
    assert threads_for(SMALL) == 3
    with one_thread():
        assert threads_for(SMALL) == 1


def test_a_failure_takes_the_limits_back():
    for limit in (one_thread(), few_threads(2)):
        with pytest.raises(KeyError), limit:
            raise KeyError


def test_a_process_with_the_environment_starts_with_one_thread():
    code = (
        "import torch, numpy, threadpoolctl\n"
        "from dmf_utils._support.threads import few_threads\n"
        "counts = {pool['num_threads'] for pool in threadpoolctl.threadpool_info()}\n"
        "with few_threads(1000): large = torch.get_num_threads()\n"
        "print(torch.get_num_threads(), *counts, large)"
    )
    environment = os.environ | one_thread_environment() | {LARGE_VARIABLE: "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1", "2"]


def test_the_environment_keeps_what_the_user_set(monkeypatch):
    monkeypatch.setenv(LARGE_VARIABLE, "5")
    assert one_thread_environment()[LARGE_VARIABLE] == "5"
    monkeypatch.delenv(LARGE_VARIABLE)
    assert int(one_thread_environment()[LARGE_VARIABLE]) >= 1


@pytest.mark.parametrize("share", ["two", "0", "-1", "1.5", "½"])
def test_a_share_that_is_no_number_of_processors_is_refused(monkeypatch, share):
    monkeypatch.setenv(LARGE_VARIABLE, share)
    problem = MatrixCompletion.random((6, 6), 1, 20, seed=0)
    for call in (one_thread_environment, lambda: gradient_flow(problem)):
        with pytest.raises(ValueError, match=f"DMF_THREADS: got '{share}', must be a whole number"):
            call()


def test_training_with_another_optimizer_takes_one_thread(monkeypatch):
    seen = set()
    problem = MatrixCompletion.random((6, 6), 1, 20, seed=0)
    loss = type(problem).loss_and_gradient

    def counted(self, W):
        seen.add(torch.get_num_threads())
        return loss(self, W)

    monkeypatch.setattr(type(problem), "loss_and_gradient", counted)
    train(
        [problem],
        2,
        [gaussian(norm=1e-1, seed=0)],
        optimizer="adam",
        learning_rate=1e-3,
        max_steps=5,
    )
    assert seen == {1}


@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_threads_that_wait_sleep_unless_one_says_otherwise(own):
    environment = {name: os.environ[name] for name in os.environ if name != "OMP_WAIT_POLICY"}
    if own is not None:
        environment["OMP_WAIT_POLICY"] = own
    # What the library of threads shows when it is loaded is what it took from the environment.
    code = "import dmf_utils, torch; assert 'gradient_flow' in dir(dmf_utils)"
    shown = environment | {"OMP_DISPLAY_ENV": "true"}
    asked = subprocess.run([sys.executable, "-c", code], env=shown, capture_output=True, text=True)
    assert asked.returncode == 0
    if "OMP_WAIT_POLICY" not in asked.stderr:
        pytest.skip("torch was built with another library of threads")
    assert f"OMP_WAIT_POLICY = '{own or 'PASSIVE'}'" in asked.stderr
