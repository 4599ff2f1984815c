"""What computed a result: versions of Python and of the libraries, source, command."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["installed_versions", "this_computation", "versions"]

_STATED = ("torch", "numpy", "scipy", "cvxpy", "matplotlib", "dmf_utils")
_OF_A_TABLE = ("dmf_utils", "torch", "numpy", "scipy", "cvxpy", "pandas", "pyarrow")


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def this_computation(source: str) -> dict[str, Any]:
    """What a table says of its origin: Python, libraries, `source` (a hash), and the command."""
    missing = dict.fromkeys(_OF_A_TABLE, "not installed")  # this package may be used in place
    return {
        "python": platform.python_version(),
        "versions": missing | installed_versions(_OF_A_TABLE),
        "source": source,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def versions(folder: Path) -> dict[str, str]:
    """What a page says of its origin: Python, libraries, and the commit of `folder`."""
    stated = {"Python": platform.python_version()} | installed_versions(_STATED)
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
        stated["commit"] = subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.strip()
    return stated
