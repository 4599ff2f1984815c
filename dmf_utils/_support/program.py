"""A program that begins and ends sooner: what is done for nothing is left out.

What reads notebooks imports jsonschema, and that compiles a grammar of web addresses: a second of
every process, for a kind of field that no notebook has. Without the grammar it checks all else.
While modules are imported Python looks through all objects hundreds of times for cycles that
nothing refers to, and once more at the end, when all memory is given back anyway: with torch in
memory half a second. Building the pages takes two thirds of the time if it looks more rarely.

This file is run as a script before the command of another package, such as papermill; the command
``dmf`` and the kernel of the chapters import it for the same end.
"""

import atexit
import gc
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

sys.modules.setdefault("rfc3987_syntax", None)
gc.set_threshold(20_000)
atexit.register(gc.freeze)


def run(program: str) -> None:
    """Run a program and end with its status: as a copy, where the environment offers `copies`.

    Parameters
    ----------
    program
        The name of a command, or ``package.module:function``.
    """
    status = None
    if "DMF_COPIES" in os.environ:  # without it not even the import is needed
        from dmf_utils._support.copies import as_copy

        status = as_copy(program, sys.argv)
    sys.exit(found(program)() if status is None else status)


def found(program: str) -> Callable[[], Any]:
    """The function that a program is."""
    from importlib import metadata  # slow to import, and not needed for a copy
    from pkgutil import resolve_name

    # For every page pybtex looks for its own parts among all that is installed.
    metadata.entry_points = cache(metadata.entry_points)

    if ":" in program:
        return resolve_name(program)
    (command,) = metadata.entry_points(group="console_scripts", name=program)
    return command.load()


if __name__ == "__main__":
    del sys.argv[0]
    run(sys.argv[0])
