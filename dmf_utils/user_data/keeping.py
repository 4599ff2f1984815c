"""Finished runs, kept in a folder until the whole is done, and taken up again."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from dmf_utils._support.files import write_whole
from dmf_utils.user_data.early_stopping import EarlyStopping

__all__ = ["Kept"]


class Kept:
    """A folder of finished runs; without a folder, nothing is kept.

    Parameters
    ----------
    folder : Path, optional
    of : sequence of bytes
        All that a run depends on: data, split, options.
    """

    def __init__(self, folder: Path | None = None, *of: bytes) -> None:
        self.folder = folder
        self._of = hashlib.sha256()
        for part in of:
            self._of.update(hashlib.sha256(part).digest())
        self.taken_up = 0

    def run(self, key: tuple[str, ...], compute: Callable[[], EarlyStopping]) -> EarlyStopping:
        """The kept run of this key, or a new one, which is kept."""
        if self.folder is None:
            return compute()
        name = self._of.copy()
        name.update(json.dumps(key).encode())
        path = self.folder / f"{name.hexdigest()[:32]}.npz"
        found = _read(path)
        if found is not None:
            self.taken_up += 1
            return found
        run = compute()
        self.folder.mkdir(parents=True, exist_ok=True)
        content = _as_bytes(run)
        write_whole(path, lambda file: file.write(content))
        return run

    def clear(self) -> None:
        """Remove the folder: all is done."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _as_bytes(run: EarlyStopping) -> bytes:
    file = io.BytesIO()
    rest = {k: v for k, v in asdict(run).items() if k != "factors"}
    factors = {f"W{k}": W.numpy() for k, W in enumerate(run.factors)}
    np.savez(file, rest=np.array(json.dumps(rest)), **factors)
    return file.getvalue()


def _read(path: Path) -> EarlyStopping | None:
    """The run in a file; None if there is none, or if it is damaged."""
    try:
        # Of the contents: NumPy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            rest = json.loads(str(file["rest"]))
            rest["looks"] = [tuple(look) for look in rest["looks"]]
            factors = [torch.from_numpy(file[f"W{k}"]) for k in range(len(file.files) - 1)]
            return EarlyStopping(factors=factors, **rest)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
