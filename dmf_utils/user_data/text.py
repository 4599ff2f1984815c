"""Text files with columns: how they are encoded, what parts the columns, and their lines."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dmf_utils._support.errors import InputError

__all__ = ["MatrixFileError", "Table", "is_number", "listed", "read_text"]

_SHOWN = 5  # numbers or names that a message lists
_SPACES = " "
_DELIMITERS = ("::", "\t", ";", ",", "|", _SPACES)  # the first that parts all lines alike
_WORDS = {
    "::": "double colons",
    "\t": "tabs",
    ";": "semicolons",
    ",": "commas",
    "|": "bars",
    _SPACES: "spaces",
}
_SAMPLE = 50_000  # letters that the delimiter is found by
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_SAID = re.compile(r'"?sep=([\t;,|])"?(?=\r|\n)', re.IGNORECASE)
_COMMENTED = re.compile(r"(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n|\r|\n))*[ \t]*#[^\r\n]*(?=\r|\n)")
_PACKED = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "packed by gzip"}


class MatrixFileError(InputError):
    """A file that cannot be read as a partially observed matrix; the message says where and why."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


@dataclass(frozen=True)
class Table:
    """The fields of a file, line by line, all of one length, and what there is to remark.

    Attributes
    ----------
    name : str
        Of the file.
    numbers : list of int
        Where in the file each line begins.
    lines : list of list of str
        Without the spaces around a field.
    unit : str
        What the numbers count.
    delimiter : str
    remarks : tuple of str
    has_header : bool or None
        Whether the first line names the columns, where the kind of file says so.
    """

    name: str
    numbers: list[int]
    lines: list[list[str]]
    unit: str = "line"
    delimiter: str = ","
    remarks: tuple[str, ...] = ()
    has_header: bool | None = None

    def refuse(self, at: int, why: str) -> NoReturn:
        """Raise the error about the line at position `at`."""
        raise MatrixFileError(f"{self.name}, {self.unit} {self.numbers[at]}: {why}")


def is_number(field: str) -> bool:
    """Whether a field is a number, with a decimal point or comma."""
    return _NUMBER.fullmatch(field) is not None


def read_text(path: Path) -> Table:
    """Read a file of columns, parted by commas, semicolons, tabs, bars, ``::`` or spaces.

    Raises
    ------
    MatrixFileError
        If it is not text, has no lines, or has lines of different lengths: it names the first.
    """
    text, remarks = _decoded(path)
    said = _SAID.match(text)
    if said:  # as spreadsheets read it; the line stays, empty, so that others keep their numbers
        text = text[said.end() :]
    head, body = _head(text)
    delimiter = said[1] if said else _delimiter(body, path.suffix.lower())
    kept = [_uncommented(line, body, delimiter) for line in _lines(head)]
    if n_comments := sum("#" in line for line in _lines(head)) - sum(map(bool, kept)):
        what = f"{n_comments} {'line' if n_comments == 1 else 'lines'} before the first"
        remarks = (*remarks, f"{path.name}: {what} with #: taken as a comment")
    text = "\n".join(kept) + body
    numbers, fields = [], []
    for number, line in _fields(path.name, text, delimiter):
        if any(line):
            numbers.append(number)
            fields.append(line)
    if not fields:
        raise MatrixFileError(f"{path.name}: is empty; give lines of row, column, value")
    return _even(Table(path.name, numbers, fields, "line", delimiter, remarks))


def _decoded(path: Path) -> tuple[str, tuple[str, ...]]:
    content = path.read_bytes()
    for mark, kind in _PACKED.items():
        if content.startswith(mark):
            raise MatrixFileError(f"{path.name}: is {kind}; unpack it first")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16"), ()
        except UnicodeDecodeError:
            raise MatrixFileError(f"{path.name}: is damaged text in UTF-16; save it anew") from None
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise MatrixFileError(
            f"{path.name}, line {line}: has a zero byte, so it is not text; give a text file, or "
            "one that ends in .npy, .npz, .mtx or .parquet"
        )
    try:
        return content.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        said = f"{path.name}, line {line}: is not UTF-8; the file is read as Latin-1 (cp1252)"
        return content.decode("cp1252", errors="replace"), (said,)


def _head(text: str) -> tuple[str, str]:
    """The lines with a # at the beginning of a file, and what comes after them."""
    head = _COMMENTED.match(text)
    if head is None or not text[head.end() :].strip():
        return "", text
    return head[0], text[head.end() :]


def _uncommented(line: str, body: str, delimiter: str) -> str:
    """A line with a # that has as many fields as the next lines: theirs, or names of columns."""
    plain = line.strip().removeprefix("#").strip()
    if not plain:
        return ""
    first = next(other for other in _lines(body) if other.strip())
    fields = [field.strip() for field in _parted(plain, delimiter)]
    if len(fields) != len(_parted(first.strip(), delimiter)):
        return ""
    return line if any(map(is_number, fields)) else plain


def _delimiter(text: str, ending: str) -> str:
    """The delimiter that parts all lines of a sample alike, else most of them."""
    counts, numbers = {}, {}
    for delimiter in _DELIMITERS:
        sample = _sample(text, delimiter)
        counts[delimiter] = [len(line) for line in sample]
        numbers[delimiter] = sum(is_number(field) for line in sample for field in line)
    alike = [delimiter for delimiter in _DELIMITERS if _are_alike(counts[delimiter])]
    usual = {".csv": ",", ".tsv": "\t", ".tab": "\t"}.get(ending)
    if usual in alike and counts[usual][-1] > 2:
        # Semicolons beside decimal commas part into more numbers.
        if usual == "," and ";" in alike and numbers[";"] > numbers[","]:
            return ";"
        return usual
    if alike:
        return max(alike, key=lambda delimiter: counts[delimiter][-1] > 2)
    return max(_DELIMITERS, key=lambda delimiter: _share(counts[delimiter]))


def _sample(text: str, delimiter: str) -> list[list[str]]:
    start = text[:_SAMPLE]
    if len(text) > _SAMPLE:
        start = start[: start.rfind("\n") + 1] or start
    if delimiter in ("::", _SPACES):
        lines = [_parted(line, delimiter) for line in _lines(start)]
    else:
        try:
            lines = list(csv.reader(io.StringIO(start, newline=""), delimiter=delimiter))
        except csv.Error:  # said with its line when the file is read
            return []
    return [line for line in lines if any(field.strip() for field in line)]


def _are_alike(counts: list[int]) -> bool:
    # The header of a table with row names may be one short.
    rest = set(counts[1:]) or set(counts)
    return len(rest) == 1 and counts[-1] > 1 and counts[0] in (counts[-1], counts[-1] - 1)


def _share(counts: list[int]) -> float:
    """The share of lines with the usual number of fields, if that is more than one."""
    usual, lines = Counter(counts).most_common(1)[0] if counts else (0, 0)
    return lines / len(counts) if usual > 1 else 0.0


def _parted(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == _SPACES else line.split(delimiter)


def _lines(text: str) -> list[str]:
    """The lines as an editor counts them: `splitlines` parts at further signs."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _fields(name: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    if delimiter in ("::", _SPACES):
        for number, line in enumerate(_lines(text), start=1):
            yield number, [_bare(field) for field in _parted(line, delimiter)]
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise MatrixFileError(
                f"{name}, line {number}: cannot be read ({error}); look at its quotation marks"
            ) from None
        yield number, [field.strip() for field in fields]


def _bare(field: str) -> str:
    field = field.strip()
    is_quoted = len(field) > 1 and field[0] == field[-1] and field[0] in "\"'"
    return field[1:-1] if is_quoted else field


def _even(table: Table) -> Table:
    """The table with lines of one length; the header of row names may be missing."""
    lengths = [len(line) for line in table.lines]
    width = lengths[1] if len(lengths) > 1 else lengths[0]
    if lengths[0] == width - 1 and set(lengths[1:]) == {width}:
        ends_empty = all(line[-1] == "" for line in table.lines[1:])
        header = [*table.lines[0], ""] if ends_empty else ["", *table.lines[0]]
        table.lines[0] = header
        lengths[0] = width
    parted = _WORDS[table.delimiter]
    if width == 1:
        table.refuse(0, "has one field; part the columns by commas, semicolons, tabs or spaces")
    usual = Counter(lengths).most_common(1)[0][0]
    for at, length in enumerate(lengths):
        if length != usual:
            hint = ""
            if table.delimiter == "," and length > usual:
                hint = "; a decimal comma is read where semicolons or tabs part the columns"
            table.refuse(
                at,
                f"has {length} {'field' if length == 1 else 'fields'} parted by {parted}, most "
                f"lines have {usual}; mend or remove it{hint}",
            )
    if len(lengths) > 1 and all(line[-1] == "" for line in table.lines):
        for line in table.lines:  # a delimiter at the end of each line
            del line[-1]
    return table


def listed(of: str, what: Iterable[object]) -> str:
    """Numbers or names as ``lines 3, 4, 5``, the first few of them."""
    every = list(what)
    shown = ", ".join(map(str, every[:_SHOWN]))
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return f"{of}{'s' if len(every) > 1 else ''} {shown}{more}"
