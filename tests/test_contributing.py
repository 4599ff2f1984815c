"""CONTRIBUTING.md: its worked example as it stands, and that what it names is there."""

import ast
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
import yaml

from dmf_utils import Status

ROOT = Path(__file__).resolve().parents[1]
_TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = _TEXT.split("## A problem of your own")[1].split("\n## ")[0]


def test_a_problem_of_your_own_is_followed_drawn_and_judged(tmp_path, monkeypatch):
    blocks = re.findall(r"```(\w+)\n(.*?)```", SECTION, flags=re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "python", "python", "yaml", "python"]
    monkeypatch.chdir(tmp_path)
    names = {}
    for kind, text in blocks:
        if kind == "yaml":
            Path("claims.yml").write_text(text, encoding="utf-8")
        else:
            exec(text, names)
    assert names["run"].status is Status.reached
    assert names["verdict"] == yaml.safe_load(Path("claims.yml").read_text())[0]["verdict"]
    assert len(names["axes"].lines) >= 4
    plt.close(names["figure"])
    # The outliers are forgiven: far from what they would do to a quadratic loss.
    assert names["error"] < 1e-2
    # The gradient that the section writes down is that of its loss.
    problem = names["problem"]
    W = torch.randn(2, 20, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    W.requires_grad_()
    loss, gradient = problem.loss_and_gradient(W)
    (wanted,) = torch.autograd.grad(loss.sum(), W)
    torch.testing.assert_close(gradient.detach(), wanted, rtol=1e-12, atol=1e-14)


def test_the_plan_in_the_readme_names_every_wing():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    plan = readme.split("## What is where")[1].split("```")[1]
    there = {path.name for path in (ROOT / "dmf_utils").iterdir() if path.name[:2] != "__"}
    named = set(re.findall(r"^  (\S+?)/? ", plan, flags=re.MULTILINE))
    assert named == there


def promises():
    """Of each row of the table of faults: what happens, what is promised, the tests named."""
    section = _TEXT.split("## What is promised when something goes wrong")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("row", promises(), ids=lambda row: row[0])
def test_each_promise_names_tests_that_are_there(row):
    _, promise, shown_by = row
    named = re.findall(r"`([^`]+)`", shown_by)
    assert promise
    assert named
    for name in named:
        file, _, test = name.partition("::")
        tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_each_source_that_is_named_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    folders = r"book|dmf_utils|tests|benchmarks|docs|binder|\.ci|\.github"
    named = set(re.findall(rf"`((?:{folders})/[^\s`]*)`", text))
    named = {name for name in named if not re.search(r"[A-Z*…{{<]", Path(name).stem)}  # patterns
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_each_target_that_is_named_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = set(re.findall(r"(?:`|^)make ([a-z][\w-]*)", text, flags=re.MULTILINE))
    assert named
    assert named <= set(targets)
