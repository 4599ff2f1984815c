"""What a chapter records, and how the page shows it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from dmf_utils.claims.recording import MIME_TYPE, record
from dmf_utils.claims.render import show


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
    write: Any, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch, value: Any, measured: Any
) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    write(row | {"kind": "later"})
    record("a-claim", value)
    (data,) = shown
    assert json.loads(json.dumps(data[MIME_TYPE])) == {"id": "a-claim", "measured": measured}
    page = data["text/html"]
    assert 'id="claim-a-claim"' in page
    assert "✓</span> reproduced" in page
    assert r"\(N = 3\)" in page
    assert "&lt;the&gt;" in page
    assert "Later paper; Section 2; expected: 3e-5" in page
    assert data["text/plain"].startswith("✓ reproduced")
    assert "(Later paper.)" in data["text/plain"]


def test_record_refuses_an_unknown_id_and_a_value_that_is_no_number(
    write: Any, row: dict[str, Any]
) -> None:
    write(row)
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
