"""Whatever the book's files and the command line hold: one line, status 2, and soon."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from hypothesis import HealthCheck, given, settings, strategies as st
from nbformat.v4 import new_code_cell, new_notebook

from dmf_utils._support.errors import InputError
from dmf_utils._support.yaml_files import read_yaml
from dmf_utils.claims import measured
from dmf_utils.claims.ledger import load
from dmf_utils.cli import main as module
from dmf_utils.cli.main import main
from dmf_utils.publishing import parameters
from dmf_utils.publishing.chapter import Chapter
from dmf_utils.publishing.project import Project
from dmf_utils.sweep.run_parameters import DEFAULTS
from dmf_utils.sweep.spec import read_spec

MakeBook = Callable[..., Project]
BROKEN = {
    "not closed": b"a: [1",
    "not text": b"\xff\xfe\x00",
    "nested": b"[" * 3000,
    "an alias": b"a: &x [1]\nb: *x",
    "a bomb": b"a: &a [1,1,1,1]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]",
    "a tag": b"!!python/object/apply:os.system ['false']",
    "a number without end": b"a: " + b"9" * 5000,
    "no day": b"a: 2001-99-99",
    "twice": b"a: 1\na: 2",
    "text": b"just words",
    "a control": b"a: \x07",
}


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of bad input, which is one line."""
    assert main(list(arguments)) == 2
    line = capsys.readouterr().err
    assert line.startswith("dmf: ")
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert len(line) < 2000
    return line


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("name", ["claims.yml", "_toc.yml", "quick/small.yml"])
def test_a_broken_file_of_the_book(
    make_book: MakeBook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    broken: str,
) -> None:
    project = make_book("1", parameters="n: int = 3  # a number", quick="n: 2")
    monkeypatch.chdir(project.root)
    (project.book / name).write_bytes(BROKEN[broken])
    assert Path(name).name in told(capsys, "book", "--quick")
    (project.book / name).unlink()
    (project.book / name).mkdir()
    told(capsys, "book", "--quick")


@pytest.mark.parametrize(
    "source",
    [
        "n: int = (",
        "n: int = 3  # a\n  m: int = 4  # b",
        "n: int = 'open  # a",
        "n: int = " + "(" * 300 + "1" + ")" * 300 + "  # a",
        "n: list[int] = " + "[" * 5000 + "]" * 5000 + "  # a",
        "n: int = {[]: 1}  # a",
        "n: int = " + "9" * 5000 + "  # a",
        "n: int = 1\x00  # a",
        "n: " + "int | " * 3000 + "int = 3  # a",
        "n: list[" * 100 + "int" + "]" * 100 + " = 3  # a",
        "n: int = 3  # a\nn: int = 4  # b",
        "import os",
        "n: int = " + "-" * 5000 + "1  # a",
        "#" * 60_000,
        "é" * 10,
        "n: int = 3  # a\f\nif True:",
    ],
    ids=lambda source: source[:25],
)
def test_a_parameters_cell_that_is_no_such_thing(
    make_book: MakeBook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
) -> None:
    project = make_book("1", parameters=source)
    monkeypatch.chdir(project.root)
    if "#" * 99 not in source:
        assert "small.ipynb" in told(capsys, "book")
    else:
        told(capsys, "parameters", "small")


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", '{"cells": 3}', "[" * 20000, '{"nbformat": 4}', '{"a": ' * 3000, "\udcff"],
    ids=lambda content: content[:12],
)
def test_a_chapter_that_is_no_notebook(
    make_book: MakeBook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str,
) -> None:
    project = make_book("1")
    monkeypatch.chdir(project.root)
    (project.book / "small.ipynb").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert "small.ipynb: is not a notebook" in told(capsys, "book")
    assert "small.ipynb: is not a notebook" in told(capsys, "run", "small")


@pytest.mark.parametrize(
    "value",
    [
        "(" * 5000 + "1" + ")" * 5000,
        "9" * 5000,
        "[" * 5000,
        "\x1b[2J",
        "a\nb",
        "{[]: 1}",
        "-" * 9999,
    ],
    ids=lambda value: repr(value[:6]),
)
def test_a_value_on_the_command_line(
    make_book: MakeBook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    value: str,
) -> None:
    monkeypatch.chdir(make_book("1", parameters="n: int = 3  # a number").root)
    assert "parameter 'n' of chapter small" in told(capsys, "run", "small", "-p", f"n={value}")
    told(capsys, "run", "small", "-p", f"{value}=1")
    told(capsys, "run", value)
    told(capsys, "book", value)


def test_places_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said before anything is read or computed, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    Path("m.csv").write_text("a,b,1\n")
    Path("s.yml").write_text("depth: 2\n")
    Path(".m-unfinished").write_text("precious")
    Path("circle").symlink_to("circle")
    os.mkfifo("pipe.csv")
    before = sorted(os.listdir())
    assert "move it" in told(capsys, "complete", "m.csv")
    sweep = ("sweep", "s.yml", "--out")
    assert "is a device or a pipe" in told(capsys, *sweep, "pipe.csv", "--force")
    assert "does not exist" in told(capsys, *sweep, "s.yml/o.csv")
    assert "--output m.csv/x" in told(capsys, "complete", "m.csv", "--output", "m.csv/x")
    assert "--output circle" in told(capsys, "complete", "m.csv", "--output", "circle")
    for cache in ("s.yml", "s.yml/chunks/here", "pipe.csv"):
        assert "is not a folder" in told(capsys, *sweep, "o.csv", "--cache", cache)
    assert sorted(os.listdir()) == before
    assert Path(".m-unfinished").read_text() == "precious"


def test_a_header_that_claims_more_than_any_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    size = 10**17
    Path("x.mtx").write_text(
        f"%%MatrixMarket matrix coordinate real general\n{size} {size} 2\n1 1 1\n2 2 2\n"
    )
    told(capsys, "complete", "x.mtx")


def test_memory_that_does_not_suffice_is_said_in_one_line(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_book("1").root)

    def fails(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate\n9 TiB")

    monkeypatch.setattr(module, "build_book", fails)
    assert main(["book"]) == 1
    said = "dmf: this needs more memory than there is (Unable to allocate 9 TiB)\n"
    assert capsys.readouterr().err == said


def test_a_patience_that_is_no_number(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_book("1").root)
    assert "nan: give a number above 0" in told(capsys, "book", "--patience", "nan")


# --- the readers, with whatever hypothesis finds --------------------------------------------------

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["flow", "sensing", "float32", 10**400, -1, 0]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
names = st.sampled_from([*DEFAULTS, "grids", "runs", "trajectories", "times", "points", "until"])
specs = st.dictionaries(names, plain | st.lists(st.dictionaries(names, plain)), max_size=5)
many = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def only_our_error(read: Callable[[], Any]) -> None:
    """It ends well or with the error of bad input, in one line, and soon."""
    start = time.process_time()
    with contextlib.suppress(InputError):
        read()
    assert time.process_time() - start < 5


@many
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_yaml_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.yml").write_bytes(content)
    only_our_error(lambda: read_yaml(tmp_path / "x.yml"))


def test_a_file_that_is_too_large_or_none_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.yml"
    with path.open("wb") as file:
        file.truncate(10**13)  # takes no room on the disk
    with pytest.raises(InputError, match="is larger than 10 MB"):
        read_yaml(path)
    monkeypatch.setattr(Path, "read_bytes", None)
    for other, words in ((Path("/dev/zero"), "is not a file"), (tmp_path, "is not a file")):
        with pytest.raises(InputError, match=words):
            read_yaml(other)


@many
@given(spec=specs | plain)
def test_specs_of_any_shape(tmp_path: Path, spec: Any) -> None:
    (tmp_path / "x.yml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    only_our_error(lambda: read_spec(tmp_path / "x.yml"))


ROW = {
    "id": "a-row",
    "kind": "ours",
    "group": "Numbers",
    "paper": "Section 1",
    "statement": "It is.",
    "expected": "3",
    "rule": {"range": [1, 2]},
    "verdict": "reproduced",
    "chapter": "small",
}
rules = st.dictionaries(
    st.sampled_from(["range", "ratio", "order", "exponent", "bound_above", "bound_below", "true"]),
    plain,
    max_size=2,
)
rows = st.fixed_dictionaries({}, optional=dict.fromkeys(ROW, plain) | {"rule": plain | rules}).map(
    lambda changed: ROW | changed
)


@many
@given(ledger=st.lists(rows | plain, max_size=3) | plain)
def test_ledgers_of_any_shape(tmp_path: Path, ledger: Any) -> None:
    (tmp_path / "x.yml").write_text(yaml.safe_dump(ledger), encoding="utf-8")
    with contextlib.suppress(ValueError):
        load(tmp_path / "x.yml")


@many
@given(content=plain | st.lists(st.dictionaries(st.sampled_from(["verdict", "id", "kind"]), plain)))
def test_measured_claims_of_any_shape(tmp_path: Path, content: Any) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content, default=str), encoding="utf-8")
    only_our_error(lambda: measured.read(tmp_path / "x.json"))


lines = st.lists(
    st.sampled_from(["n: int = 3  # a", "x: list[", "(", ")", "'", '"""', "\\", "\t", "é: str = "])
    | st.text(max_size=20),
    max_size=6,
).map("\n".join)


@many
@given(source=lines)
def test_parameters_cells_of_any_text(source: str) -> None:
    cell = new_code_cell(source, metadata={"tags": ["parameters"]})
    only_our_error(lambda: parameters.read(new_notebook(cells=[cell]), "x.ipynb"))


@many
@given(text=st.text(max_size=30))
def test_assignments_of_any_text(text: str) -> None:
    cell = new_code_cell(
        "n: int = 3  # a\nx: list[float] | None = None  # b\ns: str = ''  # c",
        metadata={"tags": ["parameters"]},
    )
    known = parameters.read(new_notebook(cells=[cell]), "x.ipynb")
    for name in ("n", "x", "s", text):
        only_our_error(lambda name=name: parameters.given("small", known, [f"{name}={text}"]))


@many
@given(value=st.text(max_size=30))
def test_values_in_pages_are_text(value: str) -> None:
    """No sign of a value ends its code span, its cell or its line."""
    from markdown_it import MarkdownIt

    shown = parameters.as_code(value)
    rendered = MarkdownIt().renderInline(shown)
    assert "\n" not in shown
    assert rendered.startswith("<code>")
    assert rendered.endswith("</code>")
    assert rendered.count("<") == 2
    known = {"n": parameters.Parameter("n", "str", value, value)}
    for line in parameters.as_markdown(known, {"n": f"{value}|"}):
        assert "<img" not in line
        assert "\n" not in line


def test_markup_in_a_quick_file_is_text(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "a`</code><img src=x onerror=alert(1)>`|b"
    project = make_book(
        "1",
        parameters='s_seed: str = "x"  # a <img src=y onerror=alert(2)> text',
        quick=f"s_seed: {json.dumps(evil)}",
    )
    monkeypatch.chdir(project.root)
    assert main(["book", "--quick"]) == 0
    html = (project.at_size(quick=True).html / "small.html").read_text(encoding="utf-8")
    assert "<img src=x" not in html
    assert "<img src=y" not in html
    assert "onerror=alert(1)&gt;" in html
    cells = nbformat.read(project.at_size(quick=True).executed / "small.ipynb", as_version=4).cells
    assert "onerror" in cells[-1].source
    assert Chapter(project.at_size(quick=True), "small").values == {"s_seed": evil}
