"""Files of triplets: a line for each observed entry, with its row, its column and its value."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

__all__ = ["DELIMITERS", "NAMES", "Triplets", "listed", "read_triplets", "write_triplets"]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
NAMES = ("row", "column", "value")
_SHOWN = 5  # numbers that a remark lists


@dataclass(frozen=True)
class Triplets:
    """Distinct entries, with the names of their rows and columns, and what was remarkable."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_index: np.ndarray
    column_index: np.ndarray
    values: np.ndarray
    names: tuple[str, str, str]
    remarks: tuple[str, ...]


def read_triplets(path: Path, header: bool = True) -> Triplets:
    """Read a ``.csv`` or ``.tsv`` file, as `dmf_utils.user_data.matrix.read_matrix` says.

    Raises
    ------
    ValueError
        For a missing header, a line that is not a triplet, or one entry with two values: the
        message names the line.
    """
    return _Reader(path, DELIMITERS[path.suffix.lower()], header).triplets()


def write_triplets(
    file: IO[bytes],
    delimiter: str,
    names: Sequence[str],
    lines: Iterator[tuple[str, str, float, bool]],
) -> None:
    """Write row, column, value, and whether the entry was observed, 1 or 0, below a header."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    plain, quoted = (
        csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=quoting)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    rest = ([row, column, repr(value), str(int(seen))] for row, column, value, seen in lines)
    for fields in itertools.chain([[*names, "observed"]], rest):
        # Python's writer leaves a carriage return unquoted, and its reader ends a line there.
        (quoted if "\r" in "".join(fields) else plain).writerow(fields)
    text.detach()  # flushes, and leaves the file open


class _Reader:
    """The lines of a file of triplets, each checked as it is read."""

    def __init__(self, path: Path, delimiter: str, header: bool) -> None:
        self.name, self.delimiter, self.has_header = path.name, delimiter, header
        self.names: tuple[str, ...] = NAMES
        self.places = (0, 1, 2)
        self.entries: dict[tuple[str, str], tuple[float, int]] = {}
        self.repeated: list[int] = []
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            self.refuse(line, "is not text in UTF-8; save the file in that encoding")
        lines = self.lines(text)
        first = next(lines, None)
        if first is None:
            raise ValueError(f"{self.name}: is empty; give lines of row, column, value")
        if header:
            self.read_header(*first)
        else:
            self.read(*first)
        for number, fields in lines:
            self.read(number, fields)
        if not self.entries:
            raise ValueError(f"{self.name}: has a header and no entries; give some lines below it")

    def refuse(self, line: int, why: str) -> NoReturn:
        raise ValueError(f"{self.name}, line {line}: {why}")

    def lines(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Line numbers and fields, without empty lines."""
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter, strict=True)
        while True:
            number = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.refuse(number, f"cannot be read ({error}); look at its quotation marks")
            if any(field.strip() for field in fields):
                yield number, [field.strip() for field in fields]

    def read_header(self, number: int, fields: list[str]) -> None:
        self.check_length(number, fields)
        if _number(fields[2]) is not None:
            shown = self.delimiter.join(fields)[:60]
            self.refuse(
                number,
                f"{shown!r} is an entry, where a header is expected; put a first line such as "
                f"{self.delimiter.join(NAMES)!r} above it, or say that there is none: "
                "--no-header (header=False)",
            )
        lower = [field.lower() for field in fields]
        if set(NAMES) <= set(lower):
            self.places = tuple(lower.index(name) for name in NAMES)
        self.names = tuple(fields[place] for place in self.places)

    def check_length(self, number: int, fields: list[str]) -> None:
        if len(fields) > max(self.places):
            return
        kind, sign = ("tab", "\t") if self.delimiter == "\t" else ("comma", ",")
        other = {";": "semicolons", "\t": "tabs", ",": "commas"}
        others = [word for mark, word in other.items() if mark != sign and mark in fields[0]]
        hint = f"; it has {others[0]}: write {kind}s instead" if others else ""
        self.refuse(
            number,
            f"expected row, column and value parted by {kind}s, got {len(fields)} "
            f"{'field' if len(fields) == 1 else 'fields'}{hint}",
        )

    def read(self, number: int, fields: list[str]) -> None:
        self.check_length(number, fields)
        row, column, text = (fields[place] for place in self.places)
        for name, label in zip(self.names, (row, column), strict=False):
            if not label:
                self.refuse(number, f"the {name} is empty; name it, or remove the line")
        value = _number(text)
        if value is None:
            first = not self.has_header and not self.entries
            again = "; if this line is the header, drop --no-header" if first else ""
            self.refuse(
                number,
                f"the {self.names[2]} {text!r} is not a number; write one such as 3.5, or remove "
                f"the line if the entry is not known{again}",
            )
        if not math.isfinite(value):
            self.refuse(
                number,
                f"the {self.names[2]} {text!r} is not finite; remove the line if the entry is not "
                "known",
            )
        before = self.entries.setdefault((row, column), (value, number))
        if before[0] != value:
            raise ValueError(
                f"{self.name}, lines {before[1]} and {number}: two values, {before[0]:g} and "
                f"{value:g}, of the entry {row!r}, {column!r}; keep one"
            )
        if before[1] != number:
            self.repeated.append(number)

    def triplets(self) -> Triplets:
        rows, columns = (_ordered(names) for names in zip(*self.entries, strict=True))
        place = [{name: k for k, name in enumerate(names)} for names in (rows, columns)]
        remarks = ()
        if self.repeated:
            which = listed("line", self.repeated)
            remarks = (f"{self.name}, {which}: given before with the same value, counted once",)
        return Triplets(
            rows,
            columns,
            row_index=np.array([place[0][row] for row, _ in self.entries]),
            column_index=np.array([place[1][column] for _, column in self.entries]),
            values=np.array([value for value, _ in self.entries.values()]),
            names=self.names,
            remarks=remarks,
        )


def _number(text: str) -> float | None:
    """The number that `text` is, without Python's own underscores."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _ordered(names: tuple[str, ...]) -> tuple[str, ...]:
    distinct = list(dict.fromkeys(names))
    whole = all(re.fullmatch(r"[+-]?\d+", name) for name in distinct)
    return tuple(sorted(distinct, key=int) if whole else distinct)


def listed(of: str, numbers: list[int]) -> str:
    """Numbers as ``lines 3, 4, 5``, the first few of them."""
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"{of}{'s' if len(numbers) > 1 else ''} {shown}{more}"
