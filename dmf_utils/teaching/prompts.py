"""What a text asks of its reader: prompts to predict with their answers, and questions."""

from __future__ import annotations

import re

__all__ = ["answer_fence", "count", "count_answers", "unmarked"]

_FENCE = r"\s*(`{3,}|:{3,}|~{3,})\s*"
_PROMPT = re.compile(_FENCE + r"\{(?:admonition|tip)\} *(?:predict|before you)\b", re.IGNORECASE)
_ANSWER = re.compile(_FENCE + r"\{(dropdown|admonition|toggle)\} *answers?\b", re.IGNORECASE)
_OPTION = re.compile(r"\s*:[\w-]+:")
_CHOICE = re.compile(r"\s*[-*+] \[[ xX]\] +(\S.*)")


def count(text: str) -> int:
    """How many prompts to predict, whose answers are drop-downs, a text has."""
    return sum(bool(_PROMPT.match(line)) for line in text.split("\n"))


def count_answers(text: str) -> int:
    """How many drop-downs with the title Answer a text has."""
    lines = text.split("\n")
    return sum(bool(answer_fence(lines, number)) for number in range(len(lines)))


def answer_fence(lines: list[str], number: int) -> str:
    """The fence that opens a drop-down with the title Answer in this line; empty if none does."""
    begin = _ANSWER.match(lines[number])
    if begin is None:
        return ""
    if begin[2] != "admonition":
        return begin[1]
    for line in lines[number + 1 :]:
        if not _OPTION.match(line):
            return ""
        if re.match(r"\s*:class:.*\b(?:dropdown|toggle)\b", line):
            return begin[1]
    return ""


def unmarked(title: str, body: str) -> tuple[str, str]:
    """A ``{question}`` as plain text with boxes to tick, and what was taken out of it.

    Parameters
    ----------
    title
        What it asks.
    body
        Its choices, each followed by what a reader is told of it.
    """
    choices: list[str] = []
    told: list[str] = []
    for line in body.split("\n"):
        if begin := _CHOICE.fullmatch(line):
            choices.append(f"- [ ] {begin[1]}")
        elif not (_OPTION.match(line) and not choices):
            told.append(line)
    return "\n".join([f"**Question.** {title}", "", *choices]), "\n".join(told)
