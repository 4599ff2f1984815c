"""YAML from outside: plain values only, checked before it is expanded."""

from __future__ import annotations

import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from dmf_utils._support.errors import InputError

__all__ = ["read_yaml"]

_MOST_BYTES, _DEEPEST = 10_000_000, 50
# In C ten times as fast: a chapter reads the ledger for every claim that it records.
_Parser: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, name: str | None = None) -> Any:
    """What a file holds: mappings, lists, texts, numbers, booleans.

    Parameters
    ----------
    path
        The file.
    name
        What messages call it; its path by default.

    Raises
    ------
    InputError
        If it cannot be read, is not YAML, is larger than 10 MB or nested more than 50 deep, has an
        alias (whose expansion may take any time), a tag, or a key twice.
    """
    name = name or str(path)
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise InputError(f"{name}: cannot be read: it is not a file")
        if state.st_size > _MOST_BYTES:
            raise InputError(f"{name}: is larger than {_MOST_BYTES // 10**6} MB; part it")
        text = path.read_bytes().decode("utf-8")
        _check_shape(text, name)
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: cannot be read: it is not text in UTF-8") from error
    except InputError:
        raise
    except Exception as error:  # PyYAML's own, and those of numbers and days that are none
        raise InputError(f"{name}: {' '.join(str(error).split())[:300]}") from error


def _check_shape(text: str, name: str) -> None:
    """Go through the file without making anything of it."""
    depth = 0
    for event in yaml.parse(text, _Parser):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1
            raise InputError(f"{name}, line {line}: the alias *{event.anchor}; write it out")
        if getattr(event, "tag", None) is not None:
            line = event.start_mark.line + 1
            raise InputError(f"{name}, line {line}: the tag {event.tag}; give plain values")
        depth += isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent))
        depth -= isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent))
        if depth > _DEEPEST:
            line = event.start_mark.line + 1
            raise InputError(f"{name}, line {line}: is nested more than {_DEEPEST} deep")


class _Loader(_Parser):
    """Makes plain values only; knows 1e-3 for a number; refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 takes 1e-3, which has no point, for text; Python, JSON and YAML 1.2 for a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+"),
    list("-+0123456789."),
)
