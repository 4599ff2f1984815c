"""Collect what the chapters recorded, and write the ledger as measured."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils.claims.ledger import MIME_TYPE, Claim, Verdict, judge
from dmf_utils.claims.recording import bundle

__all__ = [
    "collect",
    "read",
    "recorded",
    "render_again",
    "summary",
    "table_by_chapter",
    "worse",
    "write",
]


def recorded(notebook: NotebookNode) -> list[tuple[NotebookNode, str, Any]]:
    """The outputs of a notebook in which a claim was recorded, with its id and measured value."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if entry := output.get("data", {}).get(MIME_TYPE):
                found.append((output, entry["id"], entry["measured"]))
    return found


def collect(claims: dict[str, Claim], notebooks: dict[str, NotebookNode]) -> list[dict[str, Any]]:
    """The rows of ``claims.json``, in the ledger's order.

    Raises
    ------
    ValueError
        If a chapter recorded a claim that the ledger does not have or gives to another chapter, or
        recorded one twice, or a value that the row's rule cannot judge.
    """
    measured: dict[str, Any] = {}
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
    try:
        return [_row(claim, measured.get(id)) for id, claim in claims.items()]
    except TypeError as error:
        raise ValueError(str(error)) from error


def _row(claim: Claim, measured: Any) -> dict[str, Any]:
    return {
        "id": claim.id,
        "paper": claim.paper,
        "statement": claim.statement,
        "expected": claim.expected,
        "measured": measured,
        "rule": claim.rule.text,
        "verdict": str(judge(claim, measured)),
    }


def render_again(notebook: NotebookNode, claims: dict[str, Claim]) -> None:
    """Show each recorded claim as the present ledger judges it, without a new run.

    The entry meant for the driver is left out: the page's builder would warn of it.
    """
    for output, id, measured in recorded(notebook):
        shown = bundle(claims[id], measured)
        output["data"] = NotebookNode({kind: shown[kind] for kind in ("text/html", "text/plain")})


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the rows, whole or not at all, and only if they changed."""
    content = (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
    if path.is_file() and path.read_bytes() == content:
        return
    if path.is_dir():
        files.clear(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, lambda file: file.write(content))


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``claims.json``.

    Raises
    ------
    InputError
        If the file holds no such rows.
    """
    try:
        rows = json.loads(path.read_bytes())
        for row in rows:
            Verdict(row["verdict"])
            if not {"id", "paper", "statement", "expected", "measured", "rule"} <= set(row):
                raise ValueError("a row lacks a field")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"{path}: is damaged, or not of this version ({error}); `dmf book` writes it anew"
        ) from error
    return rows


def worse(rows: list[dict[str, Any]], claims: dict[str, Claim]) -> list[str]:
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
                f"(paper {row['expected']}; measured {row['measured']}; rule {row['rule']})"
            )
    return lines


def summary(rows: list[dict[str, Any]]) -> str:
    """How many claims have which verdict."""
    counts = Counter(row["verdict"] for row in rows)
    stated = [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
    return f"{len(rows)} claims" + (f": {', '.join(stated)}" if stated else "")


def table_by_chapter(
    rows: list[dict[str, Any]], claims: dict[str, Claim], chapters: list[str]
) -> str:
    """A Markdown table: how many claims of each chapter have which verdict, and of all."""
    counts = {chapter: Counter[str]() for chapter in chapters}
    for row in rows:
        if (claim := claims.get(row["id"])) and claim.chapter in counts:
            counts[claim.chapter][row["verdict"]] += 1
    lines = [
        f"| Chapter | Claims | {' | '.join(v.capitalize() for v in Verdict)} |",
        "|---|" + "---:|" * 5,
    ]
    for chapter, count in counts.items():
        if count:
            lines.append(_counts_line(f"{{doc}}`{chapter}`", count))
    lines.append(_counts_line("**All**", sum(counts.values(), Counter())))
    return "\n".join(lines)


def _counts_line(name: str, count: Counter[str]) -> str:
    numbers = [sum(count.values()), *(count[verdict] for verdict in Verdict)]
    return f"| {name} | {' | '.join(map(str, numbers))} |"
