"""The memory of this process at its peak."""

from __future__ import annotations

from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """Largest resident memory of this process; that of `resource` begins with its parent's."""
    if not _STATUS.exists():  # not Linux: the present size, not the peak
        return psutil.Process().memory_info().rss
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
