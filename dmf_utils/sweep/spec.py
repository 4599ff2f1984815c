"""The file that says what to sweep: parameters with values or lists of values."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmf_utils._support.errors import InputError
from dmf_utils._support.yaml_files import read_yaml

__all__ = ["MOST_RUNS", "SweepSpec", "read_spec"]

MOST_RUNS = 100_000
"""Runs that a file may ask for, if nobody says otherwise."""

_GROUPS = ("grids", "runs")
_MOST_TIMES = 100_000  # at which a run writes something down; of singular values too


@dataclass(frozen=True)
class SweepSpec:
    """What a file asks for.

    Attributes
    ----------
    contents : dict
        The file as read, for the record.
    runs : list of dict
        One mapping of parameters for each run.
    trajectories : Record or None
        What runs write down on their way.
    """

    contents: dict[str, Any]
    runs: list[dict[str, Any]]
    trajectories: Any


def read_spec(path: Path, most_runs: int = MOST_RUNS) -> SweepSpec:
    """Read and check a file; nothing is computed, and no grid is made before it is counted.

    The keys are parameters of `dmf_utils.sweep.DEFAULTS`, each with a value or a list of values, of
    which all combinations are run. ``grids`` is a list of such mappings, and ``runs`` one of single
    runs: what stands beside these two is common to their members. ``trajectories`` asks for what
    runs write down: ``times`` (or ``points`` and ``until``) and ``singular_values``.

    Raises
    ------
    InputError
        If the file cannot be read, a name is unknown or stands twice, a value does not fit, or
        there are more than `most_runs` runs in it.
    """
    from dmf_utils.sweep.run_parameters import complete_run, grid  # torch takes seconds to load

    contents = _loaded(path)
    common = {k: v for k, v in contents.items() if k not in (*_GROUPS, "trajectories")}
    members: dict[str, list[Any]] = {}
    for group in _GROUPS:
        found = contents.get(group, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise InputError(f"{path}: {group} must be a list of mappings of parameters")
        if group in contents and not found:
            raise InputError(f"{path}: {group} is empty; leave it out, or name some runs")
        members[group] = [common | one for one in found]
    grids = members["grids"] if any(members.values()) else [common]
    try:
        for axes in grids:
            _check_axes(axes)
        count = sum(_size(axes) for axes in grids) + len(members["runs"])
        if count > most_runs:
            raise ValueError(
                f"asks for {count} runs, more than {most_runs}; take fewer values, or say "
                f"--most-runs {count}"
            )
        runs = [run for axes in grids for run in grid(**axes)] + members["runs"]
        if not runs:
            raise ValueError("there is no run in it: a list of values is empty")
        for at, run in enumerate(runs):
            complete_run(run, at)
        trajectories = _record(contents.get("trajectories"))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    return SweepSpec(contents, runs, trajectories)


def _check_axes(axes: Mapping[str, Any]) -> None:
    """Names and values of a grid one by one, before they are combined."""
    from dmf_utils.sweep.run_parameters import check_value

    for name, values in axes.items():
        for value in values if isinstance(values, list) else [values]:
            check_value(name, value, "the grid")


def _size(axes: Mapping[str, Any]) -> int:
    return math.prod(len(values) for values in axes.values() if isinstance(values, list))


def _loaded(path: Path) -> dict[str, Any]:
    contents = read_yaml(path)
    if not isinstance(contents, dict) or not all(isinstance(name, str) for name in contents):
        raise InputError(f"{path}: must hold lines `parameter: value` or `parameter: [values]`")
    return contents


def _record(asked: Any) -> Any:
    """The `Record` that the key ``trajectories`` describes."""
    from dmf_utils.flow.trajectory import Record

    if asked is None:
        return None
    known = {"times", "points", "until", "singular_values"}
    if not isinstance(asked, dict) or not set(asked) <= known:
        raise ValueError(
            f"trajectories must be a mapping of {sorted(known)}, got {reprlib.repr(asked)}"
        )
    if ("times" in asked) == ("points" in asked) or ("points" in asked) != ("until" in asked):
        raise ValueError("trajectories needs either times, or points and until")
    times = asked.get("times")
    if "points" in asked:
        points, until = asked["points"], asked["until"]
        if isinstance(points, bool) or not isinstance(points, int) or points < 2:
            raise ValueError(
                f"trajectories: points must be a number from 2 on, got {reprlib.repr(points)}"
            )
        if not _is_time(until) or until == 0:
            shown = reprlib.repr(until)
            raise ValueError(f"trajectories: until must be a positive time, got {shown}")
        if points > _MOST_TIMES:
            raise ValueError(f"trajectories: points must be at most {_MOST_TIMES}")
        times = [until * k / (points - 1) for k in range(points)]
    if not isinstance(times, list) or not all(map(_is_time, times)):
        shown = reprlib.repr(times)
        raise TypeError(
            f"trajectories: times must be a list of numbers, got {shown}; finite, none below 0"
        )
    count = asked.get("singular_values", 0)
    if isinstance(count, int) and count > _MOST_TIMES:
        raise ValueError(f"trajectories: singular_values must be at most {_MOST_TIMES}")
    return Record(times, count)


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= sys.float_info.max
