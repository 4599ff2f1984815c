"""What the columns of a table are: names of rows and columns with a value, or a matrix itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from dmf_utils.user_data.text import MatrixFileError, Table, is_number

__all__ = ["MISSING_WORDS", "Layout", "LayoutChoice", "find_layout", "is_missing"]

LayoutChoice = Literal["auto", "triplets", "wide"]

NAMES = ("row", "column", "value")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MISSING_WORDS = _words("nan na n/a #n/a <na> null none nil ? - -- . missing")  # and nothing at all
# Names as `_plain` writes them, of the three columns of a list of ratings or measurements.
_ROW = _words(
    "row rows i user users person member customer client reviewer reader viewer listener student "
    "patient subject sample cell participant respondent rater judge author"
)
_COLUMN = _words(
    "column columns col j item items movie film product book isbn artist song track business "
    "restaurant recipe joke anime game course question feature variable gene keyword tag asin "
    "venue hotel beer"
)
_VALUE = _words(
    "value values val rating ratings rate score scores star stars grade mark count counts weight "
    "strength measurement response plays trust vote"
)
_IGNORED = _words("timestamp time date datetime index unnamed unixreviewtime reviewtime observed")
_ENDINGS = ("id", "ids", "idx", "index", "no", "number", "num", "name", "key", "code", "value")


@dataclass(frozen=True)
class Layout:
    """How a table is to be read.

    Attributes
    ----------
    kind : {"triplets", "wide"}
    first : int
        Position of the first line below the header: 0 or 1.
    places : tuple of int
        Of triplets, where row, column and value stand. Of a wide table, where the row's name
        stands, or nothing.
    names : (str, str, str)
        What the file calls a row, a column and a value.
    remarks : tuple of str
        Which columns were used, where that was not plain.
    """

    kind: Literal["triplets", "wide"]
    first: int
    places: tuple[int, ...]
    names: tuple[str, str, str] = NAMES
    remarks: tuple[str, ...] = ()


def is_missing(field: str) -> bool:
    """Whether a field says that nothing is known."""
    return field == "" or field.lower() in MISSING_WORDS


def find_layout(
    table: Table,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    layout: LayoutChoice = "auto",
) -> Layout:
    """Decide how a table is to be read; where it cannot be told, ask.

    Parameters
    ----------
    table : Table
    header : bool, optional
        Whether the first line names the columns; found out by default.
    columns : three str, optional
        Names, or numbers from 1, of the columns of row, column and value.
    layout : {"auto", "triplets", "wide"}

    Raises
    ------
    MatrixFileError
        If the columns asked for are not there, or it cannot be told what is what.
    """
    if layout not in ("auto", "triplets", "wide"):
        raise MatrixFileError(f"layout must be auto, triplets or wide, got {layout!r}")
    has_header = _has_header(table, header)
    if len(table.lines) == int(has_header):
        raise MatrixFileError(
            f"{table.name}: has a header and no entries; give some lines below it"
        )
    finder = _Finder(table, has_header)
    if columns is not None:
        return finder.asked(columns)
    if layout == "wide":
        return finder.wide()
    if layout == "triplets":
        return finder.triplets() or finder.refuse("cannot tell which columns hold what")
    return finder.guess()


def _plain(name: str) -> str:
    """A column's name without case, signs, and endings such as _id."""
    plain = re.sub(r"[^a-z0-9]", "", re.sub(r"^unnamed.*", "unnamed", name.lower()))
    known = _ROW | _COLUMN | _VALUE | _IGNORED
    for ending in () if plain in known else _ENDINGS:
        if plain.endswith(ending) and plain.removesuffix(ending) in known:
            return plain.removesuffix(ending)
    return plain


def _has_header(table: Table, asked: bool | None) -> bool:
    if table.has_header is not None:
        return table.has_header
    first = table.lines[0]
    numbers = [is_number(field) for field in first]
    blank = [is_missing(field) for field in first]
    if asked is not None:
        return asked
    if not any(numbers):
        return True
    if all(number or unknown for number, unknown in zip(numbers, blank, strict=True)):
        # Names of columns that are numbers stand beside an empty corner.
        return first[0] == "" and all(numbers[1:]) and len(set(first)) == len(first)
    if _plain(first[0]) in _ROW | {"id", "name"}:
        return True
    if 3 <= len(first) <= 4 and numbers[2] and not _may_be_years(table):
        return False
    table.refuse(0, "cannot tell whether this line names the columns; say --header or --no-header")


def _may_be_years(table: Table) -> bool:
    """Whether line 1 may name columns by numbers: below it, each row has one line only."""
    names = [line[0] for line in table.lines]
    return all(map(is_number, table.lines[0][1:])) and len(set(names)) == len(names)


class _Finder:
    """What the columns of one table are."""

    def __init__(self, table: Table, has_header: bool) -> None:
        self.table, self.first = table, int(has_header)
        self.width = len(table.lines[0])
        self.header = table.lines[0] if has_header else [""] * self.width
        self.plain = [_plain(name) for name in self.header]
        self.body = table.lines[self.first :]

    def refuse(self, why: str) -> NoReturn:
        shown = ", ".join(self.header) if self.first else f"{self.width} columns without names"
        raise MatrixFileError(
            f"{self.table.name}: {why} ({shown[:100]}); name them in the order row, column, value, "
            "as in --columns user,item,rating or --columns 1,2,3, or say --layout wide if the file "
            "is the matrix itself"
        )

    def asked(self, columns: Sequence[str]) -> Layout:
        """The columns that the user names."""
        if len(columns) != 3:
            raise MatrixFileError(
                f"columns must name row, column and value, got {len(columns)}: {columns}"
            )
        places = []
        for column in columns:
            at = [k for k, name in enumerate(self.header) if self.first and name == column]
            if not at and column.isdecimal() and 1 <= int(column) <= self.width:
                at = [int(column) - 1]
            if len(at) != 1:
                there = ", ".join(self.header) if self.first else f"1 to {self.width}"
                raise MatrixFileError(
                    f"{self.table.name}: has {'no' if not at else 'more than one'} column "
                    f"{column!r}; there are {there[:200]}"
                )
            places += at
        if len(set(places)) < 3:
            raise MatrixFileError(f"columns must be three different ones, got {list(columns)}")
        return self.of_triplets(places, said=False)

    def guess(self) -> Layout:
        found = self.triplets()
        if found is not None and not (self.width > 3 and not self.first and self.looks_wide()):
            return found
        if self.looks_wide():
            return self.wide()
        if found is None:
            self.refuse("cannot tell which columns hold row, column and value")
        return found

    def triplets(self) -> Layout | None:
        """Three columns by their usual names, else by what is left, else the only three."""
        found = [
            [k for k, name in enumerate(self.plain) if name in known]
            for known in (_ROW, _COLUMN, _VALUE)
        ]
        if any(len(at) > 1 for at in found):
            found = [at if len(at) == 1 else [] for at in found]
        places = [at[0] if at else -1 for at in found]
        left = [
            k
            for k, name in enumerate(self.plain)
            if k not in places and name not in _IGNORED and (name or not self.first)
        ]
        is_named = sum(place >= 0 for place in places) >= 2
        if not self.first and self.width == 4 and self.looks_like_time(3):
            left = [0, 1, 2]
        elif not is_named and (self.looks_wide() and self.first):
            return None
        missing = [role for role, place in enumerate(places) if place < 0]
        if len(left) < len(missing) or (len(left) > len(missing) and missing):
            return None
        for role, place in zip(missing, left, strict=False):
            places[role] = place
        if not is_named and self.first and self.all_but_names() and self.some_missing():
            self.refuse("cannot tell whether this is a matrix or a list of its entries")
        return self.of_triplets(places, said=not is_named or bool(missing) or self.width > 3)

    def of_triplets(self, places: Sequence[int], said: bool) -> Layout:
        names = tuple(self.header[k] or usual for k, usual in zip(places, NAMES, strict=True))
        which = ", ".join(
            f"{role} from column {k + 1}" + (f" ({self.header[k]})" if self.header[k] else "")
            for role, k in zip(NAMES, places, strict=True)
        )
        remarks = (f"{self.table.name}: {which}",) if said else ()
        return Layout("triplets", self.first, tuple(places), names, remarks)

    def looks_like_time(self, place: int) -> bool:
        fields = [line[place] for line in self.body]
        return all(field.isdecimal() and int(field[:12]) > 10**8 for field in fields)

    def has_only_numbers(self, place: int) -> bool:
        return all(is_number(line[place]) or is_missing(line[place]) for line in self.body)

    def looks_wide(self) -> bool:
        """Whether all columns are numbers or nothing, beside names of rows that are distinct."""
        if self.width <= 4 and any(name in _IGNORED for name in self.plain[1:]):
            return False
        first = [line[0] for line in self.body]
        is_distinct = len(set(first)) == len(first)
        if self.width > 4:
            return self.all_but_names() and (is_distinct or self.has_only_numbers(0))
        # Three or four columns may be triplets: then nothing is missing, and names come again.
        return self.all_but_names() and is_distinct and self.some_missing()

    def all_but_names(self) -> bool:
        return all(self.has_only_numbers(k) for k in range(1, self.width))

    def some_missing(self) -> bool:
        return any(is_missing(field) for line in self.body for field in line[1:])

    def wide(self) -> Layout:
        for k in range(1, self.width):
            for at, line in enumerate(self.body):
                if not (is_number(line[k]) or is_missing(line[k])):
                    self.table.refuse(
                        at + self.first,
                        f"{line[k]!r} in column {k + 1} is neither a number nor missing (empty, NA "
                        "or ?); mend it",
                    )
        name, first = self.header[0], [line[0] for line in self.body]
        counted = [str(k) for k in range(len(first))], [str(k + 1) for k in range(len(first))]
        is_name = (
            not self.has_only_numbers(0)
            or (self.first and _plain(name) in _ROW | {"", "id", "index", "unnamed", "name"})
            or first in counted
        )
        remark = "row names from the first column" if is_name else "rows are counted from 0"
        kind = "a matrix, a line for each row"
        return Layout(
            "wide",
            self.first,
            (0,) if is_name else (),
            remarks=(f"{self.table.name}: read as {kind}; {remark}",),
        )
