"""Execute one chapter with papermill, so that nothing of it outlives whoever asked for it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

from dmf_utils._support.copies import copies
from dmf_utils._support.errors import InputError
from dmf_utils._support.machine import hardware, one_thread_environment
from dmf_utils._support.notebooks import has_tag, read_notebook
from dmf_utils._support.processes import PROGRAM, Leashed
from dmf_utils._support.provenance import versions
from dmf_utils.publishing.chapter import Chapter, Execution
from dmf_utils.publishing.terminal import Display, clock, read_loop

__all__ = ["PATIENCE", "ChapterError", "Stopped", "execute", "run_papermill", "shared_environment"]

PATIENCE = 10.0
"""After how many times its expected seconds a chapter is given up, if nobody says otherwise."""

_PACKAGE = Path(__file__).resolve().parents[1]
_KERNELS = Path(__file__).resolve().parent  # whose folder `kernels` says what `python3` is
_PORT_TAKEN = re.compile(r"Address already in use|Kernel died before replying to kernel_info")
_DAMAGED = re.compile(r"\.parquet is damaged \(.*\); its \d+ runs are computed again", re.DOTALL)
_ATTEMPTS = 2
_IMPORTS = "dmf_utils.publishing.imports"
_SECONDS_BETWEEN_LOOKS = 0.5


class ChapterError(RuntimeError):
    """A chapter failed; the message names the chapter, the cell and the error."""


class Stopped(Exception):
    """The chapter was given up because another one failed, or the build was interrupted."""


def _environment(at_once: int = 1) -> dict[str, str]:
    """For so many chapters side by side: they share the processors."""
    paths = filter(None, [str(_PACKAGE.parent), os.environ.get("PYTHONPATH")])
    kernels = {"JUPYTER_PATH": str(_KERNELS), "PYTHONPATH": os.pathsep.join(paths)}
    return os.environ | one_thread_environment(at_once) | kernels


@contextlib.contextmanager
def shared_environment(n_chapters: int, at_once: int) -> Iterator[dict[str, str]]:
    """What `execute` takes for many chapters: their imports are made once.

    Parameters
    ----------
    n_chapters
        How many are to be executed; of a single one nothing is made in advance.
    at_once
        How many of them side by side: they share the processors.
    """
    environment = _environment(at_once)
    if n_chapters < 2:
        yield environment
        return
    # As ipykernel sets it: matplotlib reads it when it is imported.
    environment.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    with copies(_IMPORTS, environment) as address:
        yield environment | address


def execute(
    chapter: Chapter,
    key: str,
    display: Display,
    stop: threading.Event | None = None,
    patience: float = PATIENCE,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Execute a chapter and keep that; a failing one leaves the last good execution in place.

    Parameters
    ----------
    chapter
        At its size.
    key
        What `Chapter.key` gives.
    display
        Where progress is shown.
    stop
        Set by whoever wants it to end.
    patience
        How many times its expected seconds it may take.
    environment
        Of papermill and its kernel, see `shared_environment`; by default for one that runs alone.

    Raises
    ------
    ChapterError
        If a cell fails, leaves something on standard error, takes too long, or the kernel does not
        start.
    Stopped
        If `stop` was set meanwhile.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dmf-") as folder:
        output = Path(folder) / f"{chapter.name}.ipynb"
        run_papermill(chapter, chapter.values, output, display, stop, patience, environment)
        seconds = round(time.monotonic() - start, 1)
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        stated = versions(chapter.project.root)
        chapter.keep(output, Execution(key, chapter.values, seconds, date, stated, hardware()))


def run_papermill(
    chapter: Chapter,
    values: dict[str, Any],
    output: Path,
    display: Display,
    stop: threading.Event | None = None,
    patience: float = PATIENCE,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run papermill on a chapter, in a folder that holds nothing else than `output`.

    It is tried once more if the kernel found its port taken, or if what it found stored was damaged
    and is mended now.

    Raises
    ------
    ChapterError, Stopped
        As :func:`execute` says.
    """
    command = [*PROGRAM, "papermill", str(chapter.project.chapter_path(chapter.name))]
    command += [str(output), "--no-progress-bar", "--kernel", "python3"]
    command += ["--cwd", str(chapter.project.book)]
    if values:
        command += ["--parameters_yaml", yaml.safe_dump(values, default_flow_style=True, width=1e9)]
    allowed = chapter.seconds_allowed(patience)
    environment = environment or _environment()
    for attempt in range(1, _ATTEMPTS + 1):
        output.unlink(missing_ok=True)
        status, errors = _watch(
            chapter, command, output, display, stop or threading.Event(), allowed, environment
        )
        complaint = _failure(chapter.name, output, errors) if status else _left(chapter, output)
        if not complaint:
            return
        if attempt < _ATTEMPTS and status and _PORT_TAKEN.search(errors):
            display.say(f"{chapter.name}: the kernel found its port taken, trying once more")
        elif attempt < _ATTEMPTS and _DAMAGED.search(complaint):
            display.say(f"{chapter.name}: a stored result was damaged and is mended, once more")
        else:
            raise ChapterError(complaint)


def _watch(
    chapter: Chapter,
    command: list[str],
    output: Path,
    display: Display,
    stop: threading.Event,
    allowed: float,
    environment: Mapping[str, str],
) -> tuple[int, str]:
    """Run papermill; whatever ends this function, or this process, ends its kernel too."""
    loop, log = output.with_suffix(".progress"), output.with_suffix(".log")
    loop.unlink(missing_ok=True)
    start, seen, where = time.monotonic(), 0, "starting"
    with log.open("w", encoding="utf-8") as errors:
        paths = {"DMF_PROGRESS": str(loop), "DMF_LEDGER": str(chapter.project.ledger)}
        paths["DMF_CLAIMS"] = str(chapter.project.claims)
        variables = {**environment, **paths}
        with Leashed(command, stdout=errors, stderr=errors, env=variables) as papermill:
            while (status := papermill.wait(_SECONDS_BETWEEN_LOOKS)) is None:
                if stop.is_set():
                    raise Stopped
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    if (stamp := output.stat().st_mtime_ns) != seen:
                        where, seen = _position(output), stamp
                display.show(where, read_loop(loop))
                if time.monotonic() - start > allowed:
                    raise ChapterError(
                        f"{chapter.name}: was given up at {where} after {clock(allowed)}, many "
                        "times what is expected; if this machine needs so long, give --patience"
                    )
    return status, log.read_text(encoding="utf-8", errors="replace")


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
        cells = read_notebook(output).cells
    except InputError:
        cells = []
    # papermill puts marks of its own before the failing cell: they are not cells of the chapter
    cells = [cell for cell in cells if not has_tag(cell, "papermill-error-cell-tag")]
    for number, cell in enumerate(cells, start=1):
        for error in cell.get("outputs", []):
            if error.output_type == "error":
                trace = "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", line) for line in error.traceback)
                return f"{trace}\n\n{chapter}, cell {number}: {error.ename}: {error.evalue}"
    return f"{errors.strip()}\n\n{chapter}: papermill failed before a cell did; its words are above"


def _left(chapter: Chapter, output: Path) -> str:
    """What an execution that papermill calls good must not have left in its outputs."""
    try:
        notebook: NotebookNode = read_notebook(output)
    except InputError as error:
        return f"{chapter.name}: papermill left no notebook: {error}"
    for number, cell in enumerate(notebook.cells, start=1):
        for item in cell.get("outputs", []):
            if item.output_type == "error":
                return f"{chapter.name}, cell {number}: {item.ename}: {item.evalue}"
            if item.output_type == "stream" and item.name == "stderr":
                text = item.text.strip()
                return f"{chapter.name}, cell {number}: wrote on standard error:\n{text}"
    return ""
