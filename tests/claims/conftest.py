"""A row of the ledger that tests change, and a ledger of such rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from dmf_utils.claims.ledger import Claim, load
from dmf_utils.claims.recording import MIME_TYPE

_ROW: dict[str, Any] = {
    "id": "a-claim",
    "group": "Figure 1",
    "kind": "paper",
    "paper": "Section 2",
    "statement": "Depth $N = 3$ recovers <the> truth.",
    "expected": "3e-5",
    "rule": {"bound_above": 1e-3},
    "verdict": "reproduced",
    "chapter": "small",
}


@pytest.fixture
def row() -> dict[str, Any]:
    """The fields of a row that is in order."""
    return dict(_ROW)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write the ledger that the session reads."""
    path = tmp_path / "claims.yml"
    monkeypatch.setenv("DMF_LEDGER", str(path))

    def write_rows(*rows: Any) -> Path:
        path.write_text(json.dumps(list(rows)))
        return path

    return write_rows


@pytest.fixture
def claim(tmp_path: Path) -> Callable[..., Claim]:
    """A row with some fields changed, as the ledger reads it."""

    def read(**changes: Any) -> Claim:
        path = tmp_path / "one.yml"
        path.write_text(json.dumps([_ROW | changes]))
        (found,) = load(path).values()
        return found

    return read


@pytest.fixture
def recording() -> Callable[..., NotebookNode]:
    """A cell, as executed, that recorded claims."""

    def cell(*entries: tuple[str, Any], **metadata: Any) -> NotebookNode:
        outputs = [
            new_output("display_data", {MIME_TYPE: {"id": id, "measured": value}})
            for id, value in entries
        ]
        return new_code_cell("record()", outputs=outputs, metadata=metadata)

    return cell


@pytest.fixture
def notebook(recording: Callable[..., NotebookNode]) -> Callable[..., NotebookNode]:
    """A notebook with one cell that recorded claims."""
    return lambda *entries: new_notebook(cells=[recording(*entries)])
