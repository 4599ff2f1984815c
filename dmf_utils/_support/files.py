"""Files of a user's: never lost, never half written.

One rule for every command. Outputs are written beside their places and renamed, all or none. What
exists is replaced only if a command of ours wrote it and nobody changed it since, or with
``--force``. An input or a source that git tracks is never an output. Whether one can write is tried
before anything is computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from dmf_utils._support.errors import InputError

__all__ = ["check_outputs", "clear", "file_digest", "folder", "together", "write_whole"]


def check_outputs(
    outputs: Iterable[Path],
    inputs: Iterable[Path] = (),
    *,
    is_ours: Callable[[Path], bool] = lambda path: False,
    force: bool = False,
    option: str = "--output",
) -> None:
    """Refuse outputs that must not, or cannot, be written; nothing is left behind.

    Parameters
    ----------
    outputs
        The files that are to be written.
    inputs
        Files that are read.
    is_ours
        Whether an existing file is as a command of ours wrote it.
    force
        Replace other files too; never inputs or tracked sources.
    option
        How the command calls its output, for messages.

    Raises
    ------
    InputError
        With what to do instead.
    """
    inputs = list(inputs)
    for path in outputs:
        name = f"{option} {path}"
        try:
            _check_output(path, name, inputs, is_ours, force)
        except (OSError, RuntimeError) as error:  # the second of links in a circle
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise InputError(f"{name}: cannot be written: {reason}") from error


def _check_output(
    path: Path, name: str, inputs: list[Path], is_ours: Callable[[Path], bool], force: bool
) -> None:
    if any(_is_same(path, read) for read in inputs):
        raise InputError(f"{name}: is a source here, never an output; name another file")
    if path.is_dir():
        raise InputError(f"{name}: is a folder; name a file")
    if path.exists() and not path.is_file():  # to look into a pipe would wait for a writer
        raise InputError(f"{name}: is a device or a pipe; name a file")
    if not path.parent.is_dir():
        raise InputError(f"{name}: the folder {path.parent} does not exist; make it first")
    try:
        state = path.lstat()
    except FileNotFoundError:  # such a name may be, and is free
        state = None
    if state is not None:
        if _is_tracked(path):
            raise InputError(f"{name}: git tracks it as a source; name another file")
        if not force and not is_ours(path):
            raise InputError(
                f"{name}: is there already, and is not as dmf wrote it; name another file, or "
                "replace it with --force"
            )
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".dmf-", suffix=".part"):
        pass


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _is_tracked(path: Path) -> bool:
    """Whether git knows the file, or what it links to, as one of its sources."""
    for one in {path.parent.resolve() / path.name, path.resolve()}:
        command = ["git", "-C", str(one.parent), "ls-files", "--error-unmatch", "--", one.name]
        with contextlib.suppress(OSError):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return True
    return False


@contextlib.contextmanager
def together(*places: Path) -> Iterator[list[Path]]:
    """Names beside `places` to write to, which take these places when all is well, else none does.

    Should one of them fail to, those before it get back what they had. A process that is killed in
    that instant may leave some of each, which is why a second file should hold the digest of the
    first.

    Parameters
    ----------
    *places
        The files that are to be.

    Yields
    ------
    list of Path
        As many names, in the same folders and with the same endings.
    """
    mark = uuid.uuid4().hex
    parts = [path.with_name(f".{mark}.part-{path.name[-80:]}") for path in places]
    kept = [path.with_name(f".{mark}.kept-{path.name[-80:]}") for path in places]
    try:
        yield parts
        for part in parts:
            _flush(part)
        put: list[int] = []
        try:
            for number, (part, before, path) in enumerate(zip(parts, kept, places, strict=True)):
                if len(places) > 1 and path.is_file():
                    shutil.copy2(path, before)
                put.append(number)
                os.replace(part, path)
        except BaseException:
            for number in put:
                if kept[number].exists():
                    os.replace(kept[number], places[number])
                elif not parts[number].exists():
                    places[number].unlink(missing_ok=True)
            raise
    finally:  # also when interrupted
        for path in (*parts, *kept):
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the contents on the disk before the name is."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file that appears at `path` when it is complete, or not at all."""
    with together(path) as (part,), part.open("wb") as file:
        write(file)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clear(path: Path) -> None:
    """Remove whatever stands at a place of our own: a file, a folder, a link to nowhere."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def folder(path: Path) -> Path:
    """A folder of our own, made if it is missing; what else stood there goes."""
    if not path.is_dir():
        clear(path)
        path.mkdir(parents=True, exist_ok=True)
    return path
