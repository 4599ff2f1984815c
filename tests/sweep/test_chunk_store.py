"""Stored chunks: what is read is what was written, to the bit, or is told and left out."""

import json
import math
import pickle
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dmf_utils.sweep import chunk_store

RUNS = [{"depth": 3, "norm": 1e-2, "seed": seed} for seed in range(3)]
ROWS = [
    {"status": "reached", "error": 1e-17, "gap": None, "n_gradients": 57, "seconds": 0.1},
    {"status": "diverged", "error": None, "gap": None, "n_gradients": 12, "seconds": 1 / 3},
    {"status": "step limit", "error": 5e-324, "gap": None, "n_gradients": 2**40, "seconds": 7.25},
]


@pytest.fixture
def stored(tmp_path):
    """The one file that holds `ROWS`."""
    chunk_store.write(tmp_path, RUNS, ROWS)
    (path,) = tmp_path.iterdir()
    return path


def read_damaged(folder):
    with pytest.warns(RuntimeWarning, match="is damaged") as told:
        assert chunk_store.read(folder, RUNS) is None
    assert len(told) == 1
    # Where the reader was called, not whoever called that.
    assert told[0].filename == __file__
    assert 0 < told[0].lineno - read_damaged.__code__.co_firstlineno < 4
    return str(told[0].message)


def test_nothing_stored_is_none_and_silent(tmp_path):
    assert chunk_store.read(tmp_path, RUNS) is None


def test_rows_come_back_to_the_bit(tmp_path, stored):
    found = chunk_store.read(tmp_path, RUNS)
    assert found == ROWS
    for row, written in zip(found, ROWS, strict=True):
        assert [type(v) for v in row.values()] == [type(v) for v in written.values()]


def test_not_a_number_and_infinity_come_back(tmp_path):
    rows = [{"loss": math.nan, "time": math.inf}, {"loss": -0.0, "time": -math.inf}]
    chunk_store.write(tmp_path, RUNS[:2], rows)
    first, second = chunk_store.read(tmp_path, RUNS[:2])
    assert math.isnan(first["loss"])
    assert first["time"] == math.inf
    assert math.copysign(1, second["loss"]) == -1
    assert second["time"] == -math.inf


def test_a_chunk_is_one_parquet_file_that_tells_its_runs(tmp_path, stored):
    assert stored.suffix == ".parquet"
    table = pq.read_table(stored)
    assert table.column("status").to_pylist() == [row["status"] for row in ROWS]
    assert json.loads(table.schema.metadata[b"runs"]) == RUNS


def test_writing_again_replaces_the_file(tmp_path, stored):
    other = [row | {"seconds": 9.0} for row in ROWS]
    chunk_store.write(tmp_path, RUNS, other)
    assert list(tmp_path.iterdir()) == [stored]
    assert chunk_store.read(tmp_path, RUNS) == other


@pytest.mark.parametrize(
    "other",
    [
        RUNS[:2],
        RUNS[::-1],
        [RUNS[0] | {"norm": math.nextafter(1e-2, 1)}, *RUNS[1:]],
        [RUNS[0] | {"depth": 2}, *RUNS[1:]],
        [RUNS[0] | {"depth": None}, *RUNS[1:]],
    ],
    ids=["fewer", "reversed", "norm one bit away", "depth", "none"],
)
def test_other_parameters_have_another_key(tmp_path, stored, other):
    assert chunk_store.read(tmp_path, other) is None
    chunk_store.write(tmp_path, other, ROWS[: len(other)])
    assert len(list(tmp_path.iterdir())) == 2


def test_the_order_of_names_plays_no_part(tmp_path, stored):
    assert chunk_store.read(tmp_path, [dict(reversed(run.items())) for run in RUNS]) == ROWS


def test_another_source_has_another_key(tmp_path, stored, monkeypatch):
    monkeypatch.setattr(chunk_store, "_SOURCE", "of another version")
    assert chunk_store.read(tmp_path, RUNS) is None


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 100, -200, -1])
def test_a_truncated_file_is_named(tmp_path, stored, kept):
    stored.write_bytes(stored.read_bytes()[:kept])
    assert str(stored) in read_damaged(tmp_path)


def test_no_flipped_bit_changes_a_number(tmp_path, stored):
    whole = stored.read_bytes()
    rng = np.random.default_rng(0)
    n_told = 0
    for place in rng.choice(len(whole), size=250, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        stored.write_bytes(flipped)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = chunk_store.read(tmp_path, RUNS)
        # A bit that nothing reads, such as one of a name of the writing library, may pass.
        assert found == ROWS if found is not None else len(told) == 1
        n_told += found is None
    assert n_told > 50


def test_text_that_is_no_text_any_more_is_told(tmp_path, stored):
    whole = bytearray(stored.read_bytes())
    whole[whole.index(b"diverged")] ^= 0x80  # not UTF-8
    stored.write_bytes(whole)
    assert str(stored) in read_damaged(tmp_path)


@pytest.mark.parametrize("column", ["error", "seconds", "n_gradients"])
def test_the_last_bit_of_a_number_is_guarded(tmp_path, stored, column):
    table = pq.read_table(stored)
    values = table.column(column).to_pylist()
    at = table.schema.get_field_index(column)
    pq.write_table(table.set_column(at, table.schema.field(at), [values]), stored)
    assert chunk_store.read(tmp_path, RUNS) == ROWS
    values[0] += 1 if column == "n_gradients" else math.ulp(values[0])
    pq.write_table(table.set_column(at, table.schema.field(at), [values]), stored)
    assert "checksum" in read_damaged(tmp_path)


def test_the_file_of_another_chunk_is_refused(tmp_path, stored):
    other = [run | {"seed": run["seed"] + 10} for run in RUNS]
    chunk_store.write(tmp_path, other, [row | {"error": 0.5} for row in ROWS])
    (foreign,) = set(tmp_path.iterdir()) - {stored}
    foreign.replace(stored)
    assert str(stored) in read_damaged(tmp_path)


def test_a_foreign_parquet_file_is_refused(tmp_path, stored):
    pq.write_table(pq.read_table(stored).replace_schema_metadata(None), stored)
    assert "checksum" in read_damaged(tmp_path)


class _Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_not_run(tmp_path, stored):
    planted = tmp_path / "planted"
    stored.write_bytes(pickle.dumps(_Planted(planted)))
    pickle.loads(stored.read_bytes())
    assert planted.exists()  # so it would be seen
    planted.unlink()
    read_damaged(tmp_path)
    assert not planted.exists()


def test_an_interrupted_write_leaves_what_was_there(tmp_path, stored, monkeypatch):
    write_table = pq.write_table

    def interrupted(table, path):
        write_table(table, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(chunk_store.pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chunk_store.write(tmp_path, RUNS, [row | {"error": 0.5} for row in ROWS])
    assert list(tmp_path.iterdir()) == [stored]
    assert chunk_store.read(tmp_path, RUNS) == ROWS


def test_what_is_being_written_is_not_read(tmp_path, monkeypatch):
    write_table = pq.write_table

    def seen_on_the_way(table, path):
        write_table(table, path)
        assert chunk_store.read(tmp_path, RUNS) is None

    monkeypatch.setattr(chunk_store.pq, "write_table", seen_on_the_way)
    chunk_store.write(tmp_path, RUNS, ROWS)
    assert chunk_store.read(tmp_path, RUNS) == ROWS
