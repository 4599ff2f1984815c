"""The ledger's rows, ``book/claims.yml``: read, checked, and judged by their rules."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dmf_utils._support.yaml_files import read_yaml
from dmf_utils.claims.rules import Measured, Rule, parse_rule, plain_value

__all__ = ["Claim", "Kind", "Verdict", "find_ledger", "judge", "load"]

LEDGER_VARIABLE = "DMF_LEDGER"
_TEXTS = ("id", "group", "paper", "statement", "expected", "chapter")
_REQUIRED = (*_TEXTS, "kind", "rule", "verdict")
_IDENTIFIER = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Verdict(StrEnum):
    """What the measured value says about a claim, from best to worst."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT_REPRODUCED = "not reproduced"
    NOT_RUN = "not run"

    def is_worse_than(self, other: Verdict) -> bool:
        """Whether this verdict stands below ``other``."""
        order = list(Verdict)
        return order.index(self) > order.index(other)


class Kind(StrEnum):
    """What a row is evidence of; the kinds are never counted together.

    A claim of the paper, or of a later one, is something that a run could refute. An identity
    holds for any such matrix, whoever stated it: it tests our code. The rest is ours.
    """

    PAPER = "paper"
    IDENTITY = "identity"
    OURS = "ours"
    LATER = "later"

    @property
    def label(self) -> str:
        """The kind in a reader's words."""
        return _LABELS[self]


_LABELS = {
    Kind.PAPER: "Claim of the paper",
    Kind.IDENTITY: "Identity",
    Kind.OURS: "Ours",
    Kind.LATER: "Later paper",
}


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes
    ----------
    id
        Lower-case words joined by hyphens; unique.
    group
        Heading under which the ledger lists the row, such as ``Figure 1``.
    kind
        What the row is evidence of.
    paper
        Where in the paper the claim stands.
    statement
        The claim in one sentence; mathematics between dollar signs.
    expected
        The paper's value, as text; for a row of another kind what was derived or observed.
    rule, partly
        The rule that decides ``reproduced``, and the looser one, if any, that decides ``partly``.
    verdict
        The accepted verdict: a build whose verdict is worse fails.
    chapter
        The chapter that measures it, by file name without ending.
    needs
        What a build may lack, such as data that cannot be passed on; empty if nothing. Without it
        the row is not run, and the build does not fail for that.
    """

    id: str
    group: str
    kind: Kind
    paper: str
    statement: str
    expected: str
    rule: Rule
    verdict: Verdict
    chapter: str
    partly: Rule | None = None
    needs: str = ""


def find_ledger() -> Path:
    """The ledger named by the environment, else the one of the working directory, else ours."""
    if named := os.environ.get(LEDGER_VARIABLE):
        return Path(named)
    for folder in (here := Path.cwd(), *here.parents):
        for candidate in (folder / "claims.yml", folder / "book" / "claims.yml"):
            if candidate.is_file():
                return candidate
    return Path(__file__).resolve().parents[2] / "book" / "claims.yml"


def load(path: str | os.PathLike[str] | None = None) -> dict[str, Claim]:
    """Read and check the ledger.

    Parameters
    ----------
    path
        The YAML file, a list of rows. By default the file that the environment variable
        ``DMF_LEDGER`` names, else ``book/claims.yml`` of the working directory or of this project.

    Returns
    -------
    dict
        The rows by id, in the file's order.

    Raises
    ------
    ValueError
        If the file is absent or is not a list of rows, or if a row lacks a field, has a field of a
        wrong kind or an unknown one, repeats an id, or states no known rule or verdict.
    """
    path = Path(path) if path is not None else find_ledger()
    if not path.is_file():
        raise ValueError(f"ledger: {path} does not exist; name the file book/claims.yml")
    rows = read_yaml(path, path.name) or []
    if not isinstance(rows, list):
        raise ValueError(f"{path.name}: got a {type(rows).__name__}, must be a list of rows")
    claims: dict[str, Claim] = {}
    for number, row in enumerate(rows, start=1):
        claim = _claim(row, f"{path.name}, row {number}")
        if claim.id in claims:
            raise ValueError(f"{path.name}, row {number}: the id {claim.id!r} is there already")
        claims[claim.id] = claim
    return claims


def _claim(row: Any, where: str) -> Claim:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: got {row!r}, must be a mapping of {', '.join(_REQUIRED)}")
    if isinstance(row.get("id"), str):
        where = f"{where} ({row['id']})"
    if missing := [field for field in _REQUIRED if field not in row]:
        raise ValueError(f"{where}: the field {missing[0]!r} is missing")
    if unknown := sorted(map(str, set(row) - {*_REQUIRED, "partly", "needs"})):
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; take it out")
    for field in [field for field in (*_TEXTS, "needs") if field in row]:
        if not isinstance(row[field], str) or not row[field].strip():
            raise ValueError(f"{where}: {field} is {row[field]!r}, must be text (quote numbers)")
    if not _IDENTIFIER.fullmatch(row["id"]):
        raise ValueError(f"{where}: the id must be lower-case words joined by hyphens")
    for field, choices in (("kind", Kind), ("verdict", Verdict)):
        if row[field] not in list(choices):
            raise ValueError(
                f"{where}: {field} is {row[field]!r}, must be one of {', '.join(choices)}"
            )
    partly = row.get("partly")
    return Claim(
        **{field: row[field].strip() for field in (*_TEXTS, "needs") if field in row},
        kind=Kind(row["kind"]),
        rule=parse_rule(row["rule"], f"{where}: rule"),
        verdict=Verdict(row["verdict"]),
        partly=None if partly is None else parse_rule(partly, f"{where}: partly"),
    )


def judge(claim: Claim, measured: Measured | None) -> Verdict:
    """The verdict of a measured value; ``None`` means that the claim was not measured.

    Parameters
    ----------
    claim
        A row of the ledger.
    measured
        A number, a list or dict of numbers, or a bool, as the row's rule asks.

    Returns
    -------
    Verdict
        ``reproduced`` if the rule holds, else ``partly`` if the row has a looser rule that holds.

    Raises
    ------
    TypeError, ValueError
        If the value is not of a kind the rule can judge, or not finite.
    """
    if measured is None:
        return Verdict.NOT_RUN
    measured = plain_value(measured, f"claim {claim.id!r}")
    if claim.rule.holds(measured):
        return Verdict.REPRODUCED
    if claim.partly is not None and claim.partly.holds(measured):
        return Verdict.PARTLY
    return Verdict.NOT_REPRODUCED
