"""Handouts: solutions taken out of everything, places to answer in, and PDFs on both papers."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pypdfium2
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dmf_utils._support.errors import InputError
from dmf_utils.cli.main import main
from dmf_utils.publishing.build import build_book
from dmf_utils.publishing.chapter import Chapter
from dmf_utils.publishing.project import Project
from dmf_utils.teaching import handouts, pdf
from dmf_utils.teaching.leak_check import LeakError, SolutionWatch
from dmf_utils.teaching.solutions import (
    Answer,
    SolutionError,
    Stripped,
    blank_cells,
    lined_space,
    strip,
)
from dmf_utils.teaching.student_notebook import student_notebook, with_plain_boxes, with_values

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
CHAPTERS = [name for name in Project(ROOT).chapters() if name != "claims"]
COURSE = "Mathé 101 <b>A & B</b> “$x$” 100 % #3"
needs_chromium = pytest.mark.skipif(
    pdf.find_chromium() is None, reason="no Chromium: install it, for example with apt-get"
)


def notebook(*cells: NotebookNode) -> NotebookNode:
    return new_notebook(cells=list(cells), metadata=KERNEL)


def text(source: str, id: str = "text", **metadata: object) -> NotebookNode:
    return new_markdown_cell(source, id=id, metadata=metadata)


def code(source: str, id: str = "code", outputs: tuple = (), **metadata: object) -> NotebookNode:
    return new_code_cell(source, id=id, outputs=list(outputs), metadata=metadata)


def picture(content: str = "aGVsbG8=") -> NotebookNode:
    return new_output("display_data", data={"image/png": content, "text/plain": "<Figure>"})


def stripped(*cells: NotebookNode) -> Stripped:
    return strip(notebook(*cells), "small", blank_cells)


def shown(result: Stripped) -> list[tuple[str, str]]:
    return [(cell.id, cell.source) for cell in result.notebook.cells]


ANSWER = "*Write your answer here.*"
BLANK = "# YOUR CODE HERE"


@pytest.mark.parametrize("fence", ["```", "````", ":::", "~~~"])
def test_a_gated_solution_goes_with_its_cells_and_outputs(fence: str) -> None:
    before = text(
        f"Before.\n\n{fence}{{solution-start}} ex\n:class: dropdown\n{fence}\nIt is 7.", "a"
    )
    after = text(f"So 7.\n\n{fence} {{solution-end}}\n{fence}\n\nAfter.", "d")
    result = stripped(before, code("print(7)", "b", (picture(),)), code("7 + 0", "c"), after)
    assert shown(result) == [
        ("a", "Before."),
        ("answer-ex", ANSWER),
        ("b", BLANK),
        ("d", "After."),
    ]
    (answer,) = result.answers
    assert "It is 7." in "\n".join(answer.texts)
    assert "So 7." in "\n".join(answer.texts)
    assert {"print(7)", "7 + 0"} <= set(answer.texts)
    assert answer.images == ["aGVsbG8="]


def test_a_solution_block_goes_and_its_neighbours_stay() -> None:
    source = "One.\n\n````{solution} ex\n:class: dropdown\n```\ncode\n```\nTwo.\n````\nThree.\n"
    result = stripped(text(source))
    assert shown(result) == [("text", "One."), ("answer-ex", ANSWER), ("text-part-2", "Three.")]
    assert "Two." in result.answers[0].texts[0]


def test_the_notebook_that_is_read_stays_as_it_was() -> None:
    source = notebook(text("```{solution} ex\nIt is 7.\n```"), code("1 + 1"))
    copy = nbformat.from_dict(source)
    strip(source, "small", blank_cells)
    assert source == copy


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([text("```{solution-start} ex\n```\n7")], "small: the solution of ex has no end"),
        ([text("```{solution-end}\n```")], r"cell text: \{solution-end\} without"),
        (
            [text("```{solution} ex\n7")],
            r"cell text: \{solution\} is not closed; close it with ```",
        ),
        ([text(":::{solution-start} a\n:::\n:::{solution-start} b\n:::")], "inside that of a"),
        ([code("### BEGIN SOLUTION\n7")], "cell code: marks a solution by a tag or by BEGIN"),
        ([code("7\n  # END SOLUTION")], "cell code: marks a solution"),
        ([code("7", tags=["solution"])], "put it between {solution-start} and {solution-end}"),
        ([text("7", tags=["solution"])], "cell text: marks a solution"),
        ([text(":::{question} Which?\n- [x] One.\n  Yes.")], r"\{question\} is not closed"),
        (
            [text(":::{admonition} Predict first\nWhich?\n:::\n:::{dropdown} It is 7\n7\n:::")],
            "cell text: a prompt to predict has no answer",
        ),
    ],
)
def test_a_solution_without_beginning_or_end_is_refused(
    cells: list[NotebookNode], words: str
) -> None:
    with pytest.raises(SolutionError, match=words):
        stripped(*cells)


@pytest.mark.parametrize("title", ["Answer", "answer", "Answers", "Answer: seven"])
@pytest.mark.parametrize(
    "opening",
    [
        ":::{{dropdown}} {}",
        "```{{dropdown}} {}",
        ":::{{admonition}} {}\n:class: dropdown",
        ":::{{admonition}} {}\n:name: here\n:class: tip dropdown",
        "  ::: {{toggle}} {}",
    ],
)
def test_an_answer_in_a_drop_down_goes(title: str, opening: str) -> None:
    begin = opening.format(title)
    fence = begin.split("{")[0].rstrip()
    result = stripped(text(f"Guess.\n{begin}\nIt is 7.\n{fence}\nOn."))
    assert shown(result) == [("text", f"Guess.\n\n{ANSWER}\n\nOn.")]
    assert result.answers[0].texts[0].split("\n")[-1] == "It is 7."


@pytest.mark.parametrize(
    "source",
    [":::{dropdown} Proof\n7\n:::", ":::{admonition} Answer to critics\n:class: tip\n7\n:::"],
)
def test_another_drop_down_stays(source: str) -> None:
    assert shown(stripped(text(source))) == [("text", source)]


def test_a_question_within_a_solution_goes_with_it() -> None:
    inner = ":::{question} Which?\n- [x] One.\n  Yes.\n:::\n:::{dropdown} Answer\nIt is 7.\n:::"
    result = stripped(
        text(f"~~~{{solution-start}} ex\n~~~\n{inner}\n~~~{{solution-end}}\n~~~\nEnd.")
    )
    assert [source for _, source in shown(result)] == [ANSWER, "End."]
    assert {"Which?", "It is 7."} <= set(result.answers[0].texts)


def test_a_longer_solution_gets_more_lines_to_answer() -> None:
    def lines(words: int) -> int:
        (cell,) = lined_space(Answer("ex", ["word " * words]))
        return cell.source.count("<span>")

    assert lines(1) == 4
    assert lines(1) < lines(50) < lines(100) < lines(1000) == lines(10_000)


def test_parameters_are_replaced_where_they_stand() -> None:
    source = (
        'a: int = 3  # größe "a"\nβ: list[int] = [\n    1,\n    2,\n]  # two\nc: str = "#"  # word'
    )
    changed = with_values(source, {"a": 5, "β": [7], "c": "d"})
    assert changed == "a: int = 5  # größe \"a\"\nβ: list[int] = [7]  # two\nc: str = 'd'  # word"
    assert with_values(source, {}) == source


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        (
            "```{exercise} Try it\n:label: ex\n\nDo.\n```\nAfter.",
            "**Exercise. Try it**\n\nDo.\nAfter.",
        ),
        (
            ":::{exercise-start}\n:label: ex\n:::\nDo.\n```\n:::\n```\n:::{exercise-end}\n:::",
            "**Exercise.**\n\nDo.\n```\n:::\n```",
        ),
        ("````{exercise} A\n```\nx\n```\n````", "**Exercise. A**\n\n```\nx\n```"),
        ("No exercise.\n\n:::{note}\nx\n:::", "No exercise.\n\n:::{note}\nx\n:::"),
    ],
)
def test_a_notebook_shows_exercises_as_text(source: str, plain: str) -> None:
    assert with_plain_boxes(source) == plain


@pytest.mark.parametrize("name", CHAPTERS)
def test_each_chapter_has_exercises_and_a_clean_student_notebook(name: str) -> None:
    source = nbformat.read(ROOT / "book" / f"{name}.ipynb", as_version=4)
    result = student_notebook(Chapter(Project(ROOT), name))
    nbformat.validate(result.notebook)
    whole = "\n".join(cell.source for cell in source.cells)
    solved = [answer for answer in result.answers if answer.label in exercise_labels(whole)]
    assert len(solved) == len(re.findall(r"\{solution(?:-start)?\}", whole)) > 0
    kept = {cell.id: cell for cell in result.notebook.cells}
    assert len(kept) == len(result.notebook.cells)
    assert [cell.id for cell in source.cells if cell.id in kept] == [
        cell.id for cell in result.notebook.cells if cell.id in {cell.id for cell in source.cells}
    ]
    assert not any(cell.get("outputs") for cell in kept.values())
    for answer in result.answers:
        if answer.code_ids:
            assert kept[answer.code_ids[0]].source == BLANK
    del kept["student-notebook"]  # words of our own
    given = "\n".join(cell.source for cell in kept.values())
    assert "solution" not in "".join(re.findall(r"\{[\w:-]+\}", given))
    assert "{question}" not in given
    assert not re.search(r"^ *[-*] \[x\]", given, flags=re.MULTILINE | re.IGNORECASE)
    assert given.count("\n- [ ] ") == len(re.findall(r"^- \[[ x]\] ", whole, flags=re.MULTILINE))
    for words in secret_words(source):
        assert words not in given


def exercise_labels(whole: str) -> set[str]:
    return set(re.findall(r"^:label: *(\S+)", whole, flags=re.MULTILINE))


def secret_words(source: NotebookNode) -> set[str]:
    """Words that stand in answers of any kind, and nowhere else that a page takes from."""
    whole = "\n".join(cell.source for cell in source.cells)
    gated = re.compile(
        r"\{solution-start\}.*?\{solution-end\}|^(`{3,}|:{3,})\{solution\}.*?^\1$"
        r"|^(:{3,})\{dropdown\} Answer\n.*?^\2$"
        r"|^(:{3,})\{admonition\} Answer\n:class: dropdown\n.*?^\3$",
        flags=re.DOTALL | re.MULTILINE,
    )
    solutions = " ".join(found[0] for found in gated.finditer(whole))
    rest = gated.sub(" ", whole)
    assert "{solution" not in rest
    for asked in re.findall(r"^:::\{question\}.*?^:::$", rest, flags=re.DOTALL | re.MULTILINE):
        told = "\n".join(line for line in asked.split("\n") if line.startswith("  "))
        solutions += told
        rest = rest.replace(
            asked, "\n".join(asked.split("\n")[:1] + re.findall(r"^- .*", asked, re.M))
        )
    rest += "dropdown solution label answer question" + str(
        [cell.metadata for cell in source.cells]
    )
    rest += "".join((ROOT / "book" / name).read_text() for name in ("claims.yml", "references.bib"))
    rest = rest.casefold()
    return {word for word in re.findall(r"[a-z]{6,}", solutions) if word not in rest}


def test_a_student_notebook_runs_in_any_folder_within_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "student.ipynb"
    nbformat.write(student_notebook(Chapter(Project(ROOT), "norm_counterexamples")).notebook, path)
    command = [sys.executable, "-m", "papermill", path.name, "out.ipynb", "--no-progress-bar"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 60
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    code_cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code_cells)


SECRET = "wombats graze quietly beneath seven purple lanterns"
WATCHED = [Answer("ex", [f"Because {SECRET}."], ["aGVsbG8="]), Answer("b", ["return alpha * beta"])]


@pytest.fixture
def watch() -> SolutionWatch:
    return SolutionWatch(WATCHED, ["The seven purple lanterns hang there."])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", f"<p>Because {SECRET}.</p>"),
        ("a.html", "<p>wombats <b>graze</b>\n quietly&nbsp;beneath seven purple lanterns</p>"),
        (
            "a.html",
            "<pre><span>return</span> <span>alpha</span><span>*</span><span>beta</span></pre>",
        ),
        ("a.html", '<div class="solution dropdown admonition">7</div>'),
        ("a.md", "```{solution} ex\n```"),
        ("a.md", "Which?\n\n- [ ] One.\n- [x] Two."),
        ("a.md", ":::{question} Which?\n- [ ] One.\n:::"),
        ("a.html", '<details class="dmf-choice right"><summary>One.</summary></details>'),
        ("a.js", f'const told = ["{SECRET}"];'),
        ("a.md", "Wombats graze\nQUIETLY, *beneath* seven."),
        ("a.ipynb", nbformat.writes(notebook(code("return alpha * beta")))),
        ("a.ipynb", nbformat.writes(notebook(code("1", outputs=(picture("aGVs\nbG8="),))))),
        ("a.png", "hello"),
        ("searchindex.js", 'Search.setIndex({"terms": {"wombat": 0}, "titleterms": {}})'),
        ("searchindex.js", 'Search.setIndex({"terms": {}, "titleterms": {"alpha_x": 0}})'),
    ],
)
def test_what_is_left_of_a_solution_is_found(
    watch: SolutionWatch, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(LeakError, match=re.escape(str(tmp_path / name))):
        watch.check_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", "<p>wombats graze quietly</p><p>beneath seven purple lanterns</p>"),
        ("a.html", "<p>The solution: seven purple lanterns hang there.</p>"),
        ("a.ipynb", nbformat.writes(notebook(code("1", outputs=(picture("aGVsbG8h"),))))),
        ("searchindex.js", 'Search.setIndex({"terms": {"lantern": 0}, "titleterms": {"wall": 0}})'),
    ],
)
def test_what_the_book_says_itself_is_no_leak(
    watch: SolutionWatch, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert watch.check_folder(tmp_path) == 1


PARAMETERS = "n: int = 3  # rows and columns"
DRAW = "import matplotlib.pyplot as plt\nfigure = plt.figure(figsize=(2, 1))\nplt.plot([{}])"
CELLS = [
    text("# A small chapter\n\nIt begins. Then read {doc}`the first page <intro>`.", "title"),
    code(PARAMETERS, "parameters", tags=["parameters"]),
    code(DRAW.format("1, n"), "figure", mystnb={"image": {"alt": "A line."}}),
    text(
        "```{exercise-start} Why?\n:label: ex-gate\n```\nSay why $n$ is odd.\n"
        "```{exercise-end}\n```\n\n"
        f"```{{solution-start}} ex-gate\n:class: dropdown\n```\nBecause {SECRET}.",
        "exercise",
    ),
    code(f"{DRAW.format('4, 9')}\nprint('forty hungry badgers dig here tonight')", "solution"),
    text("```{solution-end}\n```", "solution-end"),
    text(
        ":::{exercise} How?\n:label: ex-block\nSay how.\n:::\n\n"
        ":::{solution} ex-block\n:class: dropdown\nCrocodiles that juggle eleven teapots.\n:::",
        "second",
    ),
    text(
        "::::{admonition} Predict first\n:class: tip\nWhich animal comes $n$ times?\n\n"
        ":::{admonition} Answer\n:class: dropdown\nThe ocelots, who never tire.\n:::\n::::\n\n"
        ":::{admonition} Before you look\n:class: tip\nAnd which one does not?\n:::\n\n"
        ":::{dropdown} Answer\nThe tapirs stay in bed until dusk.\n:::\n\n"
        ":::{question} Who is *quicker* by night?\n- [ ] The slow loris.\n"
        "  Only on Sundays, with a mongoose.\n- [x] The bat.\n  It has a wolverine:\n\n"
        "  $n = 7$, which is odd enough.\n:::\n\nThe end.",
        "prompts",
    ),
]
SECRETS = [
    "wombats",
    "badgers",
    "crocodiles",
    "juggle",
    "ocelots",
    "tapirs",
    "mongoose",
    "wolverine",
]
ASKED = [
    "which animal comes",
    "and which one does not",
    "who is quicker",
    "the slow loris",
    "the bat",
]
OF_A_TEXT_PAGE, OF_THE_TEACHERS = "hedgehogs", "porcupines"


@pytest.fixture(scope="module")
def class_book(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small book with solutions of each kind, executed and built."""
    root = tmp_path_factory.mktemp("class")
    for name in ("_config.yml", "requirements.txt"):
        shutil.copy(ROOT / name, root / name)
    book = root / "book"
    for name in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / name, book / name)
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n- file: small\n- file: teachers\n"
    )
    (book / "intro.md").write_text(
        "# A small book\n\nWith one chapter.\n\n```{exercise}\n:label: ex-text\nWho?\n```\n\n"
        "```{solution} ex-text\n:class: dropdown\n"
        f"Eleven {OF_A_TEXT_PAGE} that sing at noon.\n```\n\nEnd.\n"
    )
    (book / "teachers.md").write_text("# To teachers\n\nPlan.\n\n<!-- generated: lectures -->\n")
    (book / "lectures.yml").write_text(
        "goals: {}\nlectures:\n- title: One\n  question: Which?\n  minutes: 9\n"
        "  chapters: [small]\n  plan: [Wait.]\n"
        f"  exercises: {{ex-gate: Listen for {OF_THE_TEACHERS} in the answer of everyone.}}\n"
    )
    (book / "references.bib").write_text("")
    (book / "claims.yml").write_text("")
    nbformat.write(notebook(*CELLS), book / "small.ipynb")
    (book / "quick").mkdir()
    (book / "quick" / "small.yml").write_text("n: 5\n")
    project = Project(root)
    build_book(project)
    return project


@pytest.fixture(scope="module")
def made(class_book: Project) -> dict[str, Path]:
    return {path.name: path for path in handouts.make_handouts(class_book, course=COURSE)}


PDFS = [f"small-{version}{paper}.pdf" for version in handouts.VERSIONS for paper in pdf.PAPERS]


def pages_of(path: Path) -> list[str]:
    with pypdfium2.PdfDocument(path) as document:
        return [page.get_textpage().get_text_range() for page in document]


@needs_chromium
def test_there_is_a_student_notebook_and_four_pdfs(
    class_book: Project, made: dict[str, Path]
) -> None:
    assert sorted(made) == sorted(["small-student.ipynb", *PDFS])
    assert all(path.parent == class_book.build / "handouts" for path in made.values())
    assert all(path.stat().st_size > 0 for path in made.values())


@pytest.mark.usefixtures("made")
def test_the_student_notebook_is_small_empty_and_runs(class_book: Project, tmp_path: Path) -> None:
    path = class_book.build / "handouts" / "small-student.ipynb"
    student = nbformat.read(path, as_version=4)
    ids = [cell.id for cell in student.cells]
    assert ids == [
        *["title", "student-notebook", "parameters", "figure", "exercise"],
        *["answer-ex-gate", "solution", "second", "answer-ex-block", "prompts"],
    ]
    sources = {cell.id: cell.source for cell in student.cells}
    assert sources["parameters"] == "n: int = 5  # rows and columns"
    assert sources["solution"] == BLANK
    assert sources["prompts"] == (
        f"**Predict first**\n\nWhich animal comes $n$ times?\n\n{ANSWER}\n\n"
        f"**Before you look**\n\nAnd which one does not?\n\n{ANSWER}\n\n"
        "**Question.** Who is *quicker* by night?\n\n- [ ] The slow loris.\n- [ ] The bat.\n\n"
        "The end."
    )
    assert not any(cell.get("outputs") for cell in student.cells)
    command = [sys.executable, "-m", "papermill", str(path), str(tmp_path / "out.ipynb")]
    assert subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.usefixtures("made")
def test_no_solution_is_in_any_student_file(class_book: Project) -> None:
    folder = class_book.build / "handouts"
    files = [path for path in (folder / "student").rglob("*") if path.is_file()]
    files.append(folder / "small-student.ipynb")
    names = {path.name for path in files}
    assert OF_A_TEXT_PAGE in (class_book.html / "intro.html").read_text(encoding="utf-8")
    assert OF_THE_TEACHERS in (class_book.html / "teachers.html").read_text(encoding="utf-8")
    secrets = [*SECRETS, OF_A_TEXT_PAGE, OF_THE_TEACHERS]
    assert {
        "intro.html",
        "small.html",
        "searchindex.js",
        "small.ipynb",
        "small-student.ipynb",
    } <= names
    for path in files:
        content = path.read_bytes().decode("utf-8", errors="replace").casefold()
        assert not [word for word in secrets if word in content], path
    (pictured,) = (path for path in files if path.suffix == ".png" and "_images" in path.parts)
    drawn = [path.read_bytes() for path in (class_book.html / "_images").glob("*.png")]
    assert pictured.read_bytes() in drawn
    assert len(drawn) == 2


@needs_chromium
@pytest.mark.parametrize("name", PDFS)
def test_only_the_instructor_reads_solutions(made: dict[str, Path], name: str) -> None:
    words = " ".join(" ".join(pages_of(made[name])).casefold().split())
    for asked in ("say why", *ASKED):
        assert asked in words
    for secret in SECRETS:
        assert (secret in words) == ("instructor" in name), secret


@needs_chromium
@pytest.mark.parametrize("name", PDFS)
def test_each_sheet_has_its_paper_number_title_and_course(made: dict[str, Path], name: str) -> None:
    with pypdfium2.PdfDocument(made[name]) as document:
        sizes = {tuple(round(side) for side in page.get_size()) for page in document}
        title = document.get_metadata_value("Title")
    assert sizes == {(612, 792) if "letter" in name else (596, 843)}
    version = "Student version" if "student" in name else "Instructor’s version"
    assert title == f"A small chapter – {version} – {COURSE}"
    pages = pages_of(made[name])
    for number, page in enumerate(pages, start=1):
        assert COURSE in page
        assert "A small chapter" in page
        assert version in page
        assert f"page {number} of {len(pages)}" in page


@needs_chromium
@pytest.mark.parametrize("name", PDFS)
def test_links_lead_to_nothing_on_this_machine(made: dict[str, Path], name: str) -> None:
    content = made[name].read_bytes()
    assert b"file:" not in content
    assert str(ROOT).encode() not in content


@pytest.fixture
def no_chromium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pdf.VARIABLE, raising=False)
    monkeypatch.setattr(pdf, "_NAMES", ())
    monkeypatch.setattr(pdf, "_PLACES", ())


@pytest.mark.usefixtures("no_chromium")
def test_without_chromium_there_are_notebooks_and_pages_and_a_hint(
    class_book: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(class_book.root)
    assert main(["handouts", "small", "--version", "student"]) == 0
    said = capsys.readouterr()
    folder = class_book.build / "handouts"
    assert said.out.splitlines()[-1] == str(folder / "small-student.ipynb")
    (hint,) = (line for line in said.out.splitlines() if "no PDF" in line)
    assert "DMF_CHROMIUM" in hint
    assert str(folder / "student" / "html") in hint
    assert (folder / "student" / "html" / "small.html").is_file()
    assert list(folder.glob("small-student*")) == [folder / "small-student.ipynb"]


def careless(answer: Answer) -> list[NotebookNode]:
    return [text("\n".join(answer.texts), f"answer-{answer.label}")]


@pytest.mark.usefixtures("no_chromium")
@pytest.mark.parametrize("place", ["student_notebook.blank_cells", "handouts.lined_space"])
def test_a_leak_leaves_no_student_file(
    class_book: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    folder = class_book.build / "handouts"
    handouts.make_handouts(class_book, versions=("student",))
    assert (folder / "small-student.ipynb").is_file()
    monkeypatch.setattr(f"dmf_utils.teaching.{place}", careless)
    monkeypatch.chdir(class_book.root)
    assert main(["handouts", "--version", "student"]) == 1
    assert "words of a solution are left" in capsys.readouterr().err
    assert not list(folder.glob("small-student*"))
    assert not (folder / "student").exists()


def test_a_failed_print_leaves_no_student_file(
    class_book: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(pdf.VARIABLE, shutil.which("false") or "")
    monkeypatch.chdir(class_book.root)
    assert main(["handouts", "--version", "student"]) == 1
    assert "could not print" in capsys.readouterr().err
    assert not list((class_book.build / "handouts").glob("small-student*"))


def test_what_is_not_executed_yet_is_executed_first(
    class_book: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(handouts, "build_book", lambda *details: asked.append(details[1:]))
    handouts.make_handouts(class_book, ["small"], versions=())
    quick = class_book.at_size(quick=True)
    handouts.make_handouts(quick, ["small"], versions=())
    assert asked == [(["small"],), ()]
    assert "not executed yet, so the book is built first: small" in capsys.readouterr().out


def test_bad_input_is_one_line(
    class_book: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(class_book.root)
    assert main(["handouts", "large"]) == 2
    assert "chapter 'large': unknown, choose one of small" in capsys.readouterr().err
    with pytest.raises(InputError, match="chapter 'claims': is the ledger, choose one of"):
        handouts.make_handouts(Project(ROOT), ["claims"])
    assert main(["handouts", "--version", "teacher"]) == 2
    monkeypatch.setenv(pdf.VARIABLE, "/no/such/browser")
    with pytest.raises(InputError, match="DMF_CHROMIUM=/no/such/browser: no such program"):
        pdf.find_chromium()


def test_a_browser_that_fails_is_reported(tmp_path: Path) -> None:
    sheet = pdf.Sheet(tmp_path / "a.html", tmp_path / "a.pdf", "A4", "A", "student")
    with pytest.raises(pdf.PrintError, match="could not print"):
        pdf.print_sheets(shutil.which("false") or "", [sheet])


def test_make_passes_any_course_line_on(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "dmf"
    command.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    command.chmod(0o755)
    (tmp_path / ".installed").touch()
    course = "-A \"B\" 'C' $D `E` & <f>"
    asked = ["make", "-s", "-o", f"{tmp_path}/.installed", "handouts", f"VENV={tmp_path}"]
    done = subprocess.run(
        [*asked, f"COURSE={course}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"handouts|--course={course}|"


@needs_chromium
def test_the_whole_book_makes_clean_handouts(quick_book: Project) -> None:
    made = handouts.make_handouts(quick_book, versions=("student",))
    assert len(made) == 3 * len(CHAPTERS)
    for name in CHAPTERS:
        source = nbformat.read(ROOT / "book" / f"{name}.ipynb", as_version=4)
        for path in made:
            if path.suffix == ".pdf" and path.name.startswith(f"{name}-"):
                words = " ".join(pages_of(path))
                assert len(words) > 2000
                assert "Solution to" not in words
                assert not [word for word in secret_words(source) if f" {word} " in words]
