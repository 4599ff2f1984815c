"""Links to Binder and Colab: none without a public address; with one they lead to what works."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell

from dmf_utils._support.errors import InputError
from dmf_utils._support.fingerprint import deciding_files, imported_modules
from dmf_utils.publishing import launch
from dmf_utils.publishing.build import build_book
from dmf_utils.publishing.chapter import LEDGER_CHAPTER, read_chapters
from dmf_utils.publishing.launch import COLAB_INSTALLS, add_cells, repository
from dmf_utils.publishing.project import Project

ROOT = Path(__file__).resolve().parents[2]
MakeBook = Callable[..., Project]
ADDRESS = "https://github.com/some-one/deep.book"
BINDER = "https://mybinder.org/v2/gh/some-one/deep.book/launch?urlpath=lab/tree/book/small.ipynb"
COLAB = "https://colab.research.google.com/github/some-one/deep.book/blob/launch/book/small.ipynb"


def set_address(project: Project, address: str) -> None:
    config = project.root / "_config.yml"
    text = config.read_text(encoding="utf-8")
    assert text.count('url: "",') == 1
    config.write_text(text.replace('url: "",', f'url: "{address}",'), encoding="utf-8")


def links(page: Path) -> list[str]:
    return re.findall(r'href="([^"]*(?:binder|colab|github)[^"]*)"', page.read_text("utf-8"))


def test_the_book_has_no_address_yet() -> None:
    assert repository(ROOT) is None


def test_without_an_address_there_are_no_links(make_book: MakeBook) -> None:
    project = make_book("1 + 1")
    build_book(project)
    assert links(project.html / "small.html") == []
    before = (project.book / "small.ipynb").read_bytes()
    assert add_cells(project.root, "v1.0") == []
    assert (project.book / "small.ipynb").read_bytes() == before


def test_with_an_address_each_chapter_links_to_itself(make_book: MakeBook) -> None:
    project = make_book("1 + 1")
    set_address(project, ADDRESS)
    build_book(project)
    assert sorted(set(links(project.html / "small.html"))) == sorted([BINDER, COLAB])
    assert links(project.html / "intro.html") == []
    shown = nbformat.read(project.executed / "small.ipynb", as_version=4)
    assert "colab" not in [cell.id for cell in shown.cells]


def test_the_script_prepares_a_checkout_with_pythons_own_library_alone(
    make_book: MakeBook,
) -> None:
    project = make_book("1 + 1")
    set_address(project, ADDRESS)
    script = project.root / "dmf_utils" / "publishing" / "launch.py"
    script.parent.mkdir(parents=True)
    shutil.copy(launch.__file__, script)
    shutil.copy(ROOT / "requirements.in", project.root)
    command = [sys.executable, "-I", "-S", str(script), "--tag", "v1.2"]
    assert subprocess.run(command, check=False).returncode == 0
    notebook = nbformat.read(project.book / "small.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == ["title", "colab", "cell-0"]
    source = notebook.cells[1].source
    assert f"--branch v1.2 {ADDRESS} " in source
    (line,) = [line for line in source.splitlines() if "%pip" in line]
    pins = (ROOT / "requirements.in").read_text("utf-8").splitlines()
    asked = line.split()[3:]
    assert len(asked) == len(COLAB_INSTALLS)
    assert set(asked) <= set(pins)
    for tag in ("main", "v1; rm -r .", "v1 x", ""):
        done = subprocess.run([*command[:-1], tag], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "give a version such as v0.1.0" in done.stderr


def test_the_script_and_the_pages_read_one_address() -> None:
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    stated = yaml.safe_load(text.replace('url: ""', f'url: "{ADDRESS}"'))["repository"]
    line = re.search(r"^repository: \{.*\}$", text, flags=re.MULTILINE)
    assert line is not None
    assert stated["url"] == ADDRESS
    assert stated["path_to_book"] == "book"


@pytest.mark.parametrize(
    "address",
    [
        "http://github.com/a/b",
        "https://gitlab.com/a/b",
        "https://github.com/a",
        "https://github.com/a/b/",
        "https://github.com/a/b.git",
        "https://github.com/a/b/tree/main",
        "github.com/a/b",
        "https://github.com/a/b; rm -r .",
    ],
)
def test_another_address_is_refused_before_anything_runs(make_book: MakeBook, address: str) -> None:
    project = make_book("raise RuntimeError('was executed')")
    set_address(project, address)
    with pytest.raises(InputError, match=re.escape(f"{address!r}: give https://github.com/OWNER")):
        build_book(project)


def colab_cell(project: Project) -> str:
    shutil.copy(ROOT / "requirements.in", project.root)
    notebook = nbformat.read(add_cells(project.root, "v1.2")[0], as_version=4)
    return next(cell.source for cell in notebook.cells if cell.id == "colab")


def run_cells(tmp_path: Path, *sources: str) -> str:
    """What a new kernel prints, in a home of its own, where the address leads to a local clone."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "dmf_utils", repository / "dmf_utils")
    (repository / "book").mkdir()
    shutil.copy(ROOT / "book" / "claims.yml", repository / "book")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repository)]
    subprocess.run([*git, "init", "--quiet", "--initial-branch=launch"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message=all"], check=True)
    subprocess.run([*git, "tag", "v1.2"], check=True)
    path = tmp_path / "colab.ipynb"
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cells = [new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {
        "HOME": str(home),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
        "PIP_NO_INDEX": "1",
    }
    environment.pop("DMF_LEDGER", None)
    command = [sys.executable, "-m", "papermill", path.name, "out.ipynb", "--no-progress-bar"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    return "".join(output.text for output in outputs)


LOOK = "import os, dmf_utils\nfrom dmf_utils import claims\nprint(dmf_utils.__file__, os.getcwd())"


def test_the_cell_brings_the_book_to_colab(make_book: MakeBook, tmp_path: Path) -> None:
    project = make_book("1 + 1")
    set_address(project, ADDRESS)
    pretend = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')"
    cell = colab_cell(project)
    printed = run_cells(tmp_path, pretend, cell, cell, f"{LOOK}\nprint(len(claims.load()) > 10)")
    folder = tmp_path / "home" / "deep.book"
    assert printed.split() == [
        *[str(folder / "dmf_utils" / "__init__.py"), str(folder / "book"), "True"]
    ]


def test_the_cell_does_nothing_elsewhere(make_book: MakeBook, tmp_path: Path) -> None:
    project = make_book("1 + 1")
    set_address(project, ADDRESS)
    run_cells(tmp_path, colab_cell(project), "import os\nprint(os.getcwd())")
    assert list((tmp_path / "home").glob("deep.book")) == []


def test_colab_gets_all_that_is_imported() -> None:
    sources = [(ROOT / "dmf_utils" / "__init__.py").read_text("utf-8")]
    for name, chapter in read_chapters(Project(ROOT)).items():
        if name != LEDGER_CHAPTER:
            roots = {module for cell in chapter.code for module in imported_modules(cell)}
            sources += chapter.code
            sources += [path.read_text("utf-8") for path in deciding_files(roots)]
    imported = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    names = {"yaml": "PyYAML", "myst_nb": "myst-nb"}
    optional = {"distributed"}  # an extra, that says so where it is missing
    everywhere = {*sys.stdlib_module_names, *optional, "dmf_utils", "IPython", "ipywidgets"}
    assert {names.get(name, name) for name in imported - everywhere} <= set(COLAB_INSTALLS)


@pytest.mark.parametrize("job", ["publish", "launch"])
def test_nothing_is_published_until_it_is_asked_for(job: str) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"][job]["if"].startswith("vars.PUBLISH_PAGES == 'true' && ")
    assert workflow["permissions"] == {"contents": "read"}


def test_the_workflow_pushes_the_branch_that_the_links_name() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    last = workflow["jobs"]["launch"]["steps"][-1]["run"]
    branch = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["branch"]
    assert f"HEAD:refs/heads/{branch}\n" in last
