"""What is installed is what was looked at: every package pinned, every file with its hash."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").is_file())
LOCKS = ("requirements.txt", "requirements-cuda.txt", ".ci/tools.txt")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def entries(name: str) -> dict[str, list[tuple[Requirement, str]]]:
    """The requirements of a file by their names, each with its text."""
    found: dict[str, list[tuple[Requirement, str]]] = {}
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for entry in text.replace("\\\n", " ").splitlines():
        if entry.strip():
            requirement = Requirement(entry.split("--hash")[0].strip())
            found.setdefault(canonicalize_name(requirement.name), []).append((requirement, entry))
    return found


def version(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    assert pin.operator == "=="
    assert "*" not in pin.version
    return pin.version


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_and_has_its_hashes(name: str) -> None:
    for found in entries(name).values():
        for requirement, text in found:
            assert version(requirement)
            hashes = re.findall(r"--hash=(\S+)", text)
            assert hashes
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes)


def test_the_lock_holds_what_is_asked_for() -> None:
    locked = entries("requirements.txt")
    for name, ((asked, _),) in entries("requirements.in").items():
        assert {version(found) for found, _ in locked[name]} == {version(asked)}, name


def test_the_package_asks_for_what_the_environment_has() -> None:
    pins = {name: version(found[0][0]) for name, found in entries("requirements.in").items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    stated = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in project["project"]["optional-dependencies"].values():
        stated += extra
    for requirement in map(Requirement, stated):
        assert pins[canonicalize_name(requirement.name)] == version(requirement)


def test_nothing_beneath_is_left_out() -> None:
    """All that the installed packages ask for here stands in the lists, at the version there."""
    locked = entries("requirements.txt")
    for name, found in entries("requirements-cuda.txt").items():
        locked.setdefault(name, []).extend(found)
    waiting, seen = [(name, "") for name in entries("requirements.in")], set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        assert name in locked, f"{name} is not pinned"
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # on another system than this one
            assert not any(r.marker is None or r.marker.evaluate() for r, _ in locked[name]), name
            continue
        pinned = {version(r) for r, _ in locked[name] if r.marker is None or r.marker.evaluate()}
        assert installed.version.partition("+")[0] in pinned, f"{name} {installed.version}"
        for requirement in map(Requirement, installed.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, more) for more in ("", *requirement.extras)]
    assert len(seen) > 150


def test_torch_may_be_the_build_without_graphics_cards() -> None:
    (torch,) = entries("requirements.txt")["torch"]
    wheels = (ROOT / ".ci" / "torch-cpu.sha256").read_text(encoding="utf-8").splitlines()
    assert len(wheels) >= 6
    for wheel in wheels:
        digest, name = wheel.split()
        assert f"sha256:{digest}" in torch[1]
        assert name.startswith(f"torch-{version(torch[0])}+cpu-")
    assert not [name for name in entries("requirements.txt") if name.startswith("nvidia")]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action} does not say its version"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_that_may_write_runs_no_package(path: Path) -> None:
    """Whoever can push has neither installed anything nor takes files from a job that did."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        if job.get("permissions", {}).get("contents") == "write":
            steps = str(job["steps"])
            assert "download-artifact" not in steps
            assert not re.search(r"\bmake\b|\bpip\b|\bvenv\b", steps)
        for step in job["steps"]:
            if "actions/checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_binder_gets_the_environment_of_the_book() -> None:
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "-r ../requirements.txt",
        "-r ../requirements-cuda.txt",
    ]
    build = ROOT / "binder" / "postBuild"
    assert "--no-deps" in build.read_text(encoding="utf-8")
    assert build.stat().st_mode & 0o111
    number = (ROOT / "binder" / "runtime.txt").read_text(encoding="utf-8").strip()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    tried = workflow["jobs"]["build"]["strategy"]["matrix"]["python"]
    assert number.removeprefix("python-") in tried
