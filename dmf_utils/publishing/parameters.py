"""A chapter's parameters: read from its parameters cell, checked before anything runs."""

from __future__ import annotations

import ast
import io
import math
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from dmf_utils._support.errors import InputError
from dmf_utils.publishing.project import Project

__all__ = ["Parameter", "check", "given", "quick_values", "read"]

_SCALARS = {"int": int, "float": float, "bool": bool, "str": str}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``n: int = 100  # rows and columns``."""

    name: str
    annotation: str
    default: Any
    meaning: str


def read(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a chapter, by name; none if it has no parameters cell.

    Raises
    ------
    InputError
        If the cell holds anything but annotated plain values with a comment each.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    sources = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(sources) > 1:
        raise InputError(f"{notebook.name}: {len(sources)} cells tagged parameters; keep one")
    return _parse(sources[0], notebook.name) if sources else {}


def _parse(source: str, where: str) -> dict[str, Parameter]:
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, Parameter] = {}
    for statement in ast.parse(source).body:
        line = f"{where}, parameters cell, line {statement.lineno}"
        if not (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value is not None
        ):
            raise InputError(f"{line}: write `name: type = value  # meaning`")
        name, annotation = statement.target.id, ast.unparse(statement.annotation)
        meaning = comments.get(statement.end_lineno or statement.lineno, "")
        if not meaning:
            raise InputError(f"{line}: {name} has no comment that says what it means")
        try:
            default = ast.literal_eval(statement.value)
        except ValueError:
            raise InputError(f"{line}: the default of {name} must be a plain value") from None
        if not _fits(default, statement.annotation, line):
            raise InputError(f"{line}: the default {default!r} of {name} is not {annotation}")
        found[name] = Parameter(name, annotation, default, meaning)
    return found


def _fits(value: Any, annotation: ast.expr, where: str) -> bool:
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _fits(value, left, where) or _fits(value, right, where)
        case ast.Constant(value=None):
            return value is None
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return isinstance(value, list) and all(_fits(entry, item, where) for entry in value)
        case ast.Name(id="float"):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number and math.isfinite(value)
        case ast.Name(id=name) if name in _SCALARS:
            return type(value) is _SCALARS[name]
    raise InputError(
        f"{where}: the type {ast.unparse(annotation)} is not int, float, bool, str, list[…] or None"
    )


def check(chapter: str, parameters: dict[str, Parameter], values: dict[str, Any]) -> dict[str, Any]:
    """The values as the notebook takes them, once all names and types are right.

    Raises
    ------
    InputError
        If a name is unknown or a value's type is not the annotated one.
    """
    checked = {}
    for name, value in values.items():
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise InputError(
                f"parameter {name!r}: chapter {chapter} has no such parameter; it has {known}"
            )
        parameter = parameters[name]
        if not _fits(value, ast.parse(parameter.annotation, mode="eval").body, chapter):
            raise InputError(
                f"parameter {name!r} of chapter {chapter}: got {value!r}, "
                f"give {parameter.annotation} ({parameter.meaning})"
            )
        # A whole number for a float parameter is meant as a float: 1 and 1.0 are the same run.
        whole = isinstance(value, int) and parameter.annotation == "float"
        checked[name] = float(value) if whole else value
    return checked


def given(chapter: str, parameters: dict[str, Parameter], assignments: list[str]) -> dict[str, Any]:
    """The values of ``NAME=VALUE`` arguments, checked.

    Raises
    ------
    InputError
        If an argument is not ``NAME=VALUE``, or as :func:`check` says.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign or not name.strip().isidentifier():
            raise InputError(f"-p {assignment!r}: give NAME=VALUE, for example -p seed=1")
        name = name.strip()
        if name in values:
            raise InputError(f"-p {assignment!r}: {name} is given twice; give it once")
        annotation = parameters[name].annotation if name in parameters else ""
        values[name] = _value(text.strip(), annotation)
    return check(chapter, parameters, values)


def _value(text: str, annotation: str) -> Any:
    if annotation == "str":
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() in ("none", "null"):
        return None
    if annotation.startswith("list[") and text[:1] not in ("[", "("):
        text = f"[{text}]"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a word: right for `str | None`, and refused by name where a number is needed
    return list(value) if isinstance(value, tuple) else value


def quick_values(
    project: Project, chapter: str, parameters: dict[str, Parameter]
) -> dict[str, Any]:
    """The parameters of a chapter's quick size, from ``book/quick/<chapter>.yml`` if there.

    Raises
    ------
    InputError
        If the file is not a mapping, or as :func:`check` says.
    """
    path = project.book / "quick" / f"{chapter}.yml"
    if not path.is_file():
        return {}
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise InputError(f"book/quick/{path.name}: must be a mapping NAME: VALUE")
    try:
        return check(chapter, parameters, values)
    except InputError as error:
        raise InputError(f"book/quick/{path.name}: {error}") from None
