"""A chapter's parameters as a table: in the terminal, and in its page."""

from __future__ import annotations

from typing import Any

from dmf_utils.publishing.parameters import Parameter

__all__ = ["as_markdown", "as_text"]


def as_text(parameters: dict[str, Parameter]) -> str:
    """One line for each parameter: name, type, default, meaning.

    Parameters
    ----------
    parameters
        As `parameters.read` returns them.
    """
    rows = [(name, p.annotation, repr(p.default), p.meaning) for name, p in parameters.items()]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = []
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row[:3], widths, strict=True)]
        lines.append("  ".join([*cells, row[3]]))
    return "\n".join(lines)


def as_markdown(parameters: dict[str, Parameter], given: dict[str, Any]) -> list[str]:
    """The lines of a Markdown table: name, type, default, value where it differs, meaning.

    Parameters
    ----------
    parameters
        As `parameters.read` returns them.
    given
        The values that the page was made with, where they are not the defaults.
    """
    if not parameters:
        return []
    changed = {name: given[name] for name, p in parameters.items() if _differs(name, p, given)}
    heads = ["Parameter", "Type", "Default", *(["Here"] if changed else []), "Meaning"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, p in parameters.items():
        cells = [_code(name), _code(p.annotation), _code(p.default)]
        if changed:
            cells.append(_code(changed[name]) if name in changed else "")
        lines.append(f"| {' | '.join([*cells, _cell(p.meaning)])} |")
    return lines


def _differs(name: str, parameter: Parameter, given: dict[str, Any]) -> bool:
    return name in given and given[name] != parameter.default


def _code(value: Any) -> str:
    text = value if isinstance(value, str) and value else repr(value)
    return f"`{_cell(text)}`"


def _cell(text: str) -> str:
    """Text that does not end its cell in a Markdown table."""
    return text.replace("|", r"\|")
