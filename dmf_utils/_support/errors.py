"""The error of a user's input."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """Something the user gave does not fit; its message is one line that says what to do."""
