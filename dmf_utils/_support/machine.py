"""The machine that something is computed on: its memory, and a line that describes it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import psutil

from dmf_utils._support.errors import InputError

__all__ = [
    "LARGE_VARIABLE",
    "hardware",
    "memory_in_bytes",
    "one_thread_environment",
    "processor",
    "processors",
    "stated_share",
]

LARGE_VARIABLE = "DMF_THREADS"  # this process's share of the processors, see `threads`

_PROCESSORS = Path("/proc/cpuinfo")


def hardware() -> str:
    """Processor, cores, memory and operating system; no name or address of the machine."""
    cores = psutil.cpu_count() or 1
    memory = memory_in_bytes() / 2**30
    return (
        f"{cores} {'core' if cores == 1 else 'cores'} of {processor()}, "
        f"{memory:.0f} GiB of memory, {platform.system()} on {platform.machine()}"
    )


def processor() -> str:
    """The processor's name where Linux tells it, else what Python knows of its kind."""
    if _PROCESSORS.is_file():
        text = _PROCESSORS.read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE):
            return " ".join(found[1].split())
    return platform.processor() or platform.machine() or "an unknown processor"


def memory_in_bytes() -> int:
    """Memory of this machine."""
    return psutil.virtual_memory().total


def stated_share() -> int | None:
    """This process's share of the processors as the environment states it; None if it does not.

    Raises
    ------
    InputError
        If what it states is not a number of processors.
    """
    share = os.environ.get(LARGE_VARIABLE, "").strip()
    if share and not (share.isdecimal() and int(share) > 0):
        raise InputError(
            f"{LARGE_VARIABLE}: got {share!r}, must be a whole number from 1, or unset"
        )
    return int(share) if share else None


def processors() -> int:
    """How many this process may keep busy: its share, or all that it may run on."""
    if share := stated_share():
        return share
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return count or 1


def one_thread_environment(at_once: int = 1) -> dict[str, str]:
    """Variables for a process whose products take one thread, but the large ones all processors.

    Parameters
    ----------
    at_once
        How many such processes share the processors: threads without one would wait and spin, and
        so would the worker processes of their sweeps.

    Returns
    -------
    dict
        To be added to the environment before the process starts.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    share = stated_share() or max(1, processors() // at_once)
    return dict.fromkeys(names, "1") | {LARGE_VARIABLE: str(share)}
