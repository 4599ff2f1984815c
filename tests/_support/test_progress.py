"""Progress: a bar for a person, lines for a driver, silence when asked."""

import json

import pytest

from dmf_utils._support import progress
from dmf_utils._support.progress import progress_bar
from dmf_utils.factorization.initialization import gaussian
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.problems.completion import MatrixCompletion


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """Name a file for the lines; a function that reads them."""
    path = tmp_path / "progress"
    monkeypatch.setenv("DMF_PROGRESS", str(path))

    def read():
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    return read


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_bar_shows_label_and_share(monkeypatch, capsys):
    monkeypatch.delenv("DMF_PROGRESS", raising=False)
    with progress_bar("flow of größe", total=8) as bar:
        bar.update_to(3)
        bar.update_to(8)
    shown = capsys.readouterr().err
    assert "flow of größe" in shown
    assert "8/8" in shown


def test_bar_counts_what_is_new(monkeypatch):
    monkeypatch.delenv("DMF_PROGRESS", raising=False)
    with progress_bar("x", total=10) as bar:
        for done in (2, 2, 7):
            bar.update_to(done)
            assert bar._bar.n == bar.done == done
    assert bar._bar.disable  # closed


def test_lines_for_a_driver(lines, clock, capsys):
    with progress_bar("flow", total=10) as bar:
        for done, now in (
            (1, 100.0),
            (2, 100.1),
            (3, 100.29),
            (4, 100.4),
            (9, 100.5),
            (10, 100.51),
        ):
            clock[0] = now
            bar.update_to(done)
    # At most one line each 0.3 s, but always the last.
    assert [line["done"] for line in lines()] == [1, 4, 10]
    assert lines()[0] == {"done": 1, "total": 10, "label": "flow"}
    assert capsys.readouterr().err == ""


def test_lines_are_added(lines, clock):
    for label in ("a", "b"):
        with progress_bar(label, total=1) as bar:
            bar.update_to(1)
    assert [line["label"] for line in lines()] == ["a", "b"]


def test_silence(lines, monkeypatch, capsys):
    with progress_bar("x", total=2, show=False) as bar:
        bar.update_to(2)
    assert lines() == []
    monkeypatch.delenv("DMF_PROGRESS")
    with progress_bar("x", total=2, show=False) as bar:
        bar.update_to(1)
    assert bar.done == 1
    assert capsys.readouterr().err == ""


def test_bar_is_closed_after_an_error(monkeypatch, capsys):
    monkeypatch.delenv("DMF_PROGRESS", raising=False)
    with pytest.raises(ZeroDivisionError), progress_bar("x", total=2) as bar:
        raise ZeroDivisionError
    assert bar._bar.disable


@pytest.mark.parametrize("ends", ["loss", "time"])
def test_flow_tells_how_far_it_is(lines, monkeypatch, ends):
    times = iter(range(10**6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))
    problem = MatrixCompletion.random((5, 4), 2, 12, seed=1)
    until = {"until_loss": 1e-3} if ends == "loss" else {"until_loss": None, "until_time": 50.0}
    starts = [gaussian(0.3, s) for s in range(2)]
    gradient_flow(problem, 3, starts, **until, progress=True)
    done = [line["done"] for line in lines()]
    assert done == sorted(done)
    assert (done[-1], lines()[0]["total"], lines()[0]["label"]) == (1000, 1000, "gradient flow")
    assert any(100 < n < 900 for n in done)
    assert done[0] < 500


def test_flow_is_silent_by_default(lines):
    problem = MatrixCompletion.random((5, 4), 2, 12, seed=1)
    gradient_flow(problem, 3, gaussian(0.3, 0), 1e-1)
    assert lines() == []
