"""The ledger: reading it, its rules, and what a chapter records."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output

from dmf_utils.claims import ledger, measured
from dmf_utils.claims.ledger import MIME_TYPE, Verdict
from dmf_utils.claims.recording import record
from dmf_utils.claims.render import show

ROW: dict[str, Any] = {
    "id": "a-claim",
    "group": "Figure 1",
    "paper": "Section 2",
    "statement": "Depth $N = 3$ recovers <the> truth.",
    "expected": "3e-5",
    "rule": {"bound_above": 1e-3},
    "verdict": "reproduced",
    "chapter": "small",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = tmp_path / "claims.yml"
    monkeypatch.setenv("DMF_LEDGER", str(path))

    def write_rows(*rows: Any) -> Path:
        path.write_text(yaml.safe_dump(list(rows), sort_keys=False))
        return path

    return write_rows


def claim(**changes: Any) -> ledger.Claim:
    return ledger._claim(ROW | changes, "test")


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"range": [1, 2]}, 1, 0.999),
        ({"range": [1, 2]}, 2.0, 2.001),
        ({"range": [1, 2]}, [1, 1.5, 2], [1, 1.5, 2.1]),
        ({"range": [1, 2]}, {"a": 1, "b": 2}, {"a": 1, "b": 3}),
        ({"ratio": {"expected": 3e-5, "factor": 10}}, 3e-6, 2.9e-6),
        ({"ratio": {"expected": 3e-5, "factor": 10}}, 3e-4, 3.1e-4),
        ({"ratio": {"expected": 3e-5, "factor": 10}}, 3e-5, -3e-5),
        ({"order": "increasing"}, [1, 2, 3], [1, 3, 2]),
        ({"order": "increasing"}, [1, 2, 3], [1, 1, 2]),
        ({"order": "decreasing"}, {"2": 0.1, "3": 1e-5}, {"2": 0.1, "3": 0.2}),
        ({"order": {"direction": "increasing", "strict": False}}, [1, 1, 2], [1, 1, 0]),
        ({"exponent": {"expected": 3, "tolerance": 0.05}}, 3.05, 3.051),
        ({"exponent": {"expected": 3, "tolerance": 0.05}}, 2.95, 2.949),
        ({"exponent": {"expected": -2, "tolerance": 0.05}}, -1.96, 2),
        ({"bound_above": 1e-3}, 1e-3, 1.001e-3),
        ({"bound_above": "1e-3"}, [1e-4, 1e-3], [1e-4, 2e-3]),
        ({"bound_below": 2}, 2, 1.999),
        ("true", True, False),
        (True, {"a": True, "b": True}, {"a": True, "b": False}),
        ({"true": None}, [True], [True, False]),
    ],
)
def test_a_rule_holds_and_fails(rule: Any, good: Any, bad: Any) -> None:
    row = claim(rule=rule)
    assert ledger.judge(row, good) is Verdict.REPRODUCED
    assert ledger.judge(row, bad) is Verdict.NOT_REPRODUCED


def test_the_looser_rule_gives_partly_and_the_strict_one_comes_first() -> None:
    row = claim(rule={"bound_above": 1}, partly={"bound_above": 10})
    verdicts = [ledger.judge(row, value) for value in (0.5, 5, 50, None)]
    assert verdicts == list(Verdict)


def test_the_verdicts_stand_in_order() -> None:
    worse = [[a.is_worse_than(b) for b in Verdict] for a in Verdict]
    assert np.array_equal(worse, np.tri(4, k=-1, dtype=bool))


@pytest.mark.parametrize(
    ("rule", "value", "error", "words"),
    [
        ({"bound_above": 1}, math.nan, ValueError, "measured nan"),
        ({"bound_above": 1}, [0.5, math.inf], ValueError, "measured inf"),
        ({"bound_above": 1}, {"a": -math.inf}, ValueError, "measured -inf"),
        ({"bound_above": 1}, [], ValueError, "empty"),
        ({"bound_above": 1}, {}, ValueError, "empty"),
        ({"bound_above": 1}, "0.5", TypeError, "measured a str"),
        ({"bound_above": 1}, True, TypeError, "judges numbers"),
        ({"bound_above": 1}, [[0.5]], TypeError, "nested"),
        ("true", 1, TypeError, "judges true or false"),
        ({"order": "increasing"}, 3, TypeError, "two numbers or more"),
        ({"order": "increasing"}, [3], TypeError, "two numbers or more"),
    ],
)
def test_a_value_that_cannot_be_judged_is_refused(
    rule: Any, value: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ledger.judge(claim(rule=rule), value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": {"near": 3}}, "unknown rule 'near'"),
        ({"rule": {"range": [2, 1]}}, "low must be below high"),
        ({"rule": {"range": [1]}}, r"must be \[low, high\]"),
        ({"rule": {"ratio": {"expected": 1}}}, "factor"),
        ({"rule": {"ratio": {"expected": 1, "factor": 1}}}, "factor above 1"),
        ({"rule": {"order": "upwards"}}, "increasing or decreasing"),
        ({"rule": {"order": {"direction": "increasing", "stric": True}}}, "stric"),
        ({"rule": {"exponent": {"expected": 1, "tolerance": 0}}}, "tolerance must be positive"),
        ({"rule": {"bound_above": "small"}}, "bound_above got 'small'"),
        ({"rule": {"bound_above": math.inf}}, "not finite"),
        ({"rule": {"bound_above": True}}, "not a number"),
        ({"rule": {"bound_above": 1, "bound_below": 0}}, "must be one of"),
        ({"rule": {"true": 1}}, "no parameters"),
        ({"partly": {"near": 3}}, "partly: unknown rule"),
        ({"verdict": "yes"}, "verdict is 'yes'"),
        ({"expected": 3e-5}, "expected is 3e-05, must be text"),
        ({"statement": " "}, "statement"),
        ({"id": "A Claim"}, "lower-case"),
        ({"extra": 1}, "unknown field 'extra'"),
    ],
)
def test_a_wrong_row_is_refused_by_name(write: Any, changes: dict[str, Any], words: str) -> None:
    write(ROW | changes)
    with pytest.raises(ValueError, match=words):
        ledger.load()


@pytest.mark.parametrize("field", list(ROW))
def test_a_missing_field_is_named(write: Any, field: str) -> None:
    write({name: value for name, value in ROW.items() if name != field})
    with pytest.raises(ValueError, match=f"row 1.*{field}"):
        ledger.load()


def test_a_repeated_id_is_refused(write: Any) -> None:
    write(ROW, ROW | {"id": "other"}, ROW)
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
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "book").mkdir()
    write(ROW).rename(tmp_path / "book" / "claims.yml")
    monkeypatch.delenv("DMF_LEDGER")
    monkeypatch.chdir(tmp_path / folder)
    assert list(ledger.load()) == ["a-claim"]


def test_the_ledger_of_the_book_is_in_order() -> None:
    path = Path(__file__).parents[2] / "book" / "claims.yml"
    assert all(id == row.id for id, row in ledger.load(path).items())


@pytest.mark.parametrize(
    ("value", "measured"),
    [
        (torch.tensor(2e-5, dtype=torch.float64), 2e-5),
        (np.float64(2e-5), 2e-5),
        (np.array([1e-5, 2e-5]), [1e-5, 2e-5]),
        ({"depth 3": torch.tensor(2e-5, dtype=torch.float64)}, {"depth 3": 2e-5}),
    ],
)
def test_record_shows_the_verdict_and_carries_the_value(
    write: Any, monkeypatch: pytest.MonkeyPatch, value: Any, measured: Any
) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    write(ROW)
    record("a-claim", value)
    (data,) = shown
    assert json.loads(json.dumps(data[MIME_TYPE])) == {"id": "a-claim", "measured": measured}
    page = data["text/html"]
    assert 'id="claim-a-claim"' in page
    assert "✓</span> reproduced" in page
    assert r"\(N = 3\)" in page
    assert "&lt;the&gt;" in page
    assert data["text/plain"].startswith("✓ reproduced")


def test_record_refuses_an_unknown_id_and_a_value_that_is_no_number(write: Any) -> None:
    write(ROW)
    with pytest.raises(ValueError, match="'b-claim', which book/claims"):
        record("b-claim", 1)
    with pytest.raises(ValueError, match="measured nan"):
        record("a-claim", torch.tensor(float("nan")))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.14159, "3.142"),
        (219.44, "219.4"),
        (0.0123456, "0.01235"),
        (0, "0"),
        (2.5e-5, "2.5e-05"),
        (-12345.6, "-1.235e+04"),
        (True, "true"),
        ([1.0, 2e-9], "1, 2e-09"),
        ({"depth 2": 0.5}, "depth 2: 0.5"),
    ],
)
def test_show_keeps_few_digits(value: Any, text: str) -> None:
    assert show(value) == text


def notebook_that_recorded(*entries: tuple[str, Any]) -> Any:
    outputs = [
        new_output("display_data", {MIME_TYPE: {"id": id, "measured": value}})
        for id, value in entries
    ]
    return new_notebook(cells=[new_code_cell("", outputs=outputs)])


def test_collect_writes_every_row_and_says_what_was_not_run() -> None:
    rows = {"a-claim": claim(), "b-claim": claim(id="b-claim")}
    collected = measured.collect(rows, {"small": notebook_that_recorded(("a-claim", 2e-3))})
    fields = ["id", "paper", "statement", "expected", "measured", "rule", "verdict"]
    assert [list(row) for row in collected] == [fields, fields]
    assert [row["verdict"] for row in collected] == ["not reproduced", "not run"]
    assert [row["measured"] for row in collected] == [2e-3, None]
    worse = measured.worse(collected, rows)
    assert [line.split(":")[0] for line in worse] == ["a-claim", "b-claim"]
    accepted = {id: claim(id=id, verdict="not run") for id in rows}
    assert measured.worse(collected, accepted) == []
    lacking = {id: claim(id=id, needs="data that a build may lack") for id in rows}
    worse = measured.worse(collected, lacking)  # what was run is judged all the same
    assert [line.split(":")[0] for line in worse] == ["a-claim"]
    assert measured.summary(collected) == "2 claims: 1 not reproduced, 1 not run"


@pytest.mark.parametrize(
    ("entries", "chapter", "words"),
    [
        ([("c-claim", 1)], "small", "recorded 'c-claim', which book/claims.yml does not have"),
        ([("a-claim", 1)], "large", "gives to small"),
        ([("a-claim", 1), ("a-claim", 1)], "small", "twice"),
        ([("a-claim", True)], "small", "judges numbers"),
    ],
)
def test_collect_refuses_what_does_not_fit(entries: Any, chapter: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        measured.collect({"a-claim": claim()}, {chapter: notebook_that_recorded(*entries)})
