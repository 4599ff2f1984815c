"""What a run of a sweep is: its parameters, their checks, and which runs are stepped together."""

from __future__ import annotations

import itertools
import math
import reprlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dmf_utils._support.machine import memory_in_bytes
from dmf_utils.problems.memory import sensing_bytes

__all__ = ["CHUNK", "DEFAULTS", "Chunk", "chunks", "complete_run", "grid", "needed_bytes"]

#: What a run that does not say otherwise is: the paper's problem, size and stopping rule.
DEFAULTS: dict[str, Any] = {
    "problem": "completion",  # or "sensing"
    "rows": 100,
    "columns": 100,
    "rank": 5,  # of the ground truth
    "n_observed": 2000,  # entries or measurements
    "seed": 0,  # of the instance and, in a stream of its own, of the start
    "method": "flow",  # or "descent" (the authors' normalized step), "min_nuclear_norm", "truth"
    "depth": 3,
    "start": "gaussian",  # or "identity", "balanced"
    "norm": 1e-2,  # Frobenius norm of the product matrix at time 0
    "until_loss": 1e-6,
    "tolerance": 2.5e-5,  # of the flow
    "gradient_precision": "float64",  # of the flow; "float32" halves the time of a gradient
    "learning_rate": 1e-3,  # of descent
    "max_steps": 1_000_000,
    "max_gradients": 5_000_000,  # of the flow; where it needs more its status is "step limit"
    "residual": 0.0,  # by which "min_nuclear_norm" may miss each observation; the authors' is 1e-3
    "precision": "float64",  # or "float32", that of the authors' code
}
#: Runs of a full chunk. A batch of eight is as fast a run as any larger one, and is what a worker
#: that is lost takes with it. Fixed, so that neither keys nor results depend on the workers.
CHUNK = 8
CHUNK_OF_SENSING = 16  # the more, the less often its measurements are read
SHARE_OF_MEMORY = 0.8  # of the machine's, that the measurements of all workers may take
_STATES = 24  # numbers that a batch holds for each number of its states, at most
_MATRICES = 10  # that what has no states holds, at most
_LARGEST_WHOLE = 2**63 - 1
# What plays no part in a method is left empty in the table, and out of the key.
_ONLY_FOR_RUNS = (
    *("depth", "start", "norm", "until_loss", "tolerance", "learning_rate", "max_steps"),
    *("max_gradients", "gradient_precision", "precision"),
)
_UNUSED = {
    "flow": ("learning_rate", "residual"),
    "descent": ("tolerance", "gradient_precision", "max_gradients", "residual"),
    "min_nuclear_norm": _ONLY_FOR_RUNS,
    "truth": (*_ONLY_FOR_RUNS, "residual"),
}
_CHOICES = {
    "problem": ("completion", "sensing"),
    "method": tuple(_UNUSED),
    "start": ("gaussian", "identity", "balanced"),
    "gradient_precision": ("float64", "float32"),
    "precision": ("float64", "float32"),
}
_POSITIVE = (
    *("rows", "columns", "n_observed", "depth", "norm", "until_loss", "tolerance"),
    *("learning_rate", "max_steps", "max_gradients"),
)
_ACCEPTED: dict[type, tuple[type, ...]] = {
    int: (int, np.integer),
    float: (int, float, np.integer, np.floating),
    str: (str,),
}


@dataclass(frozen=True)
class Chunk:
    """Runs that one worker steps together, and that one file of the cache holds.

    Attributes
    ----------
    first : int
        Place of the first of them in the sweep, for messages.
    runs : tuple of dict
        Each different, in an order of their own: that of seed, then norm.
    """

    first: int
    runs: tuple[dict[str, Any], ...]


def grid(**axes: object) -> list[dict[str, Any]]:
    """All combinations of the values given, the last axis fastest.

    Parameters
    ----------
    **axes
        For each parameter of a run a value, or a list or an array of values.

    Returns
    -------
    list of dict
        One run each; lists of several calls can be added.
    """
    several = (list, tuple, range, np.ndarray)
    lists = [list(v) if isinstance(v, several) else [v] for v in axes.values()]
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*lists)]


def complete_run(run: Mapping[str, Any], at: int) -> dict[str, Any]:
    """The run with all its parameters, checked; None where the method does not use one.

    Parameters
    ----------
    run : mapping
        Some of the parameters in `DEFAULTS`.
    at : int
        Its place in the sweep, for the messages.

    Raises
    ------
    TypeError, ValueError
        For an unknown parameter, a value that does not fit, or more memory needed than there is.
    """
    if not isinstance(run, Mapping):
        shown = reprlib.repr(run)
        raise TypeError(f"run {at} must be a mapping of parameters, got {shown}; see `grid`")
    for name, value in run.items():
        check_value(name, value, f"run {at}")
    whole = {name: type(default)(run.get(name, default)) for name, default in DEFAULTS.items()}
    for name, allowed in _CHOICES.items():
        if whole[name] not in allowed:
            raise ValueError(f"run {at}: {name} must be one of {allowed}, got {whole[name]!r}")
    for name in _POSITIVE:
        if not 0 < whole[name] < math.inf:
            raise ValueError(f"run {at}: {name} must be positive and finite, got {whole[name]!r}")
    if whole["seed"] < 0:
        raise ValueError(f"run {at}: seed must be at least 0, got {whole['seed']!r}")
    if not 0 <= whole["residual"] < math.inf:
        raise ValueError(f"run {at}: residual must be at least 0, got {whole['residual']!r}")
    smaller = min(whole["rows"], whole["columns"])
    if not 0 <= whole["rank"] <= smaller:
        raise ValueError(f"run {at}: rank must be in 0…{smaller}, got {whole['rank']!r}")
    entries = whole["rows"] * whole["columns"]
    if whole["problem"] == "completion" and whole["n_observed"] > entries:
        raise ValueError(
            f"run {at}: n_observed must be at most rows·columns = {entries}, "
            f"got {whole['n_observed']!r}"
        )
    complete = whole | dict.fromkeys(_UNUSED[whole["method"]])
    states, present = state_bytes(complete), memory_in_bytes()
    if states > SHARE_OF_MEMORY * present:
        raise ValueError(
            f"run {at}: depth = {whole['depth']} and a product of shape ({whole['rows']}, "
            f"{whole['columns']}) need {states / 2**30:.1f} GiB, this machine has "
            f"{present / 2**30:.1f} GiB; take less"
        )
    needed = needed_bytes(whole)
    if needed > SHARE_OF_MEMORY * present:
        raise ValueError(
            f"run {at}: n_observed = {whole['n_observed']} measurements of shape "
            f"({whole['rows']}, {whole['columns']}) need {needed / 2**30:.1f} GiB with "
            f"{whole['method']!r}, this machine has {present / 2**30:.1f} GiB; take fewer"
        )
    return complete


def check_value(name: str, value: Any, where: str) -> None:
    """Whether there is such a parameter, and a value is of its type.

    Raises
    ------
    TypeError, ValueError
        If not; `where` begins the message.
    """
    if name not in DEFAULTS:
        shown = reprlib.repr(name)
        raise ValueError(f"{where}: unknown parameter {shown}; known are {list(DEFAULTS)}")
    kind = type(DEFAULTS[name])
    if isinstance(value, bool) or not isinstance(value, _ACCEPTED[kind]):
        shown = reprlib.repr(value)
        raise TypeError(f"{where}: {name} must be of type {kind.__name__}, got {shown}")
    largest = _LARGEST_WHOLE if kind is int else sys.float_info.max
    if isinstance(value, int) and abs(value) > largest:
        raise ValueError(f"{where}: {name} must be at most {largest:.3g} in size")


def needed_bytes(run: Mapping[str, Any]) -> int:
    """Memory that a run's measurements take; entries take next to nothing."""
    if run["problem"] != "sensing":
        return 0
    return sensing_bytes(run["rows"], run["columns"], run["n_observed"], run["method"])


def state_bytes(run: Mapping[str, Any]) -> int:
    """Memory that stepping a run takes beside its measurements, at most."""
    small, large = sorted((run["rows"], run["columns"]))
    if run["depth"] is None:
        return _MATRICES * 8 * small * large
    return 8 * _STATES * (small**2 * (run["depth"] - 1) + small * large)


def chunks(complete: Sequence[dict[str, Any]]) -> list[Chunk]:
    """The runs, each once, in chunks that are stepped together; those that take longest first.

    The runs of a chunk share all but norm and seed of the start. Those of sensing have one seed,
    since they share its measurements, and flows of all depths do. What chunks
    there are depends on the set of runs, not on their order.
    """
    groups: dict[tuple[object, ...], dict[tuple[object, ...], int]] = {}
    for i, run in enumerate(complete):
        if run["problem"] != "sensing":
            apart = {"norm", "seed"}
        else:
            apart = {"norm", "depth"} if run["method"] == "flow" else {"norm"}
        key = tuple(value for name, value in run.items() if name not in apart)
        within = run["seed"], run["depth"] or 0, run["norm"] or 0.0
        groups.setdefault(key, {}).setdefault(within, i)
    made = []
    for group in groups.values():
        ordered = [group[within] for within in sorted(group)]
        size = CHUNK if complete[ordered[0]]["problem"] != "sensing" else CHUNK_OF_SENSING
        for at in range(0, len(ordered), size):
            members = ordered[at : at + size]
            made.append(Chunk(min(members), tuple(complete[i] for i in members)))
    return sorted(made, key=lambda chunk: -(chunk.runs[-1]["depth"] or 0))
