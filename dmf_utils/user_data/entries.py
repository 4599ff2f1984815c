"""The observed entries in a table: their values, their names, and entries given several times."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from dmf_utils.user_data.columns import Layout, is_missing
from dmf_utils.user_data.text import MatrixFileError, Table, is_number, listed

__all__ = ["Duplicates", "Entries", "check_sentinels", "entries_of"]

Duplicates = Literal["error", "last", "mean"]

_SHOWN = 5  # examples that a message lists
_NINES = tuple(float("9" * digits) for digits in range(1, 9))
_LEAST = (-32768.0, -2147483648.0)  # whole numbers of 16 and 32 bits, where nothing is less
_SENTINELS = (0.0, -1.0, *_NINES, *(-mark for mark in _NINES), *_LEAST)
_SHORT = r"[+-]?(\d{1,15}(\.0*)?|\d{0,9}\.\d{1,6})"  # numbers that a double holds exactly enough
_LONGEST_SCALE = 20.0  # from the least to the largest rating


@dataclass(frozen=True)
class Entries:
    """Distinct observed entries, the names of their rows and columns, and what was remarkable."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_index: np.ndarray
    column_index: np.ndarray
    values: np.ndarray
    remarks: tuple[str, ...]


def entries_of(table: Table, layout: Layout, duplicates: Duplicates = "error") -> Entries:
    """The entries of a table that is read as `layout` says.

    Raises
    ------
    MatrixFileError
        For an empty name, a value that is no finite number, one name for two columns of a wide
        table, or, with ``duplicates="error"``, entries with several values: it names the lines.
    """
    if duplicates not in ("error", "last", "mean"):
        raise MatrixFileError(f"duplicates must be error, last or mean, got {duplicates!r}")
    found = (_wide if layout.kind == "wide" else _triplets)(table, layout, duplicates)
    twins = [_twins(table.name, of) for of in (found.rows, found.columns)]
    return replace(found, remarks=(*found.remarks, *filter(None, twins)))


def _values(table: Table, fields: Sequence[tuple[int, str]], name: str) -> np.ndarray:
    """Numbers of fields at positions; NaN where missing."""
    commas = [(at, field) for at, field in fields if "," in field]
    numbers = [field for _, field in fields if is_number(field)]
    if commas and all(is_number(field) for _, field in commas):
        at, field = commas[0]
        if any("." in number for number in numbers):
            table.refuse(at, f"the {name} {field!r} has a comma, others have a point; write points")
        if all(re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", field) for _, field in commas):
            table.refuse(
                at,
                f"cannot tell whether the comma in the {name} {field!r} parts thousands or marks "
                "decimals; write a point, or nothing",
            )
    values = np.full(len(fields), np.nan)
    for k, (at, field) in enumerate(fields):
        if is_number(field):
            values[k] = float(field.replace(",", "."))
            if math.isfinite(values[k]):
                continue
        elif is_missing(field):
            continue
        if field.lower().lstrip("+-") in ("inf", "infinity") or is_number(field):
            table.refuse(
                at,
                f"the {name} {field!r} is not finite; remove the line if the entry is not known",
            )
        table.refuse(
            at,
            f"the {name} {field!r} is not a number; write one such as 3.5, or leave it empty if it "
            "is not known",
        )
    return values


def _triplets(table: Table, layout: Layout, duplicates: Duplicates) -> Entries:
    body = table.lines[layout.first :]
    row, column, value = layout.places
    for name, place in zip(layout.names, (row, column), strict=False):
        # A word such as NA may be a name, but not among numbers.
        known = [line[place] for line in body if not is_missing(line[place])]
        are_numbers = bool(known) and all(map(is_number, known))
        for at, line in enumerate(body, start=layout.first):
            if not line[place] or (are_numbers and is_missing(line[place])):
                what = f"{line[place]!r} among numbers" if line[place] else "empty"
                table.refuse(
                    at,
                    f"the {name} is {what}; name it, or remove the line, or say --layout wide if "
                    "the file is the matrix itself",
                )
    fields = [(at, line[value]) for at, line in enumerate(body, start=layout.first)]
    values = _values(table, fields, layout.names[2])
    frame = pd.DataFrame(
        {
            "row": [line[row] for line in body],
            "column": [line[column] for line in body],
            "value": values,
            "line": table.numbers[layout.first :],
        }
    )
    remarks = []
    unknown = frame.line[frame.value.isna()]
    if len(unknown):
        which = listed(table.unit, unknown)
        remarks.append(f"{table.name}, {which}: without a value, taken as not known")
    frame, repeated = _once(table, frame[frame.value.notna()], duplicates)
    names, places = zip(*(_indexed(frame[axis]) for axis in ("row", "column")), strict=True)
    return Entries(*names, *places, frame.value.to_numpy(), (*remarks, *repeated))


def _twins(where: str, names: Sequence[str]) -> str:
    """What to say of names that differ only in how they are written, as 7, 07 and 7.0 do."""
    groups: dict[object, list[str]] = {}
    for name in names:
        plain = " ".join(unicodedata.normalize("NFKC", name).split()).casefold()
        groups.setdefault(float(plain) if re.fullmatch(_SHORT, plain) else plain, []).append(name)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return ""
    examples = "; ".join(" and ".join(map(repr, group[:3])) for group in alike[:_SHOWN])
    return (
        f"{where}: {sum(map(len, alike))} names differ only in how they are written ({examples}): "
        "they are taken as different; write each in one way if they are the same"
    )


def _once(
    table: Table, frame: pd.DataFrame, duplicates: Duplicates
) -> tuple[pd.DataFrame, list[str]]:
    """Every entry once, and what is to be said of those that were given several times."""
    if frame.empty:
        raise MatrixFileError(f"{table.name}: has no observed entry; give some")
    if not frame.duplicated(["row", "column"]).any():
        return frame, []
    again = frame[frame.duplicated(["row", "column"], keep=False)]
    groups = again.groupby(["row", "column"], sort=False)
    differ = groups.value.nunique() > 1
    unlike = int(differ.sum())
    if unlike == 0:
        which = listed(table.unit, again.line[again.duplicated(["row", "column"])])
        said = f"{table.name}, {which}: given before with the same value, counted once"
        return frame.drop_duplicates(["row", "column"]), [said]
    examples = []
    for key in differ.index[differ][:_SHOWN]:
        of_one = groups.get_group(key)
        pairs = zip(of_one.line[:_SHOWN], of_one.value[:_SHOWN], strict=True)
        shown = ", ".join(f"{value:g} in {table.unit} {line}" for line, value in pairs)
        examples.append(f"{key[0]!r}, {key[1]!r}: {shown}")
    more = f"; and {unlike - _SHOWN} more" if unlike > _SHOWN else ""
    what = f"{unlike} {'entry has' if unlike == 1 else 'entries have'} several values"
    if duplicates == "error":
        raise MatrixFileError(
            f"{table.name}: {what} ({'; '.join(examples)}{more}); keep one of each, or say which "
            "to take: --duplicates last or --duplicates mean"
        )
    said = f"{table.name}: {what}, of which the {duplicates} is taken ({'; '.join(examples)}{more})"
    if duplicates == "last":
        return frame.drop_duplicates(["row", "column"], keep="last"), [said]
    # A mean of halves cannot overflow.
    largest = frame.value.abs().max() or 1.0
    means = (frame.value / largest).groupby([frame.row, frame.column], sort=False).mean() * largest
    frame = frame.drop_duplicates(["row", "column"])
    keys = pd.MultiIndex.from_frame(frame[["row", "column"]])
    return frame.assign(value=means.reindex(keys).to_numpy()), [said]


def _wide(table: Table, layout: Layout, duplicates: Duplicates) -> Entries:
    body = table.lines[layout.first :]
    begin = len(layout.places)
    count = len(table.lines[0]) - begin
    rows = [line[0] for line in body] if begin else [str(k) for k in range(len(body))]
    columns = table.lines[0][begin:] if layout.first else [str(k) for k in range(count)]
    for at, row in enumerate(rows, start=layout.first):
        if not row:
            table.refuse(at, "the name of the row is empty; name it, or remove the line")
    for of, names in (("row", rows), ("column", columns)):
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise MatrixFileError(
                f"{table.name}: {len(twice)} {of} {'name stands' if len(twice) == 1 else 'names'} "
                f"more than once, such as {twice[0]!r}; a matrix needs distinct names"
            )
    fields = [(at, field) for at, line in enumerate(body, layout.first) for field in line[begin:]]
    values = _values(table, fields, "value").reshape(len(body), count)
    seen = ~np.isnan(values)
    if not seen.any():
        raise MatrixFileError(f"{table.name}: has no observed entry; give some")
    remarks, kept = [], []
    for axis, (of, names) in enumerate((("row", rows), ("column", columns))):
        kept.append(np.flatnonzero(seen.any(axis=1 - axis)))
        empty = [
            name for name, some in zip(names, seen.any(axis=1 - axis), strict=True) if not some
        ]
        if empty:
            remarks.append(f"{table.name}: {listed(of, empty)} without an observed entry: left out")
    part = values[np.ix_(*kept)]
    i, j = np.nonzero(~np.isnan(part))
    return Entries(
        tuple(rows[k] for k in kept[0]),
        tuple(columns[k] for k in kept[1]),
        i,
        j,
        part[i, j],
        tuple(remarks),
    )


def _indexed(names: pd.Series) -> tuple[tuple[str, ...], np.ndarray]:
    """Distinct names, whole numbers in their order, and the place of each given one."""
    codes, distinct = pd.factorize(names)
    if all(re.fullmatch(r"[+-]?\d{1,18}", name, re.ASCII) for name in distinct):
        order = np.argsort([int(name) for name in distinct], kind="stable")
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        return tuple(distinct[order]), places[codes]
    return tuple(distinct), codes


def check_sentinels(
    name: str,
    values: np.ndarray,
    missing: Sequence[float] | None,
    column_index: np.ndarray | None = None,
) -> np.ndarray:
    """Which entries are observed, once numbers that may stand for a missing one are asked about.

    Parameters
    ----------
    name : str
        Of the file.
    values : ndarray, shape (m,)
    missing : sequence of float, or None
        Values that mark a missing entry; empty if none does; None to ask where some may.
    column_index : ndarray of int, shape (m,), optional
        To look at each column by itself as well, where columns have their own units.

    Returns
    -------
    ndarray of bool, shape (m,)

    Raises
    ------
    MatrixFileError
        If a usual mark for what is missing lies apart from all other values.
    """
    if missing is not None:
        return ~np.isin(values, np.asarray(missing, dtype=float))
    suspect = {mark for mark in _SENTINELS if _lies_apart(mark, values)}
    groups = [] if column_index is None else pd.Series(values).groupby(column_index)
    for _, group in groups:
        of_one = group.to_numpy()
        suspect |= {m for m in _SENTINELS if abs(m) > 1 and _lies_apart(m, of_one)}
    if not suspect:
        return np.ones(len(values), dtype=bool)
    others = values[~np.isin(values, list(suspect))]
    counted = [f"{mark:.10g} ({int((values == mark).sum())} times)" for mark in sorted(suspect)]
    marks = ",".join(f"{mark:.10g}" for mark in sorted(suspect))
    raise MatrixFileError(
        f"{name}: beside values from {others.min():g} to {others.max():g} there is "
        f"{', '.join(counted)}: is that a value, or a mark for what is not known? Say "
        f"--missing none (missing=()) or --missing={marks}"
    )


def _lies_apart(mark: float, values: np.ndarray) -> bool:
    others = values[~np.isin(values, _SENTINELS)]
    distinct = np.unique(others)
    if len(distinct) < 3 or not (values == mark).any():
        return False
    low, high = distinct[0], distinct[-1]
    halves = np.all(distinct * 2 == np.round(distinct * 2))
    is_scale = high - low <= _LONGEST_SCALE and halves
    if abs(mark) <= 1:  # beside a scale such as 1 to 5
        return bool(is_scale and mark < low and low > 0)
    room = (high - low) / (2 if is_scale else 1)
    return not low - room <= mark <= high + room
