"""A chapter's parameters: read from its parameters cell, checked before anything runs."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

from dmf_utils._support.errors import InputError
from dmf_utils._support.notebooks import has_tag
from dmf_utils._support.yaml_files import read_yaml
from dmf_utils.publishing.project import Project

__all__ = [
    "Parameter",
    "as_code",
    "as_markdown",
    "as_text",
    "check",
    "given",
    "quick_values",
    "read",
]

_SCALARS = {"int": int, "float": float, "bool": bool, "str": str}
_LONGEST_CELL = 50_000  # characters
_NOT_PYTHON = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, OverflowError)


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``n: int = 100  # rows and columns``."""

    name: str
    annotation: str
    default: Any
    meaning: str


def read(notebook: NotebookNode, name: str) -> dict[str, Parameter]:
    """The parameters of a chapter, by name; none if it has no parameters cell.

    Parameters
    ----------
    notebook
        The chapter.
    name
        Of its file, for messages.

    Raises
    ------
    InputError
        If the cell holds anything but annotated plain values with a comment each.
    """
    sources = [cell.source for cell in notebook.cells if has_tag(cell, "parameters")]
    if len(sources) > 1:
        raise InputError(f"{name}: {len(sources)} cells tagged parameters; keep one")
    if not sources:
        return {}
    if len(sources[0]) > _LONGEST_CELL:
        raise InputError(f"{name}: its parameters cell has more than {_LONGEST_CELL} characters")
    try:
        return _parse(sources[0], name)
    except InputError:
        raise
    except (tokenize.TokenError, *_NOT_PYTHON) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or "too deeply nested"
        raise InputError(f"{name}, parameters cell{line}: is not Python: {reason}") from error


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
        if name in found:
            raise InputError(f"{line}: {name} stands twice; keep one")
        if not _fits(default, statement.annotation, line):
            raise InputError(f"{line}: the default {_short(default)} of {name} is not {annotation}")
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
            return number and abs(value) <= sys.float_info.max  # not infinite, nor too long an int
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
                f"parameter {_short(name)}: chapter {chapter} has no such parameter; it has {known}"
            )
        parameter = parameters[name]
        if not _fits(value, ast.parse(parameter.annotation, mode="eval").body, chapter):
            raise InputError(
                f"parameter {name!r} of chapter {chapter}: got {_short(value)}, "
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
            raise InputError(f"-p {_short(assignment)}: give NAME=VALUE, for example -p seed=1")
        name = name.strip()
        if name in values:
            raise InputError(f"-p {_short(assignment)}: {name} is given twice; give it once")
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
    except _NOT_PYTHON:
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
    if not path.exists():
        return {}
    values = read_yaml(path, f"book/quick/{path.name}")
    if not isinstance(values, dict):
        raise InputError(f"book/quick/{path.name}: must be a mapping NAME: VALUE")
    try:
        return check(chapter, parameters, values)
    except InputError as error:
        raise InputError(f"book/quick/{path.name}: {error}") from None


def as_text(parameters: dict[str, Parameter]) -> str:
    """One line for each parameter: name, type, default, meaning.

    Parameters
    ----------
    parameters
        As `read` returns them.
    """
    rows = [(name, p.annotation, repr(p.default), p.meaning) for name, p in parameters.items()]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = []
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row[:3], widths, strict=True)]
        lines.append("  ".join([*cells, row[3]]))
    return "\n".join(lines)


def as_markdown(parameters: dict[str, Parameter], values: dict[str, Any]) -> list[str]:
    """The lines of a Markdown table: name, type, default, value where it differs, meaning.

    Parameters
    ----------
    parameters
        As `read` returns them.
    values
        Those that the page was made with, where they are not the defaults. Like all else in the
        table they are shown as they are: no sign in them means markup.
    """
    if not parameters:
        return []
    changed = {name for name, p in parameters.items() if values.get(name, p.default) != p.default}
    heads = ["Parameter", "Type", "Default", *(["Here"] if changed else []), "Meaning"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, p in parameters.items():
        cells = [as_code(name), as_code(p.annotation), as_code(p.default)]
        if changed:
            cells.append(as_code(values[name]) if name in changed else "")
        lines.append(f"| {' | '.join([*cells, _as_text(p.meaning)])} |")
    return lines


def as_code(value: Any) -> str:
    """A value as code in a line of Markdown, within a table or not, whatever signs it has."""
    text = value if isinstance(value, str) and value.strip() else repr(value)
    text = " ".join(text.split()).replace("|", r"\|")
    runs = [len(run) for run in re.findall(r"`+", text)]
    fence = "`" * (1 + max(runs, default=0))
    room = " " if runs else ""
    return f"{fence}{room}{text}{room}{fence}"


def _as_text(text: str) -> str:
    """Text in a Markdown table, without markup of HTML; formulas and code stay."""
    text = " ".join(text.split()).replace("|", r"\|")
    return re.sub(r"(\$[^$]*\$)|<(?=[A-Za-z/!?])", lambda found: found[1] or "&lt;", text)


def _short(value: Any) -> str:
    """A value for a message: not more than a line."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return f"a very long {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:80]}… ({len(text)} characters)"
