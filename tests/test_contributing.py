"""The worked example of CONTRIBUTING.md, run as it stands."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
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
