"""What the driver collects from the chapters, and how it counts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dmf_utils._support.errors import InputError
from dmf_utils.claims import measured
from dmf_utils.claims.measured import Place


def test_collect_writes_every_row_and_says_what_was_not_run(claim: Any, notebook: Any) -> None:
    rows = {"a-claim": claim(), "b-claim": claim(id="b-claim", kind="identity")}
    collected = measured.collect(rows, {"small": notebook(("a-claim", 2e-3))})
    fields = {"id", "kind", "paper", "statement", "expected", "measured", "rule", "verdict"}
    assert all(fields <= set(row) for row in collected)
    assert [row["kind"] for row in collected] == ["paper", "identity"]
    assert [row["verdict"] for row in collected] == ["not reproduced", "not run"]
    assert [row["measured"] for row in collected] == [2e-3, None]
    worse = measured.worse(collected, rows)
    assert [line.split(":")[0] for line in worse] == ["a-claim", "b-claim"]
    accepted = {id: claim(id=id, verdict="not run") for id in rows}
    assert measured.worse(collected, accepted) == []
    lacking = {id: claim(id=id, needs="data that a build may lack") for id in rows}
    worse = measured.worse(collected, lacking)  # what was run is judged all the same
    assert [line.split(":")[0] for line in worse] == ["a-claim"]


def test_the_summary_counts_the_kinds_apart(claim: Any, notebook: Any) -> None:
    kinds = {"a-claim": "paper", "b-claim": "paper", "c-claim": "ours"}
    rows = {id: claim(id=id, kind=kind) for id, kind in kinds.items()}
    values = ("a-claim", 1e-5), ("b-claim", 1.0), ("c-claim", 1e-5)
    assert measured.summary(measured.collect(rows, {"small": notebook(*values)})).splitlines() == [
        "Claim of the paper: 2 rows, 1 reproduced, 1 not reproduced",
        "Ours: 1 row, 1 reproduced",
    ]
    assert measured.summary([]) == "the ledger has no rows"


@pytest.mark.parametrize(
    ("entries", "chapter", "words"),
    [
        ([("c-claim", 1)], "small", "recorded 'c-claim', which book/claims.yml does not have"),
        ([("a-claim", 1)], "large", "gives to small"),
        ([("a-claim", 1), ("a-claim", 1)], "small", "twice"),
        ([("a-claim", True)], "small", "judges numbers"),
    ],
)
def test_collect_refuses_what_does_not_fit(
    claim: Any, notebook: Any, entries: Any, chapter: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        measured.collect({"a-claim": claim()}, {chapter: notebook(*entries)})


def test_a_claim_is_placed_in_its_section_beside_its_figure(claim: Any, recording: Any) -> None:
    figure = {"figure": {"name": "fig-a", "caption": "…"}}
    chapter = new_notebook(
        cells=[
            new_markdown_cell("# Title"),
            recording(("at-the-top", 1)),
            new_markdown_cell("## With a figure"),
            new_code_cell("draw()", metadata={"mystnb": figure}),
            recording(("below-it", 1)),
            new_markdown_cell("## Without"),
            recording(("without", 1)),
        ]
    )
    places = {
        "at-the-top": Place("Title", "Title", ""),
        "below-it": Place("Title", "With a figure", "fig-a"),
        "without": Place("Title", "Without", ""),
    }
    assert measured.places_in(chapter) == places
    rows = measured.collect({id: claim(id=id) for id in places}, {"small": chapter})
    found = {row["id"]: Place(row["title"], row["section"], row["figure"]) for row in rows}
    assert found == places


def test_the_rows_are_written_whole_and_found_again(
    claim: Any, notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = measured.collect({"a-claim": claim()}, {"small": notebook(("a-claim", 2e-3))})
    path = tmp_path / "_build" / "claims.json"
    measured.write(rows, path)
    assert measured.read(path) == rows
    before = path.stat().st_mtime_ns
    measured.write(rows, path)
    assert path.stat().st_mtime_ns == before
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.yml").write_text("[]")
    monkeypatch.chdir(tmp_path)
    assert measured.measured_rows() == rows
    monkeypatch.setenv("DMF_CLAIMS", str(tmp_path / "other.json"))
    with pytest.raises(FileNotFoundError, match="make book"):
        measured.measured_rows()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("id", [], "the field id of a row is no text"),
        ("expected", None, "the field expected of a row is no text"),
        ("measured", "a text", "measured a str"),
        ("measured", 10**400, "a run that gives no number"),
        ("measured", [[1]], "nested lists"),
        ("measured", math.nan, "a run that gives no number"),
        ("verdict", [], "is not a valid Verdict"),
    ],
)
def test_rows_of_another_kind_are_refused(
    claim: Any, notebook: Any, tmp_path: Path, name: str, value: Any, words: str
) -> None:
    rows = measured.collect({"a-claim": claim()}, {"small": notebook(("a-claim", 2e-3))})
    path = tmp_path / "claims.json"
    path.write_text(json.dumps([rows[0] | {name: value}]))
    with pytest.raises(InputError, match=words):
        measured.read(path)


@pytest.mark.parametrize("content", ["{}", '""', '{"verdict": 1}'])
def test_what_is_no_list_of_rows_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "claims.json").write_text(content)
    with pytest.raises(InputError, match="it is no list of rows"):
        measured.read(tmp_path / "claims.json")


def test_rows_without_a_measured_value_are_read(claim: Any, tmp_path: Path) -> None:
    rows = measured.collect({"a-claim": claim()}, {})
    measured.write(rows, tmp_path / "claims.json")
    assert measured.read(tmp_path / "claims.json") == rows


def test_the_results_of_a_book_elsewhere_are_found(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write()
    monkeypatch.delenv("DMF_CLAIMS", raising=False)
    with pytest.raises(FileNotFoundError, match="is not there yet"):
        measured.measured_rows()
