"""What the chapters recorded, as the rows of ``claims.json``: written, read, counted."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils._support.notebooks import headings, title
from dmf_utils.claims.ledger import Claim, Kind, Verdict, find_ledger, judge
from dmf_utils.claims.recording import MIME_TYPE
from dmf_utils.claims.rules import plain_value

__all__ = [
    "Place",
    "Row",
    "collect",
    "count",
    "measured_rows",
    "read",
    "recorded",
    "summary",
    "worse",
    "write",
]

RESULTS_VARIABLE = "DMF_CLAIMS"
Row = dict[str, Any]
_TEXTS = ("id", "group", "paper", "statement", "expected", "rule", "chapter")


class Place(NamedTuple):
    """Where a claim is decided."""

    title: str
    """The chapter's title."""
    section: str
    """The heading above the cell."""
    figure: str
    """The name of the section's figure above the cell, or of the cell; empty if it has none."""


def recorded(notebook: NotebookNode) -> list[tuple[NotebookNode, str, Any]]:
    """The outputs of a notebook in which a claim was recorded, with its id and measured value."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if entry := output.get("data", {}).get(MIME_TYPE):
                found.append((output, entry["id"], entry["measured"]))
    return found


def places_in(chapter: NotebookNode) -> dict[str, Place]:
    """Where an executed chapter decides its claims, by their ids."""
    found: dict[str, Place] = {}
    section, figure = "", ""
    for cell in chapter.cells:
        if cell.cell_type == "markdown":
            for above, _ in headings(cell.source):
                section, figure = above, ""
            continue
        figure = cell.metadata.get("mystnb", {}).get("figure", {}).get("name", figure)
        for _, id, _ in recorded(NotebookNode(cells=[cell])):
            found[id] = Place(title(chapter), section, figure)
    return found


def collect(claims: dict[str, Claim], notebooks: dict[str, NotebookNode]) -> list[Row]:
    """The rows of ``claims.json``, in the ledger's order.

    Raises
    ------
    ValueError
        If a chapter recorded a claim that the ledger does not have or gives to another chapter, or
        recorded one twice, or a value that the row's rule cannot judge.
    """
    measured: dict[str, Any] = {}
    places: dict[str, Place] = {}
    for chapter, notebook in notebooks.items():
        for _, id, value in recorded(notebook):
            if id not in claims:
                raise ValueError(f"{chapter}: recorded {id!r}, which book/claims.yml does not have")
            if claims[id].chapter != chapter:
                raise ValueError(
                    f"{chapter}: recorded {id!r}, which book/claims.yml gives to "
                    f"{claims[id].chapter}; change one of the two"
                )
            if id in measured:
                raise ValueError(f"{chapter}: recorded {id!r} twice; record it once")
            measured[id] = value
        places |= places_in(notebook)
    try:
        return [_row(claim, measured.get(id), places.get(id)) for id, claim in claims.items()]
    except TypeError as error:
        raise ValueError(str(error)) from error


def _row(claim: Claim, measured: Any, place: Place | None) -> Row:
    return {
        "id": claim.id,
        "kind": str(claim.kind),
        "group": claim.group,
        "paper": claim.paper,
        "statement": claim.statement,
        "expected": claim.expected,
        "measured": measured,
        "rule": claim.rule.text,
        "looser_rule": "" if claim.partly is None else claim.partly.text,
        "verdict": str(judge(claim, measured)),
        "needs": claim.needs,
        "chapter": claim.chapter,
        **(place or Place("", "", ""))._asdict(),
    }


def write(rows: list[Row], path: Path) -> None:
    """Write the rows, whole or not at all, and only if they changed."""
    content = (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
    if not path.is_file():
        files.clear(path)
    elif path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, lambda file: file.write(content))


def read(path: Path) -> list[Row]:
    """The rows of a ``claims.json``.

    Raises
    ------
    InputError
        If the file holds no such rows.
    """
    try:
        rows: list[Row] = json.loads(path.read_bytes())
        if not isinstance(rows, list):
            raise ValueError("it is no list of rows")
        for row in rows:
            _check_row(row)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"{path}: is damaged, or not of this version ({error}); `dmf book` writes it anew"
        ) from error
    return rows


def _check_row(row: Row) -> None:
    Verdict(row["verdict"])
    Kind(row["kind"])
    for name in (*_TEXTS, "measured"):
        if name not in row:
            raise ValueError(f"a row lacks the field {name}")
    for name in _TEXTS:
        if not isinstance(row[name], str):
            raise ValueError(f"the field {name} of a row is no text")
    if row["measured"] is not None:
        plain_value(row["measured"], row["id"])


def measured_rows() -> list[Row]:
    """The ledger as measured: the file the driver names in ``DMF_CLAIMS``, else the last book's.

    Raises
    ------
    FileNotFoundError
        If the book was not built yet.
    """
    named = os.environ.get(RESULTS_VARIABLE)
    path = Path(named) if named else find_ledger().parents[1] / "_build" / "claims.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there yet: `make book` measures the claims")
    return read(path)


def worse(rows: list[Row], claims: dict[str, Claim]) -> list[str]:
    """One line for each row whose verdict is worse than the ledger accepts."""
    lines = []
    for row in rows:
        claim, verdict = claims.get(row["id"]), Verdict(row["verdict"])
        if claim is None or (claim.needs and verdict is Verdict.NOT_RUN):
            continue
        accepted = claim.verdict
        if verdict.is_worse_than(accepted):
            lines.append(
                f"{row['id']}: {row['verdict']}, accepted is {accepted} "
                f"(expected {row['expected']}; measured {row['measured']}; rule {row['rule']})"
            )
    return lines


def count(rows: list[Row]) -> dict[Kind, Counter[Verdict]]:
    """How many rows of each kind have which verdict."""
    counts = {kind: Counter[Verdict]() for kind in Kind}
    for row in rows:
        counts[Kind(row["kind"])][Verdict(row["verdict"])] += 1
    return counts


def summary(rows: list[Row]) -> str:
    """How many claims of each kind have which verdict, a line a kind."""
    lines = []
    for kind, number in count(rows).items():
        if number:
            stated = [f"{number[verdict]} {verdict}" for verdict in Verdict if number[verdict]]
            rows_in_words = "1 row" if number.total() == 1 else f"{number.total()} rows"
            lines.append(f"{kind.label}: {rows_in_words}, {', '.join(stated)}")
    return "\n".join(lines) or "the ledger has no rows"
