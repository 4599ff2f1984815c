"""Of two sweeps only one computes a chunk, and no lock outlives its owner."""

import os
import subprocess
import sys

import pytest

from dmf_utils._support.fingerprint import PACKAGE
from dmf_utils.sweep import chunk_locks
from dmf_utils.sweep.chunk_locks import ChunkLocks

pytestmark = pytest.mark.skipif(chunk_locks.fcntl is None, reason="no such locks on this system")
KEY, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
NEIGHBOUR = "0123456789abcdff" + KEY[16:]  # another place in the file, though it begins alike
ANOTHER = """
import pathlib, sys
from dmf_utils.sweep.chunk_locks import ChunkLocks
locks = ChunkLocks(pathlib.Path(sys.argv[1]))
print(*[locks.take(key) for key in sys.argv[2:]])
"""


def taken_by_another(folder, *keys):
    """Whether another process may have each, which it gives up when it ends."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", ANOTHER, str(folder), *keys]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [word == "True" for word in done.stdout.split()]


def test_what_one_has_another_does_not_get(tmp_path):
    locks = ChunkLocks(tmp_path)
    assert locks.take(KEY)
    assert locks.take(OTHER)
    assert taken_by_another(tmp_path, KEY, OTHER, NEIGHBOUR) == [False, False, True]
    locks.release(KEY)
    assert taken_by_another(tmp_path, KEY, OTHER) == [True, False]
    file = locks._file
    locks.close()
    assert taken_by_another(tmp_path, KEY, OTHER) == [True, True]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
    locks.close()  # once more does no harm
    assert locks.take(KEY)
    locks.release(KEY)


@pytest.mark.parametrize("error", [BlockingIOError, PermissionError])
def test_a_lock_that_is_refused_is_anothers(tmp_path, monkeypatch, error):
    def refuse(*_):
        raise error

    locks = ChunkLocks(tmp_path)
    monkeypatch.setattr(chunk_locks.fcntl, "lockf", refuse)
    assert locks.take(KEY) is False
    locks.close()


def test_where_there_are_no_locks_every_chunk_may_be_taken(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no locks available")

    locks = ChunkLocks(tmp_path)
    monkeypatch.setattr(chunk_locks.fcntl, "lockf", fail)
    assert locks.take(KEY) is True
    assert locks._file is None
    assert locks.take(KEY) is True
    locks.release(KEY)
    nowhere = ChunkLocks(tmp_path / "none")
    assert nowhere.take(KEY) is True
    nowhere.close()
