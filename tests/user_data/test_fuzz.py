"""Whatever is in a file, only the error of the readers leaves them, and what is written is read."""

from __future__ import annotations

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from dmf_utils.user_data.columns import find_layout, is_missing
from dmf_utils.user_data.entries import entries_of
from dmf_utils.user_data.reading import read_matrix
from dmf_utils.user_data.text import MatrixFileError, read_text
from dmf_utils.user_data.writing import guarded, write_triplets

ALIKE = {"derandomize": True, "database": None, "deadline": None}
names = st.one_of(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
    ),
    st.text("0123456789+-=@'", min_size=1, max_size=4),
).filter(lambda name: name == name.strip() and not is_missing(name))  # refused among numbers
fields = st.one_of(
    st.sampled_from(
        ["", "NA", "?", "1", "2.5", "3,5", "-999", "nan", "1e400", "user", "item", '"', "rating"]
    ),
    st.text(max_size=4),
    st.floats().map(repr),
)
delimiters = st.sampled_from([",", ";", "\t", "::", " ", "|"])


def read(content: bytes, suffix: str, **options) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "own" + suffix)
        path.write_bytes(content)
        with contextlib.suppress(MatrixFileError):
            data = read_matrix(path, **options)
            assert np.isfinite(data.values).all()
            places = zip(data.row_index.tolist(), data.column_index.tolist(), strict=True)
            assert len(set(places)) == len(data.values)
            assert data.row_index.max() == len(data.rows) - 1
            assert data.column_index.max() == len(data.columns) - 1


@settings(max_examples=250, **ALIKE)
@given(
    st.lists(st.lists(fields, min_size=1, max_size=5), max_size=8),
    delimiters,
    st.sampled_from(["", ".csv", ".tsv", ".txt"]),
    st.sampled_from(["auto", "triplets", "wide"]),
    st.sampled_from(["error", "last", "mean"]),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, (), (0.0,)]),
)
def test_tables_of_anything(lines, delimiter, suffix, layout, duplicates, header, missing) -> None:
    text = "\n".join(delimiter.join(line) for line in lines)
    options = {"layout": layout, "duplicates": duplicates, "header": header, "missing": missing}
    read(text.encode("utf-8", "surrogatepass"), suffix, **options)


@settings(max_examples=150, **ALIKE)
@given(
    st.binary(max_size=60), st.sampled_from([".csv", ".npy", ".npz", ".mtx", ".parquet", ".data"])
)
@example(b"\xff\xfe\x00", ".csv")
@example(b"%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n4\n", ".mtx")
def test_files_of_anything(content: bytes, suffix: str) -> None:
    read(content, suffix)


@settings(max_examples=100, **ALIKE)
@given(
    st.dictionaries(
        st.tuples(names, names),
        st.floats(allow_nan=False, allow_infinity=False),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([(".csv", ","), (".tsv", "\t")]),
)
@example({("1", "+-5"): 1.0}, (".csv", ","))  # looks like a number, and is none
@example({("1", "a\rb"): 1.0}, (".csv", ","))  # a carriage return, which ends a line elsewhere
@example({("=a", "b"): 1.0, ("'=a", "b"): 2.0}, (".csv", ","))
def test_triplets_that_were_written_are_read_again(entries, kind) -> None:
    """Whatever rows and columns are called, and to the last bit of every number."""
    suffix, delimiter = kind
    with TemporaryDirectory() as folder:
        path = Path(folder, "entries" + suffix)
        with path.open("wb") as file:
            lines = ((*place, value, True) for place, value in entries.items())
            write_triplets(file, delimiter, ("row", "column", "value"), lines)
        table = read_text(path)
        found = entries_of(table, find_layout(table))
    places = zip(found.row_index, found.column_index, strict=True)
    named = [(found.rows[i], found.columns[j]) for i, j in places]
    expected = {(guarded(row), guarded(column)): y for (row, column), y in entries.items()}
    assert dict(zip(named, found.values.tolist(), strict=True)) == expected
    assert len(named) == len(entries)


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@x", "-1-1"])
def test_a_name_like_a_formula_stands_behind_an_apostrophe(name: str) -> None:
    assert guarded(name) == f"'{name}"
    assert guarded(guarded(name)) != guarded(name)


@pytest.mark.parametrize("name", ["-3", "+2.5", "-1e5", "a=b", "plain", "'tis"])
def test_other_names_stay(name: str) -> None:
    assert guarded(name) == name
