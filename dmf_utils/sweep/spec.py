"""The file that says what to sweep: parameters with values or lists of values."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dmf_utils._support.errors import InputError

__all__ = ["SweepSpec", "read_spec"]

_GROUPS = ("grids", "runs")


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


def read_spec(path: Path) -> SweepSpec:
    """Read and check a file; nothing is computed.

    The keys are parameters of `dmf_utils.sweep.DEFAULTS`, each with a value or a list of values, of
    which all combinations are run. ``grids`` is a list of such mappings, and ``runs`` one of single
    runs: what stands beside these two is common to their members. ``trajectories`` asks for what
    runs write down: ``times`` (or ``points`` and ``until``) and ``singular_values``.

    Raises
    ------
    InputError
        If the file cannot be read, a name is unknown or stands twice, or a value does not fit.
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
    runs = [run for axes in grids for run in grid(**axes)] + members["runs"]
    if not runs:
        raise InputError(f"{path}: there is no run in it: a list of values is empty")
    try:
        for at, run in enumerate(runs):
            complete_run(run, at)
        trajectories = _record(contents.get("trajectories"))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    return SweepSpec(contents, runs, trajectories)


def _loaded(path: Path) -> dict[str, Any]:
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        try:
            contents = loader.get_single_data()
        finally:
            loader.dispose()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"{path}: cannot be read: {reason}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
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
        raise ValueError(f"trajectories must be a mapping of {sorted(known)}, got {asked!r}")
    if ("times" in asked) == ("points" in asked) or ("points" in asked) != ("until" in asked):
        raise ValueError("trajectories needs either times, or points and until")
    times = asked.get("times")
    if "points" in asked:
        points, until = asked["points"], asked["until"]
        if isinstance(points, bool) or not isinstance(points, int) or points < 2:
            raise ValueError(f"trajectories: points must be a number from 2 on, got {points!r}")
        if isinstance(until, bool) or not isinstance(until, (int, float)) or not until > 0:
            raise ValueError(f"trajectories: until must be a positive time, got {until!r}")
        times = [until * k / (points - 1) for k in range(points)]
    is_list = isinstance(times, list)
    if not is_list or any(isinstance(t, bool) or not isinstance(t, (int, float)) for t in times):
        raise TypeError(f"trajectories: times must be a list of numbers, got {times!r}")
    return Record(times, asked.get("singular_values", 0))


class _Loader(yaml.SafeLoader):
    """Makes plain values only; knows 1e-3 for a number; refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 takes 1e-3, which has no point, for text; Python, JSON and YAML 1.2 for a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+"),
    list("-+0123456789."),
)
