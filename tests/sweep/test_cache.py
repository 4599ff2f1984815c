"""The cache of a sweep: what it tidies, and what it stores at the very end."""

import errno
import os
import time
from contextlib import closing

import pytest

from dmf_utils.sweep import cache as module, chunk_store
from dmf_utils.sweep.cache import ChunkCache, SweepWarning
from dmf_utils.sweep.run_parameters import chunks, complete_run

SMALL = {"rows": 4, "columns": 4, "rank": 1, "n_observed": 12, "method": "truth"}
CHUNKS = chunks([complete_run(SMALL | {"seed": seed}, seed) for seed in range(16)])
ROWS = [{"status": "reached", "error": 0.5}] * 8


def keep_all(kept):
    for chunk in CHUNKS:
        assert kept.take(chunk)
        kept.keep(chunk, ROWS)


def test_what_a_living_sweep_is_writing_stays(tmp_path):
    """Another one that begins meanwhile removes only what has lain there for an hour."""
    ages = {"new.part": 0, "minutes.part": 3500, "hours.part": 3700, "hours.parquet": 9999}
    for name, age in ages.items():
        (tmp_path / name).write_bytes(b"half")
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
    ChunkCache(tmp_path, {}).close()
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert left == {"new.part", "minutes.part", "hours.parquet"}


def test_a_disk_that_is_full_until_the_end_costs_nothing(tmp_path, monkeypatch):
    """What could not be stored on the way is stored when the cache is closed."""
    full = [True]
    write = chunk_store.write

    def write_unless_full(*arguments):
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*arguments)

    monkeypatch.setattr(module.chunk_store, "write", write_unless_full)
    kept = ChunkCache(tmp_path, {})
    with pytest.warns(SweepWarning, match="cannot be written.*No space left") as told:
        keep_all(kept)
    assert len(told) == 1
    assert list(tmp_path.glob("*.parquet")) == []
    full[0] = False
    kept.close()
    assert len(list(tmp_path.glob("*.parquet"))) == len(CHUNKS) == 2
    again = ChunkCache(tmp_path, {})
    assert [again.find(chunk) for chunk in CHUNKS] == [ROWS, ROWS]
    again.close()


def test_a_disk_that_stays_full_ends_quietly_and_is_told_once(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.chunk_store, "write", refuse)
    kept = ChunkCache(tmp_path, {})
    with pytest.warns(SweepWarning) as told:
        keep_all(kept)
    kept.close()
    assert len(told) == 1
    assert list(tmp_path.glob("*.par*")) == []


def test_what_was_found_is_found_again(tmp_path):
    with closing(ChunkCache(tmp_path, {})) as kept:
        keep_all(kept)
        assert [kept.find(CHUNKS[0]) for _ in range(2)] == [ROWS, ROWS]


def test_what_is_damaged_is_told_once(tmp_path):
    with closing(ChunkCache(tmp_path, {})) as kept:
        keep_all(kept)
        for path in tmp_path.glob("*.parquet"):
            path.write_bytes(b"")
        with pytest.warns(RuntimeWarning, match="is damaged") as told:
            assert [kept.find(CHUNKS[0]) for _ in range(2)] == [None, None]
        assert len(told) == 1
