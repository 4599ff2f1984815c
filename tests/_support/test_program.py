"""Programs begin with what is needed, and look for it once."""

from importlib import metadata

import pytest

from dmf_utils._support import program


def test_what_is_installed_is_looked_through_once_for_a_question(monkeypatch):
    monkeypatch.setattr(metadata, "entry_points", metadata.entry_points)
    looked, plain = [], metadata.distributions
    monkeypatch.setattr(
        metadata, "distributions", lambda *a, **k: looked.append(a) or plain(*a, **k)
    )
    assert program.found("papermill").name == "papermill"
    asked = len(looked)
    assert asked > 0
    for _ in range(3):
        assert program.found("papermill").name == "papermill"
        assert len(metadata.entry_points(group="console_scripts", name="papermill")) == 1
    assert len(looked) == asked
    with pytest.raises(ValueError, match="unpack"):
        program.found("no-such-program")
