"""The ``dmf`` command: bad input, failing chapters, second execution, sizes."""

from __future__ import annotations

import io
import json
import re
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from dmf_utils.cli import main as main_module
from dmf_utils.cli.main import main
from dmf_utils.publishing import (
    build as book_module,
    chapter as chapter_module,
    execution,
    parameters,
    terminal as progress_module,
)
from dmf_utils.publishing.chapter import Chapter
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.terminal import Display, clock, read_loop

ROOT = Path(__file__).resolve().parents[2]
MakeBook = Callable[..., Project]
PARAMETERS = """\
n: int = 3  # rows and columns
start: float = 0.1  # Frobenius norm of the product matrix at time 0
depths: list[int] = [2, 3]  # numbers of factors
file: str | None = None  # a file to read
strict: bool = False  # whether to stop at the first
"""
LEDGER = """\
- id: small-claim
  group: Numbers
  kind: paper
  paper: Section 1
  statement: The number $n$ is large.
  expected: "3"
  rule: {bound_below: 3}
  verdict: reproduced
  chapter: small
"""
RECORD = "from dmf_utils import claims\nclaims.record('small-claim', n)"


KERNEL = """\
import gc, sys
from myst_nb import glue
glue('threshold', gc.get_threshold()[0])
assert gc.get_threshold()[0] == 20_000
assert 'lark' not in sys.modules
print(sys.executable, any(p.endswith('publishing') for p in sys.path))
"""


@pytest.fixture
def small_book(make_book: MakeBook, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = make_book("print('n is', n)", parameters=PARAMETERS, quick="n: 2\n")
    monkeypatch.chdir(project.root)
    return project


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*details: object) -> None:
        raise AssertionError("a chapter was executed")

    monkeypatch.setattr(execution, "run_papermill", refuse)
    monkeypatch.setattr(main_module, "run_papermill", refuse)


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "large"], "chapter 'large': unknown, choose one of small"),
        (["run", "small", "-p", "m=3"], "parameter 'm': chapter small has no such parameter"),
        (["run", "small", "-p", "n=three"], "'n' of chapter small: got 'three', give int (rows"),
        (["run", "small", "-p", "n=2.5"], "got 2.5, give int"),
        (["run", "small", "-p", "n=true"], "got True, give int"),
        (["run", "small", "-p", "n="], "got '', give int"),
        (["run", "small", "-p", "n"], "-p 'n': give NAME=VALUE"),
        (["run", "small", "-p", "=3"], "-p '=3': give NAME=VALUE"),
        (["run", "small", "-p", "n=1", "-p", "n=2"], "n is given twice"),
        (["run", "small", "-p", "start=inf"], "got 'inf', give float"),
        (["run", "small", "-p", "start=1e999"], "got inf, give float"),
        (["run", "small", "-p", "depths=[2, 'x']"], "got [2, 'x'], give list[int]"),
        (["run", "small", "-p", "strict=1"], "got 1, give bool"),
        (["run", "small", "--output", "out.txt"], "must end in .ipynb"),
        (["run", "small", "--output", "book/small.ipynb"], "is a source here, never an output"),
        (["book", "large"], "chapter 'large': unknown"),
        (["book", "intro"], "chapter 'intro': unknown"),
        (["parameters", "large"], "chapter 'large': unknown"),
        (["claims"], "run `dmf book` first"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    small_book: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(arguments) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("dmf: ")
    assert complaint.count("\n") == 1
    assert words in complaint


@pytest.mark.parametrize("arguments", [[], ["sing"], ["run"], ["book", "--fast"]])
def test_an_unknown_command_or_option_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("dmf: ")
    assert complaint.count("\n") == 1


def test_outside_a_project_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["book"]) == 2
    assert "change into the project's folder" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("n = 3  # rows", "write `name: type = value"),
        ("n: int = 3", "n has no comment"),
        ("n: int = 2 * m  # rows", "must be a plain value"),
        ("n: int = 0.5  # rows", "default 0.5 of n is not int"),
        ("n: complex = 1  # rows", "the type complex is not"),
    ],
)
def test_a_parameters_cell_that_is_not_in_order_is_refused(
    make_book: MakeBook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cell: str,
    words: str,
) -> None:
    monkeypatch.chdir(make_book("1", parameters=cell).root)
    assert main(["book"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"quick": "m: 2"}, "book/quick/small.yml: parameter 'm'"),
        ({"quick": "n: two"}, "book/quick/small.yml: parameter 'n' of chapter small: got 'two'"),
        ({"quick": "n"}, "must be a mapping"),
        ({"ledger": "- id: x"}, "claims.yml, row 1 (x): the field 'group' is missing"),
    ],
)
def test_wrong_files_of_the_book_are_bad_input(
    make_book: MakeBook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(make_book("1", parameters=PARAMETERS, **files).root)
    assert main(["book", "--quick"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n=5", 5),
        ("start=1", 1.0),
        ("start=1e-3", 1e-3),
        ("depths=[2, 4]", [2, 4]),
        ("depths=2,4", [2, 4]),
        ("depths=2", [2]),
        ("file=ratings.csv", "ratings.csv"),
        ("file=none", None),
        ("strict=true", True),
    ],
)
def test_values_are_read_as_their_types(small_book: Project, text: str, value: object) -> None:
    known = Chapter(small_book, "small").parameters
    (read,) = parameters.given("small", known, [text]).values()
    assert read == value
    assert type(read) is type(value)


def test_the_parameters_are_listed(small_book: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parameters", "small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=3) == ["n", "int", "3", "rows and columns"]
    assert len(lines) == 5


def test_run_executes_one_chapter_with_ones_own_parameters(
    small_book: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "small", "-p", "n=7", "--output", "mine.ipynb"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("mine.ipynb")
    assert _printed(small_book.root / "mine.ipynb") == "n is 7\n"
    assert main(["run", "small", "--quick"]) == 0
    assert _printed(small_book.at_size(quick=True).build / "single" / "small.ipynb") == "n is 2\n"
    assert not small_book.html.exists()


def _printed(path: Path) -> str:
    return "".join(
        output.text
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )


def test_chapters_are_executed_in_the_kernel_that_begins_sooner(make_book, monkeypatch) -> None:
    project = make_book(KERNEL)
    monkeypatch.chdir(project.root)
    assert main(["run", "small"]) == 0
    executed = nbformat.read(project.root / "_build" / "single" / "small.ipynb", 4)
    (said,) = [o.text for cell in executed.cells for o in cell.get("outputs", []) if "text" in o]
    assert said.split() == [sys.executable, "False"]
    assert executed.metadata.kernelspec.name == "python3"


def test_a_second_build_executes_nothing_and_a_change_executes_what_changed(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_book("print('n is', n)", parameters=PARAMETERS)
    monkeypatch.chdir(project.root)
    executed: list[str] = []
    papermill, jupyter_book = execution.run_papermill, book_module.site.build

    def counting_papermill(chapter: Chapter, *rest: object) -> None:
        executed.append(chapter.name)
        papermill(chapter, *rest)

    def counting_jupyter_book(project: Project) -> None:
        executed.append("pages")
        jupyter_book(project)

    monkeypatch.setattr(execution, "run_papermill", counting_papermill)
    monkeypatch.setattr(book_module.site, "build", counting_jupyter_book)

    def build() -> list[str]:
        executed.clear()
        assert main(["book"]) == 0
        return list(executed)

    assert build() == ["small", "pages"]
    page = (project.html / "small.html").read_text(encoding="utf-8")
    assert "n is 3" in page
    assert "the paper’s" in page
    assert "dmf-quick" not in page
    assert capsys.readouterr().out.splitlines()[-1] == str(project.html / "index.html")
    assert build() == []

    make_book("print('n is', n)", parameters=PARAMETERS, text="Another text.")
    assert build() == ["pages"]  # the text is new, the outputs are those of the run
    page = (project.html / "small.html").read_text(encoding="utf-8")
    assert "Another text." in page
    assert "n is 3" in page

    make_book("print('n was', n)", parameters=PARAMETERS, text="Another text.")
    assert build() == ["small", "pages"]


def test_what_the_cells_import_decides_the_key(
    make_book: MakeBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = ("from dmf_utils import gradient_flow", "%matplotlib inline", "n = 3")
    project = make_book(*cells, parameters=PARAMETERS, quick="n: 2\n")
    package = tmp_path / "dmf_utils"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(chapter_module.PACKAGE, package, ignore=ignored)
    monkeypatch.setattr(chapter_module, "PACKAGE", package)

    def key(size: Project = project) -> str:
        return Chapter(size, "small").key()

    def edit(name: str) -> str:
        path = package / name
        path.write_text(path.read_text() + "# another line\n")
        return key()

    first = key()
    for name in ("publishing/site.py", "plotting.py", "sweep/table.py", "claims/rules.py"):
        assert edit(name) == first, name
    for name in ("flow/integration.py", "factorization/product.py", "_support/checks.py"):
        before = key()
        assert edit(name) != before, name
    assert key(project.at_size(quick=True)) != key()
    before = key()
    with monkeypatch.context() as other_versions:
        other_versions.setattr(chapter_module, "_pinned", lambda path: {"numpy": "0"})
        assert key() != before
    make_book(*cells[:2], "n = 4", parameters=PARAMETERS)
    assert key() != before


def test_a_chapter_that_imports_what_is_not_there_is_refused(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_book("from dmf_utils import gradient_flaw")
    monkeypatch.chdir(project.root)
    assert main(["book"]) == 2
    assert "small.ipynb: small imports 'gradient_flaw' from dmf_utils" in capsys.readouterr().err


def test_the_quick_build_has_a_tree_of_its_own(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_book(RECORD, parameters=PARAMETERS, quick="n: 2", ledger=LEDGER)
    monkeypatch.chdir(project.root)
    assert main(["book", "--quick"]) == 0  # its verdict is worse, but does not count
    assert not project.html.exists()
    assert not project.claims.exists()
    quick = project.at_size(quick=True)
    (row,) = json.loads(quick.claims.read_text(encoding="utf-8"))
    assert (row["measured"], row["verdict"]) == (2, "not reproduced")
    cells = nbformat.read(quick.executed / "small.ipynb", as_version=4).cells
    assert [cell.metadata.get("tags") for cell in cells[1:3]] == [
        ["parameters"],
        ["injected-parameters", "hide-input"],
    ]
    for name in ("small", "intro"):
        assert "dmf-quick" in (quick.html / f"{name}.html").read_text(encoding="utf-8")
    assert main(["claims", "--quick"]) == 0


def test_a_worse_verdict_fails_the_build(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_book(RECORD, parameters=PARAMETERS, ledger=LEDGER)
    monkeypatch.chdir(project.root)
    assert main(["book"]) == 0
    assert main(["claims"]) == 0
    assert "Claim of the paper: 1 row, 1 reproduced" in capsys.readouterr().out
    before = (project.html / "small.html").read_bytes()

    (project.book / "claims.yml").write_text(LEDGER.replace("bound_below: 3", "bound_below: 4"))
    assert main(["book"]) == 1
    assert "small-claim: not reproduced, accepted is reproduced" in capsys.readouterr().err
    assert (project.html / "small.html").read_bytes() == before
    assert main(["claims"]) == 1

    accepted = LEDGER.replace("bound_below: 3", "bound_below: 4").replace(
        "verdict: reproduced", "verdict: not reproduced"
    )
    (project.book / "claims.yml").write_text(accepted)
    assert main(["book"]) == 0  # judged again without a new run
    assert "✗</span> not reproduced" in (project.html / "small.html").read_text(encoding="utf-8")
    assert main(["claims"]) == 0


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("1 / 0", "small, cell 2: ZeroDivisionError: division by zero"),
        ("import sys\nprint('odd', file=sys.stderr)", "small, cell 2: wrote on standard error"),
        ("import warnings\nwarnings.warn('odd')", "small, cell 2: wrote on standard error"),
        ("from dmf_utils import claims\nclaims.record('x', 1)", "small, cell 2: ValueError: id:"),
    ],
)
def test_a_failing_chapter_is_named_and_leaves_the_pages_in_place(
    make_book: MakeBook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cell: str,
    words: str,
) -> None:
    project = make_book(cell)
    monkeypatch.chdir(project.root)
    project.html.mkdir(parents=True)
    (project.html / "small.html").write_text("before")
    assert main(["book"]) == 1
    assert words in capsys.readouterr().err
    assert (project.html / "small.html").read_text() == "before"
    assert Chapter(project, "small").last is None


def test_a_warning_of_jupyter_book_is_an_error_and_leaves_the_pages_in_place(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_book("1", text="See {ref}`nowhere`.")
    monkeypatch.chdir(project.root)
    project.html.mkdir(parents=True)
    (project.html / "small.html").write_text("before")
    assert main(["book"]) == 1
    complaint = capsys.readouterr().err
    assert "book/small.ipynb" in complaint
    assert "nowhere" in complaint
    assert (project.html / "small.html").read_text() == "before"


FALSE_PAPERMILL = """\
#!{python}
import pathlib, sys, runpy
count = pathlib.Path({folder!r}) / "count"
count.write_text(count.read_text() + "x" if count.exists() else "x")
if len(count.read_text()) <= {failures}:
    sys.exit({words!r})
del sys.argv[0]
runpy.run_module("papermill", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("failures", "words", "attempts", "status"),
    [
        (1, "zmq.error.ZMQError: Address already in use", 2, 0),
        (2, "zmq.error.ZMQError: Address already in use", 2, 1),
        (1, "No such kernel", 1, 1),
    ],
)
def test_a_taken_port_is_tried_once_more(
    small_book: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failures: int,
    words: str,
    attempts: int,
    status: int,
) -> None:
    script = tmp_path / "python"
    script.write_text(
        FALSE_PAPERMILL.format(
            python=sys.executable, folder=str(tmp_path), failures=failures, words=words
        )
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(execution, "PROGRAM", [str(script)])
    assert main(["run", "small"]) == status
    assert len((tmp_path / "count").read_text()) == attempts
    if status:
        assert words in capsys.readouterr().err


def test_an_interrupt_stops_the_kernel_and_says_how_to_go_on(
    make_book: MakeBook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import psutil

    note = tmp_path / "kernel"
    cell = (
        "import os, pathlib, time\n"
        f"pathlib.Path({str(note)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(300)"
    )
    monkeypatch.chdir(make_book(cell).root)

    def interrupt(*details: object) -> None:
        if note.exists() and note.read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "show", interrupt)
    assert main(["book"]) == 130
    assert "goes on from there" in capsys.readouterr().err
    assert not psutil.pid_exists(int(note.read_text()))


def test_small_chapters_run_two_at_a_time_and_one_that_fails_stops_the_other(
    make_book: MakeBook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import psutil

    note = tmp_path / "kernel"
    # Fails only when the other one is at work, which it never is when they run in turn.
    waits = (
        "import pathlib, time\n"
        "end = time.monotonic() + 60\n"
        f"while not (seen := pathlib.Path({str(note)!r})).exists() and time.monotonic() < end:\n"
        "    time.sleep(0.1)\n"
        "raise RuntimeError(f'the other is at work: {seen.exists()}')"
    )
    project = make_book(waits)
    chapter = nbformat.read(project.book / "small.ipynb", as_version=4)
    chapter.cells[-1].source = (
        "import os, pathlib, time\n"
        f"pathlib.Path({str(note)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(300)"
    )
    nbformat.write(chapter, project.book / "other.ipynb")
    contents = project.book / "_toc.yml"
    contents.write_text(contents.read_text() + "- file: other\n")
    monkeypatch.chdir(project.root)
    assert main(["book", "--quick"]) == 1
    assert "the other is at work: True" in capsys.readouterr().err
    assert not psutil.pid_exists(int(note.read_text()))
    assert not list((project.build / "quick").rglob("other.json"))


def test_time_left_counts_what_is_done_together_once() -> None:
    stream = io.StringIO()
    progress = Display({"a": 40.0, "b": 30.0, "c": 30.0}, stream, at_once=2)
    progress.begin("a")
    assert stream.getvalue() == "[1/3] a · 0:00 elapsed, about 1:10 left\n"
    progress.end("executed")
    progress.begin("b")
    assert stream.getvalue().endswith("[2/3] b · 0:00 elapsed, about 0:45 left\n")


@pytest.mark.usefixtures("nothing_runs")
def test_two_builds_do_not_write_into_one_another(
    small_book: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with book_module.locked(small_book):
        assert main(["book"]) == 2
    assert "another build is writing there" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_runs")
def test_a_chapter_that_is_not_asked_for_needs_a_run_of_its_own(
    small_book: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    chapter = nbformat.read(small_book.book / "small.ipynb", as_version=4)
    nbformat.write(chapter, small_book.book / "other.ipynb")
    contents = small_book.book / "_toc.yml"
    contents.write_text(contents.read_text() + "- file: other\n")
    assert main(["book", "small"]) == 2
    assert "'other' was never executed" in capsys.readouterr().err


def test_progress_of_a_long_loop_is_read_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "progress"
    assert read_loop(path) is None
    path.write_text(
        '{"done": 1, "total": 4, "label": "runs"}\n{"done": 3, "total": 4, "label": "runs"}\n'
    )
    assert read_loop(path) == (3, 4, "runs")
    path.write_text('{"done": 1, "tot')
    assert read_loop(path) is None

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    progress = Display({"first": 30.0, "second": 60.0}, sys.stdout)
    progress.begin("first")
    progress.show("cell 2/9 fig-flow", (3, 4, "runs"))
    shown = capsys.readouterr().out
    assert "[1/2] first · cell 2/9 fig-flow · runs 3/4 · 0:00 elapsed, about 1:30 left" in shown


def test_the_time_left_follows_the_speed_of_a_long_loop(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    progress = Display({"first": 10.0, "second": 60.0}, sys.stdout)
    progress.begin("first")
    progress.show("cell 2/9", (0, 40, "runs"))
    now[0] = 5.0  # the longest runs come first: 1 of 40 says little of the others
    progress.show("cell 2/9", (1, 40, "runs"))
    assert "0:05 elapsed, about 1:24 left" in capsys.readouterr().out
    now[0] = 30.0
    progress.show("cell 2/9", (10, 40, "runs"))
    assert "0:30 elapsed, about 2:30 left" in capsys.readouterr().out


def test_a_log_gets_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Display({"first": 30.0})
    progress.begin("first")
    for _ in range(100):
        progress.show("cell 1/9")
    progress.end("executed")
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3661, "1:01:01")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("arguments", [["--help", "small"], ["small", "--help"], ["-h", "small"]])
def test_the_help_of_run_lists_a_chapters_parameters(
    small_book: Project, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["run", *arguments]) == 0
    told = capsys.readouterr().out
    assert "NAME=VALUE" in told
    assert main(["parameters", "small"]) == 0
    assert told.endswith(f"\nparameters of small:\n{capsys.readouterr().out}")
    assert re.search(r"^depths +list\[int\] +\[2, 3\] +numbers of factors$", told, re.MULTILINE)


def test_the_help_of_run_needs_no_chapter_and_refuses_an_unknown_one(
    small_book: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--help"]) == 0
    assert "\nparameters of" not in capsys.readouterr().out
    assert main(["run", "--help", "large"]) == 2
    assert capsys.readouterr().err == "dmf: chapter 'large': unknown, choose one of small\n"


def test_a_pages_table_shows_defaults_and_what_differs(small_book: Project) -> None:
    known = Chapter(small_book, "small").parameters
    lines = parameters.as_markdown(known, {"n": 2, "strict": False})
    assert lines[0] == "| Parameter | Type | Default | Here | Meaning |"
    assert "| `n` | `int` | `3` | `2` | rows and columns |" in lines
    assert "| `strict` | `bool` | `False` |  | whether to stop at the first |" in lines
    assert r"| `file` | `str \| None` | `None` |  | a file to read |" in lines
    lines = parameters.as_markdown(known, {})
    assert lines[0] == "| Parameter | Type | Default | Meaning |"
    assert len(lines) == 2 + len(known)
    assert parameters.as_markdown({}, {}) == []


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is no project, with ratings of rank 1, some of them missing."""
    monkeypatch.chdir(tmp_path)
    lines = ["user,item,rating"]
    lines += [f"u{i},{j},{(i + 1) * (j + 2)}" for i in range(9) for j in range(7) if (i + j) % 3]
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_complete_writes_the_matrix_and_the_report(
    own_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_file.write_text(own_file.read_text(encoding="utf-8") + "u0,1,3\n", encoding="utf-8")
    command = ["complete", "ratings.csv", "--depth", "2", "--validation", "0", "--seed", "1"]
    command += ["--center", "none", "--fill-undetermined"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "dmf: warning: ratings.csv, line 44: given before with the same value" in told.err
    assert "ratings.csv: 9 × 7, 42 observed" in told.out
    assert re.search(r"^mean .*\ndepth 2 .*\nnuclear norm penalty ", told.out, re.MULTILINE)
    assert "completed matrix (depth 2): ratings-completed.csv" in told.out
    lines = (own_file.parent / "ratings-completed.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "user,item,rating,observed"
    assert len(lines) == 1 + 9 * 7
    for row, column, value, seen in (line.split(",") for line in lines[1:]):
        exact = (int(row[1:]) + 1) * (int(column) + 2)
        assert float(value) == pytest.approx(exact, abs=0 if seen == "1" else 0.5)
    report = (own_file.parent / "ratings-report.html").read_text(encoding="utf-8")
    assert "depths 2, " in report
    assert "validation 0.0" in report
    assert len(list(own_file.parent.iterdir())) == 3


def test_complete_takes_and_gives_an_array(
    own_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    array = np.outer(np.arange(1.0, 10), np.arange(2.0, 9))
    array[::3, ::2] = np.nan
    np.save("own.npy", array)
    assert main(["complete", "own.npy", "--depth", "3,2", "--center", "none"]) == 0
    assert main(["complete", "own.npy", "--depth", "2", "--center", "mean", "--output", "a/b"]) == 0
    for folder in (own_file.parent, own_file.parent / "a" / "b"):
        completed = np.load(folder / "own-completed.npy")
        assert np.array_equal(completed[~np.isnan(array)], array[~np.isnan(array)])
        assert not np.isnan(completed).any()
    assert "a/b/own-completed.npy" in capsys.readouterr().out


def test_complete_replaces_only_what_it_wrote(
    own_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["complete", "ratings.csv", "--depth", "1", "--center", "none"]
    for _ in range(2):  # its own files it writes anew
        assert main(command) == 0
    for name in ("ratings-completed.csv", "ratings-report.html"):
        path = own_file.parent / name
        path.write_text(path.read_text(encoding="utf-8") + "mine", encoding="utf-8")
        before = path.read_bytes()
        assert main(command) == 2
        complaint = capsys.readouterr().err
        assert "is not as dmf wrote it" in complaint
        assert "--force" in complaint
        assert path.read_bytes() == before
        assert main([*command, "--force"]) == 0
        assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.csv"], "none.csv: there is no such file"),
        (["ratings.csv", "--no-header"], "ratings.csv, line 1: the value 'rating' is not a number"),
        (["ratings.csv", "--columns", "user,film,rating"], "has no column 'film'"),
        (["ratings.csv", "--test", "1"], "test must be a share between 0 and 1"),
        (["ratings.csv", "--test", "0.001"], "0 can be test entries"),
        (["ratings.csv", "--seed", "-1"], "seed must be at least 0"),
        (["ratings.csv", "--hidden", "0"], "hidden must be at least 1"),
        (["ratings.csv", "--bounds", "1", "5"], "observed values lie outside"),
        (["ratings.csv", "--missing", "few"], "give numbers such as 0 or -1,99, or none"),
        (["ratings.csv", "--method", "magic"], "method must be one of mean"),
        (["ratings.csv", "--output", "ratings.csv"], "ratings.csv"),
        *(
            (["ratings.csv", "--depth", depth], "give a number from 1 on, or a list such as 2,4")
            for depth in ("0", "two", "2,2", "1.5", "")
        ),
    ],
)
def test_complete_refuses_bad_input_in_one_line(
    own_file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["complete", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert complaint.splitlines()[-1].startswith("dmf: ")
    assert words in complaint.splitlines()[-1]
    assert [path.name for path in own_file.parent.iterdir()] == ["ratings.csv"]


def test_an_interrupted_completion_keeps_its_finished_runs(
    own_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*details: object, **more: object) -> None:
        raise KeyboardInterrupt

    command = ["complete", "ratings.csv", "--depth", "2", "--center", "none"]
    with monkeypatch.context() as patch:
        patch.setattr("dmf_utils.user_data.methods.soft_impute_path", interrupt)
        assert main(command) == 130
    assert "no result was written. Finished runs are kept" in capsys.readouterr().err
    names = sorted(path.name for path in own_file.parent.iterdir())
    assert names == [".ratings-unfinished", "ratings.csv"]
    assert main(command) == 0
    assert "2 finished runs of an interrupted computation were used" in capsys.readouterr().err
    names = sorted(path.name for path in own_file.parent.iterdir())
    assert names == ["ratings-completed.csv", "ratings-report.html", "ratings.csv"]


def test_complete_speaks_to_a_terminal_that_knows_ascii_only(
    own_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main(["complete", "ratings.csv", "--depth", "1", "--center", "none"]) == 0
        stream.flush()
    assert "9 x 7, 42 observed" in stream.buffer.getvalue().decode("ascii")


def test_a_parameter_that_names_a_file_is_taken_from_where_the_user_is(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = 'own_file: str = ""  # a file to read'
    project = make_book("print(open(own_file).read())", parameters=cell)
    folder = project.root / "elsewhere"
    folder.mkdir()
    (folder / "mine.csv").write_text("what it says", encoding="utf-8")
    monkeypatch.chdir(folder)
    assert main(["run", "small", "-p", "own_file=none.csv"]) == 2
    assert "none.csv: there is no such file" in capsys.readouterr().err
    assert main(["run", "small", "-p", "own_file=mine.csv"]) == 0
    executed = project.build / "single" / "small.ipynb"
    assert "what it says" in executed.read_text(encoding="utf-8")
