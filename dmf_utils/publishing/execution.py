"""Execute one chapter with papermill, unless its last run still holds."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nbformat
import psutil
import yaml

from dmf_utils._support.machine import hardware, one_thread_environment
from dmf_utils._support.provenance import versions
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.terminal import Progress, read_loop

__all__ = ["ChapterError", "Run", "Stopped", "execute", "key", "last_run"]

PACKAGE = Path(__file__).resolve().parents[1]
_PORT_TAKEN = re.compile(r"Address already in use|Kernel died before replying to kernel_info")
_SECONDS_BETWEEN_LOOKS = 0.5


class ChapterError(RuntimeError):
    """A chapter failed; the message names the chapter, the cell and the error."""


@dataclass(frozen=True)
class Run:
    """What is kept of a chapter's run, beside the notebook that papermill wrote."""

    key: str
    parameters: dict[str, Any]
    seconds: float
    date: str
    versions: dict[str, str]
    hardware: str = ""

    def write(self, path: Path) -> None:
        """Keep the record."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def last_run(project: Project, chapter: str) -> Run | None:
    """The record of the chapter's last complete run at this size, if there is one."""
    notebook, record = _paths(project, chapter)
    try:
        if notebook.is_file():
            return Run(**json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass  # absent or damaged: the chapter is executed again
    return None


def _paths(project: Project, chapter: str) -> tuple[Path, Path]:
    return project.runs / f"{chapter}.ipynb", project.runs / f"{chapter}.json"


def key(project: Project, chapter: str, values: dict[str, Any], read: list[Path]) -> str:
    """A digest of all that decides what a chapter's cells give out.

    That is its code cells, its parameters, the source of ``dmf_utils`` without the publisher, the
    versions of Python and of the pinned packages, the data set if one is named, and the files
    ``read``. Text cells are not among them: a page takes them from the source, without a new run.
    """
    cells = nbformat.read(project.chapter_path(chapter), as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    data = os.environ.get("DMF_DATA", "")
    stated = [code, values, sys.version, _pinned(project), bool(data) and Path(data).is_dir()]
    digest = hashlib.sha256(json.dumps(stated).encode())
    publisher = PACKAGE / "publishing"
    modules = [path for path in PACKAGE.rglob("*.py") if publisher not in path.parents]
    for path in [*sorted(modules), *read]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _pinned(project: Project) -> dict[str, str]:
    """The installed versions of the packages that requirements.txt pins."""
    path = project.root / "requirements.txt"
    if not path.is_file():
        return {}
    names = re.findall(r"^([\w.-]+)==", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):  # a tool that only the tests need
            found[name] = version(name)
    return found


class Stopped(Exception):
    """The chapter was given up because another one failed, or the build was interrupted."""


def execute(
    project: Project,
    chapter: str,
    values: dict[str, Any],
    run_key: str,
    progress: Progress,
    stop: threading.Event | None = None,
) -> Run:
    """Execute a chapter and keep its run; a failing one leaves the last good run in place.

    Raises
    ------
    ChapterError
        If a cell fails, leaves something on standard error, or the kernel does not start.
    Stopped
        If `stop` was set meanwhile.
    """
    project.runs.mkdir(parents=True, exist_ok=True)
    notebook, record = _paths(project, chapter)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dmf-") as folder:
        output = Path(folder) / f"{chapter}.ipynb"
        run_papermill(project, chapter, values, output, progress, stop)
        seconds = time.monotonic() - start
        record.unlink(missing_ok=True)  # so that notebook and record never disagree
        notebook.write_bytes(output.read_bytes())
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    run = Run(run_key, values, round(seconds, 1), date, versions(project.root), hardware())
    run.write(record)
    return run


def run_papermill(
    project: Project,
    chapter: str,
    values: dict[str, Any],
    output: Path,
    progress: Progress,
    stop: threading.Event | None = None,
) -> None:
    """Run papermill on a chapter, showing progress; once again if the kernel found its port taken.

    Raises
    ------
    ChapterError, Stopped
        As :func:`execute` says.
    """
    command = [sys.executable, "-m", "papermill", str(project.chapter_path(chapter)), str(output)]
    command += ["--no-progress-bar", "--cwd", str(project.book), "--kernel", "python3"]
    if values:
        command += ["--parameters_yaml", yaml.safe_dump(values, default_flow_style=True, width=1e9)]
    for attempt in (1, 2):
        output.unlink(missing_ok=True)
        code, errors = _watch(project, command, output, progress, stop or threading.Event())
        if code == 0:
            break
        if attempt == 2 or not _PORT_TAKEN.search(errors):
            raise ChapterError(_failure(chapter, output, errors))
        progress.say(f"{chapter}: the kernel found its port taken, trying once more")
    if complaint := _complaint(chapter, output):
        raise ChapterError(complaint)


def _watch(
    project: Project, command: list[str], output: Path, progress: Progress, stop: threading.Event
) -> tuple[int, str]:
    """Run papermill in a session of its own; whatever ends this function ends its kernel too."""
    loop, log = output.with_suffix(".progress"), output.with_suffix(".log")
    loop.unlink(missing_ok=True)
    environment = (
        os.environ
        | one_thread_environment()
        | {
            "DMF_PROGRESS": str(loop),
            "DMF_LEDGER": str(project.ledger),
            "DMF_CLAIMS": str(project.claims),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")])
            ),
        }
    )
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, stdout=errors, stderr=errors, env=environment, start_new_session=True
        )
        try:
            seen = 0
            where = "starting"
            while process.poll() is None:
                if stop.is_set():
                    raise Stopped
                with contextlib.suppress(OSError, ValueError):
                    if (stamp := output.stat().st_mtime_ns) != seen:
                        where, seen = _position(output), stamp
                progress.show(where, read_loop(loop))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_SECONDS_BETWEEN_LOOKS)
        finally:
            _stop(process)
    return process.returncode, log.read_text(encoding="utf-8", errors="replace")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End papermill, its kernel and the kernel's workers."""
    if process.poll() is not None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        for member in psutil.wait_procs(family, timeout=3)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.kill()
    process.wait()


def _position(output: Path) -> str:
    """Which cell is running, called by its figure's name or by the heading above it."""
    cells = json.loads(output.read_text(encoding="utf-8"))["cells"]
    heading, number = "", 0
    for number, cell in enumerate(cells, start=1):
        source = cell["source"]
        text = source if isinstance(source, str) else "".join(source)
        if cell["cell_type"] == "markdown":
            for line in text.splitlines():
                heading = line.lstrip("# ") if line.startswith("#") else heading
        if cell["metadata"].get("papermill", {}).get("status") in ("running", "pending"):
            figure = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
            return f"cell {number}/{len(cells)} {figure or heading}".rstrip()
    return f"cell {number}/{len(cells)}"


def _failure(chapter: str, output: Path, errors: str) -> str:
    """The error of the cell that failed, from the notebook that papermill left."""
    try:
        cells = nbformat.read(output, as_version=4).cells
    except (OSError, ValueError):
        cells = []
    # papermill puts marks of its own before the failing cell: they are not cells of the chapter
    cells = [
        cell for cell in cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])
    ]
    for number, cell in enumerate(cells, start=1):
        for error in cell.get("outputs", []):
            if error.output_type == "error":
                trace = "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", line) for line in error.traceback)
                return f"{trace}\n\n{chapter}, cell {number}: {error.ename}: {error.evalue}"
    return f"{errors.strip()}\n\n{chapter}: papermill failed before a cell did; its words are above"


def _complaint(chapter: str, output: Path) -> str | None:
    """What a run that papermill calls good must not have left in its outputs."""
    for number, cell in enumerate(nbformat.read(output, as_version=4).cells, start=1):
        for item in cell.get("outputs", []):
            if item.output_type == "error":
                return f"{chapter}, cell {number}: {item.ename}: {item.evalue}"
            if item.output_type == "stream" and item.name == "stderr":
                return f"{chapter}, cell {number}: wrote on standard error:\n{item.text.strip()}"
    return None
