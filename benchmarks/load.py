"""The quick book beside a busy loop on each core, and alone."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def quick_book() -> None:
    """Print both times and their ratio: with as many loops as cores, 2 is what sharing costs."""
    print("\nThe quick book, executed and built from nothing")
    alone = _seconds()
    with _busy_loops():
        beside = _seconds()
    print(
        f"  alone {alone:.0f} s, beside {os.cpu_count()} busy loops {beside:.0f} s: "
        f"{beside / alone:.1f} times as long"
    )


def _seconds() -> float:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(ROOT / "book", root / "book")
        for name in ("_config.yml", "requirements.txt"):
            shutil.copy(ROOT / name, root / name)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "DMF_CACHE": str(root / "cache")}
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "dmf_utils.cli.main", "book", "--quick"],
            cwd=root,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - begin


@contextmanager
def _busy_loops() -> Iterator[None]:
    loops = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(os.cpu_count() or 1)]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.terminate()


def _spin() -> None:
    while True:
        pass
