"""Reading the ledger, and the verdicts of its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmf_utils.claims import ledger
from dmf_utils.claims.ledger import Claim, Kind, Verdict


def test_the_looser_rule_gives_partly_and_the_strict_one_comes_first(
    claim: Callable[..., Claim],
) -> None:
    row = claim(rule={"bound_above": 1}, partly={"bound_above": 10})
    verdicts = [ledger.judge(row, value) for value in (0.5, 5, 50, None)]
    assert verdicts == list(Verdict)


def test_the_verdicts_stand_in_order() -> None:
    worse = [[a.is_worse_than(b) for b in Verdict] for a in Verdict]
    assert np.array_equal(worse, np.tri(4, k=-1, dtype=bool))


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_is_read_and_has_words(claim: Callable[..., Claim], kind: Kind) -> None:
    assert claim(kind=str(kind)).kind is kind
    assert kind.label


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": {"near": 3}}, "unknown rule 'near'"),
        ({"partly": {"near": 3}}, "partly: unknown rule"),
        ({"verdict": "yes"}, "verdict is 'yes'"),
        ({"kind": "theirs"}, "kind is 'theirs', must be one of paper, identity, ours, later"),
        ({"kind": 1}, "kind is 1"),
        ({"expected": 3e-5}, "expected is 3e-05, must be text"),
        ({"statement": " "}, "statement"),
        ({"id": "A Claim"}, "lower-case"),
        ({"extra": 1}, "unknown field 'extra'"),
    ],
)
def test_a_wrong_row_is_refused_by_name(
    write: Any, row: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    write(row | changes)
    with pytest.raises(ValueError, match=words):
        ledger.load()


@pytest.mark.parametrize(
    "field",
    ["id", "group", "kind", "paper", "statement", "expected", "rule", "verdict", "chapter"],
)
def test_a_missing_field_is_named(write: Any, row: dict[str, Any], field: str) -> None:
    del row[field]
    write(row)
    with pytest.raises(ValueError, match=f"row 1.*{field}"):
        ledger.load()


def test_a_repeated_id_is_refused(write: Any, row: dict[str, Any]) -> None:
    write(row, row | {"id": "other"}, row)
    with pytest.raises(ValueError, match="row 3: the id 'a-claim' is there already"):
        ledger.load()


def test_files_that_are_no_ledger(write: Any, tmp_path: Path) -> None:
    path = write()
    assert ledger.load() == {}
    path.write_text("a: 1")
    with pytest.raises(ValueError, match="must be a list"):
        ledger.load()
    write("row")
    with pytest.raises(ValueError, match="row 1: got 'row'"):
        ledger.load()
    with pytest.raises(ValueError, match="does not exist"):
        ledger.load(tmp_path / "absent.yml")


@pytest.mark.parametrize("folder", [".", "book"])
def test_the_ledger_is_found_from_the_root_and_from_the_book(
    write: Any, row: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "book").mkdir()
    write(row).rename(tmp_path / "book" / "claims.yml")
    monkeypatch.delenv("DMF_LEDGER")
    monkeypatch.chdir(tmp_path / folder)
    assert list(ledger.load()) == ["a-claim"]
