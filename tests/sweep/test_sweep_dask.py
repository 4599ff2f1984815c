"""Sweeps on a Dask cluster: a scheduler and workers of their own, on loopback, killed at will."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pretended_chunks
import pytest
from pretended_chunks import noted

pytest.importorskip("distributed", reason="Dask is not installed: `pip install '.[dask]'`")

from dmf_utils.cli.main import main
from dmf_utils.sweep import table as module
from dmf_utils.sweep.cache import SweepWarning
from dmf_utils.sweep.cluster import Cluster
from dmf_utils.sweep.table import grid, sweep

pytestmark = pytest.mark.xdist_group("cluster")  # one process starts the machines

ROOT = Path(module.__file__).parents[2]
SMALL = {"rows": 6, "columns": 5, "rank": 1, "n_observed": 20}
RUNS = [
    *grid(**SMALL, depth=[2, 3], norm=[1e-1, 1e-2], seed=range(6)),
    *grid(**SMALL, problem="sensing", depth=2, norm=[1e-1, 1e-2, 1e-3], seed=[0, 1]),
    *grid(**SMALL, method=["min_nuclear_norm", "truth"]),
]
PRETENDED = grid(rows=4, columns=4, rank=1, n_observed=12, method="truth", seed=range(48))
FIRSTS = [0, 8, 16, 24, 32, 40]


class Machines:
    """A scheduler at one address, and workers."""

    def __init__(self, folder):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.address, self.folder = f"tcp://127.0.0.1:{self.port}", folder
        self.workers = []
        self.scheduler = None

    def start(self, workers):
        if self.scheduler is None:
            self.scheduler = self._begin("dask_scheduler", "--port", str(self.port), "--no-show")
        for _ in range(workers):
            options = ["--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder)]
            self.workers.append(self._begin("dask_worker", self.address, *options))

    def _begin(self, program, *options):
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = os.environ | {"PYTHONPATH": paths, "PRETENDED_CHUNKS": str(self.folder)}
        environment["PRETENDED_SECONDS"] = "0.5"
        common = ["--host", "127.0.0.1", "--no-dashboard"]
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{program}", *options, *common],
            env=environment,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def kill_scheduler(self):
        self.scheduler.kill()
        self.scheduler.wait()
        self.scheduler = None

    def stop(self):
        for process in [self.scheduler, *self.workers]:
            if process is not None:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    made = Machines(tmp_path_factory.mktemp("machines"))
    made.start(workers=2)
    yield made
    made.stop()


@pytest.fixture
def cluster(machines):
    with Cluster(machines.address, wait=60) as made:
        wait_for(lambda: made.n_workers == 2)
        yield made


@pytest.fixture
def pretended(machines, monkeypatch):
    """Chunks that take half a second and no numerics; nothing is written down of them yet."""
    monkeypatch.setenv("PRETENDED_CHUNKS", str(machines.folder))
    monkeypatch.setattr(module, "compute_chunk", pretended_chunks.compute)
    (machines.folder / "log").unlink(missing_ok=True)


def wait_for(condition, seconds=300):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def assert_whole(table):
    assert table.error.tolist() == [seed / 7 for seed in range(48)]


def begun():
    return sorted(first for first, _ in noted("begin"))


def test_a_cluster_computes_the_same_to_the_last_bit(cluster, tmp_path):
    there = sweep(RUNS, executor=cluster, cache=tmp_path, progress=False)
    here = sweep(RUNS, workers=1, progress=False)
    pd.testing.assert_frame_equal(
        there.drop(columns="seconds"), here.drop(columns="seconds"), check_exact=True
    )


def test_dmf_sweep_computes_on_a_scheduler(machines, cluster, tmp_path, capfd):
    (tmp_path / "spec.yml").write_text(
        "{rows: 6, columns: 5, rank: 1, n_observed: 20, depth: [1, 2], seed: [0, 1, 2]}"
    )
    out = tmp_path / "table.parquet"
    options = ["sweep", str(tmp_path / "spec.yml"), "--out", str(out)]
    assert main([*options, "--scheduler", machines.address, "--wait", "30"]) == 0
    shown = capfd.readouterr()
    assert shown.out == f"6 runs: 6 reached\n{out}\n"
    assert f"scheduler at {machines.address}: 2 workers\n" in shown.err
    runs = grid(**SMALL, depth=[1, 2], seed=[0, 1, 2])
    here = sweep(runs, workers=1, progress=False)
    assert pd.read_parquet(out).error.tolist() == here.error.tolist()


def test_another_version_on_a_worker_is_refused(cluster, monkeypatch):
    monkeypatch.setattr("dmf_utils.sweep.scheduler.SOURCE", "of another version")
    with pytest.raises(RuntimeError, match="install the same on all machines"):
        sweep(RUNS[:1], executor=cluster, progress=False)


def test_a_killed_worker_costs_the_chunk_it_computed(machines, cluster, pretended, tmp_path):
    def kill_one():
        wait_for(lambda: len(noted("begin")) >= 3)
        time.sleep(0.25)  # in mid-chunk, with the one before it handed over
        os.kill(noted("begin")[2][1], signal.SIGKILL)
        machines.start(workers=1)

    killer = threading.Thread(target=kill_one)
    killer.start()
    table = sweep(PRETENDED, executor=cluster, cache=tmp_path, progress=False)
    killer.join()
    assert_whole(table)
    assert len(list(tmp_path.glob("*.parquet"))) == 6
    again = noted("begin")[2][0]
    assert begun() == sorted([*FIRSTS, again])
    assert sorted(first for first, _ in noted("end")) == FIRSTS


def test_a_scheduler_that_comes_back_gets_what_is_not_finished(
    machines, cluster, pretended, tmp_path
):
    stored = []

    def lose_and_restore():
        wait_for(lambda: len(list(tmp_path.glob("*.parquet"))) >= 2)
        machines.kill_scheduler()
        for worker in machines.workers:  # they end their chunk, and then themselves
            worker.wait(timeout=60)
        stored.extend(path.name for path in tmp_path.glob("*.parquet"))
        (machines.folder / "log").rename(machines.folder / "before")
        machines.start(workers=2)

    restorer = threading.Thread(target=lose_and_restore)
    restorer.start()
    with pytest.warns(SweepWarning) as told:
        table = sweep(PRETENDED, executor=cluster, cache=tmp_path, progress=False)
    restorer.join()
    assert_whole(table)
    message = str(told[0].message)
    missing = 6 - len(stored)
    assert message.startswith(f"sweep: {missing} chunks ({8 * missing} runs) lost, as the schedul")
    assert f"at {machines.address} went away; one answers there again" in message
    assert len(told) == 1
    assert len(begun()) == missing  # since then: nothing that was stored
    assert len(list(tmp_path.glob("*.parquet"))) == 6


def test_a_scheduler_that_stays_away_ends_the_sweep_and_keeps_what_is_finished(
    machines, pretended, tmp_path
):
    def lose():
        wait_for(lambda: len(list(tmp_path.glob("*.parquet"))) >= 2)
        machines.kill_scheduler()

    loser = threading.Thread(target=lose)
    with Cluster(machines.address, wait=2) as cluster:
        wait_for(lambda: cluster.n_workers == 2)
        loser.start()
        with pytest.raises(ConnectionError, match=r"no Dask scheduler answered at .* within 2 s"):
            sweep(PRETENDED, executor=cluster, cache=tmp_path, progress=False)
    loser.join()
    kept = len(list(tmp_path.glob("*.parquet")))
    assert 2 <= kept < 6
    (machines.folder / "log").unlink()
    assert_whole(sweep(PRETENDED, workers=1, cache=tmp_path, progress=False))
    assert len(begun()) == 6 - kept


def test_no_scheduler_is_one_line(tmp_path, capfd):
    (tmp_path / "spec.yml").write_text("{rows: 4, columns: 4, rank: 1, n_observed: 12}")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        options = ["sweep", str(tmp_path / "spec.yml"), "--out", str(tmp_path / "t.parquet")]
        assert main([*options, "--scheduler", address, "--wait", "1"]) == 1
    told = capfd.readouterr().err
    assert f"dmf: no Dask scheduler answered at '{address}' within 1 s" in told
    assert "Traceback" not in told


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[dask\]'"):
        Cluster("tcp://127.0.0.1:8786")
    with suppress(KeyError):
        del sys.modules["distributed"]
