"""The hash of all that decides the numbers of a sweep."""

from __future__ import annotations

from dmf_utils._support.fingerprint import source_hash

__all__ = ["ROOTS", "SOURCE"]

#: What computes a chunk, and what makes chunks of runs.
ROOTS = ("dmf_utils.sweep.compute", "dmf_utils.sweep.run_parameters")

#: Of the source as imported: a session whose files change afterwards goes on with what it loaded.
SOURCE = source_hash(ROOTS)
