"""Sweeps under fire, with real processes: what is lost, what is computed again, what is said.

Each test counts the chunks that began and ended, wherever that was.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pretended_chunks
import psutil
import pytest
from pretended_chunks import noted

from dmf_utils.sweep import table as module
from dmf_utils.sweep.cache import SweepWarning
from dmf_utils.sweep.table import grid, sweep

ROOT = Path(module.__file__).parents[2]
SMALL = {"rows": 4, "columns": 4, "rank": 1, "n_observed": 12}
RUNS = grid(**SMALL, method="truth", seed=range(48))
FIRSTS = [0, 8, 16, 24, 32, 40]  # first seeds of the six chunks


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """A folder in which chunks that take no time write down that they were computed."""
    monkeypatch.setenv("PRETENDED_CHUNKS", str(tmp_path))
    monkeypatch.setattr(module, "compute_chunk", pretended_chunks.compute)
    return tmp_path


def swept(cache, **options):
    return sweep(RUNS, **({"workers": 2, "progress": False, "cache": cache} | options))


def assert_whole(table):
    assert table.error.tolist() == [seed / 7 for seed in range(48)]
    assert (table.status == "reached").all()


def files(cache):
    """Each chunk's file, and which one it is."""
    return {path.name: path.stat().st_ino for path in cache.glob("*.parquet")}


def wait_for(condition, seconds=300):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def living(group):
    """Processes of a group that live on a while after its end."""
    until = time.monotonic() + 60
    while True:
        left = []
        for one in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(one.pid) == group and one.status() != psutil.STATUS_ZOMBIE:
                    left.append(one)
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.05)


# --- workers --------------------------------------------------------------------------------------


def test_a_killed_worker_costs_the_chunk_it_computed(pretended, monkeypatch):
    monkeypatch.setenv("PRETENDED_SECONDS", "0.5")
    killed = []

    def kill_the_third():
        wait_for(lambda: len(noted("begin")) >= 3)
        killed.append(noted("begin")[2])
        os.kill(killed[0][1], signal.SIGKILL)

    killer = threading.Thread(target=kill_the_third)
    killer.start()
    with pytest.warns(SweepWarning, match="lost") as told:
        table = swept(pretended / "cache")
    killer.join()
    assert_whole(table)
    begun, ended = [[first for first, _ in noted(what)] for what in ("begin", "end")]
    assert sorted(ended) == FIRSTS  # none twice
    assert sorted(begun) == sorted([*FIRSTS, killed[0][0]])  # the one that was lost
    assert len(told) == 1
    assert "sweep: 1 chunk (8 runs) lost, as the process died" in str(told[0].message)
    assert len(files(pretended / "cache")) == 6


def test_a_chunk_that_kills_every_worker_ends_the_sweep_and_is_named(pretended):
    (pretended / "die-13").touch()
    with pytest.warns(SweepWarning) as told, pytest.raises(RuntimeError) as caught:
        swept(pretended / "cache")
    message = str(caught.value)
    assert "3 processes died, one after the other, while they computed the same chunk" in message
    assert "of 8 runs, the first of which is run 8: {" in message
    assert len(told) == 2  # the third time it is the error
    assert [first for first, _ in noted("begin")].count(8) == 3
    kept = files(pretended / "cache")
    others = [first for first, _ in noted("end")]
    assert len(kept) == len(others) == len(set(others))
    # And once the cause is gone, only what is missing is computed.
    (pretended / "die-13").unlink()
    (pretended / "log").unlink()
    assert_whole(swept(pretended / "cache", workers=1))
    assert sorted([*others, *(first for first, _ in noted("end"))]) == FIRSTS
    assert kept.items() <= files(pretended / "cache").items()


def test_an_exception_in_a_worker_names_its_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PRETENDED_CHUNKS", str(tmp_path / "missing"))
    monkeypatch.setattr(module, "compute_chunk", pretended_chunks.compute)
    with pytest.raises(FileNotFoundError) as caught:
        swept(tmp_path / "cache", workers=1)
    assert "a chunk of 8 runs, the first of which is run 0: {'problem'" in caught.value.__notes__[0]


# --- the driver -----------------------------------------------------------------------------------

SCRIPT = """
import sys
from dmf_utils.sweep import table as module
import pretended_chunks

if __name__ == "__main__":
    module.compute_chunk = pretended_chunks.compute
    small = {"rows": 4, "columns": 4, "rank": 1, "n_observed": 12}
    runs = module.grid(**small, method="truth", seed=range(48))
    table = module.sweep(runs, workers=int(sys.argv[2]), cache=sys.argv[1], progress=False)
    table.to_csv(sys.stdout)
"""


def driver(folder, workers, seconds):
    """A sweep in a process of its own."""
    script = folder / "driver.py"
    script.write_text(SCRIPT)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": paths, "PRETENDED_SECONDS": str(seconds)}
    command = [sys.executable, script, folder / "cache", str(workers)]
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.PIPE, text=True
    )


def test_a_killed_driver_takes_its_workers_along_and_what_it_finished_is_kept(pretended):
    process = driver(pretended, workers=2, seconds=1)
    cache = pretended / "cache"
    wait_for(lambda: len(files(cache)) >= 2 and len(noted("begin")) > len(noted("end")))
    process.kill()
    process.communicate()
    assert living(process.pid) == []
    kept, begun = files(cache), len(noted("begin"))
    assert 2 <= len(kept) < 6
    assert begun <= len(kept) + 2  # what was under way is lost, one chunk a worker
    assert_whole(swept(cache, workers=1))
    assert len(noted("begin")) - begun == 6 - len(kept)  # only what was missing
    assert kept.items() <= files(cache).items()  # untouched
    assert len(files(cache)) == 6


def test_a_sweep_takes_over_from_another_one_that_is_killed(pretended):
    slow = driver(pretended, workers=1, seconds=600)  # begins its first chunk, and holds it
    try:
        wait_for(lambda: noted("begin"))
        other = driver(pretended, workers=1, seconds=0)
        try:
            wait_for(lambda: len(files(pretended / "cache")) == 5)
            time.sleep(1)
            assert other.poll() is None  # it waits for the chunk that is under way
            assert len(noted("begin")) == 6
            slow.kill()
            told, _ = other.communicate(timeout=300)
        finally:
            other.kill()
    finally:
        slow.kill()
        slow.communicate()
    assert other.returncode == 0
    assert told.count("reached") == 48
    assert sorted(first for first, _ in noted("end")) == FIRSTS
    assert len(noted("begin")) == 7  # the one that was lost, again
    assert len(files(pretended / "cache")) == 6


def test_two_sweeps_at_once_compute_no_chunk_twice(pretended):
    drivers = [driver(pretended, workers=1, seconds=0.3) for _ in range(2)]
    tables = [process.communicate(timeout=300)[0] for process in drivers]
    assert [process.returncode for process in drivers] == [0, 0]
    assert tables[0] == tables[1]
    assert tables[0].count("reached") == 48
    assert sorted(first for first, _ in noted("end")) == FIRSTS
    assert len(noted("begin")) == 6
    assert len({process for _, process in noted("end")}) == 2  # both did some


# The chunk of depth 3 takes no time; those of depth 2 take hours.
ENDLESS = """
{rows: 6, columns: 5, rank: 1, n_observed: 20, method: descent, until_loss: 1e-30, grids: [
  {depth: 3, max_steps: 5},
  {depth: 2, max_steps: 1000000000, learning_rate: [1e-12, 2e-12, 3e-12, 4e-12]}]}
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_dmf_sweep_at_once_and_says_how_to_go_on(tmp_path, number):
    (tmp_path / "spec.yml").write_text(ENDLESS)
    program = (
        # What a shell starts in the background ignores Ctrl-C; this is to be in the foreground.
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from dmf_utils.cli.main import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "sweep", "spec.yml", "--out", "t.parquet"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        cwd=tmp_path, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    cache = tmp_path / "t.parquet.chunks"
    try:
        wait_for(lambda: files(cache))
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.terminate()
        begin = time.monotonic()
        _, told = process.communicate(timeout=300)
        assert time.monotonic() - begin < 200  # the chunk would take hours
    finally:
        left = living(process.pid)
        for one in left:
            one.kill()
    assert left == []
    assert process.returncode == 130
    assert "Traceback" not in told
    last = told.strip().splitlines()[-1]
    assert last == (
        "dmf: interrupted; what was finished is kept in t.parquet.chunks. Go on with: "
        "dmf sweep spec.yml --out t.parquet --workers 2"
    )
    assert len(files(cache)) == 1
    assert not (tmp_path / "t.parquet").exists()


# --- the disk -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB that is full."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here: that needs root")
    with suppress(OSError), (place / "filling").open("wb") as file:
        while True:
            file.write(b"0" * 1024)
            file.flush()
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_loses_nothing(pretended, small_disk):
    with pytest.warns(SweepWarning) as told:
        table = swept(small_disk, workers=1)
    assert_whole(table)
    assert len(noted("end")) == 6
    assert len(told) == 1
    assert str(small_disk) in str(told[0].message)
    assert "No space left on device" in str(told[0].message)
    assert files(small_disk) == {}
    assert list(small_disk.glob("*.part")) == []
    # As soon as there is room, the same call stores what it computes.
    (small_disk / "filling").unlink()
    assert_whole(swept(small_disk, workers=1))
    assert len(noted("end")) == 12
    assert_whole(swept(small_disk, workers=1))
    assert len(noted("end")) == 12


# --- runs that fail -------------------------------------------------------------------------------


def test_one_run_that_diverges_among_hundreds_leaves_the_others_as_they_are():
    common = SMALL | {"depth": 2, "until_loss": 1e-2}
    many = grid(**common, norm=0.3, seed=range(300))
    wild = common | {"norm": 1e200, "seed": 150}  # whose loss is beyond the largest number
    with pytest.warns(RuntimeWarning, match=r"1 of 301 runs .*'diverged': 1") as told:
        together = sweep([*many, wild], workers=1, progress=False)
    assert len(told) == 1
    assert together.status.tolist() == ["reached"] * 300 + ["diverged"]
    alone = sweep(many, workers=1, progress=False)
    assert alone.drop(columns="seconds").equals(together[:300].drop(columns="seconds"))
    assert json.loads(together[300:].to_json(orient="records"))[0]["error"] is None
