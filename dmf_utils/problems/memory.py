"""How much memory matrix sensing takes, so that too much is refused before anything is made."""

from __future__ import annotations

__all__ = ["gram_bytes", "sensing_bytes"]


def gram_bytes(count: int) -> int:
    """Products of all pairs of `count` measurement matrices, their factor, room to compute it."""
    return 24 * count**2


def sensing_bytes(rows: int, columns: int, count: int, method: str) -> int:
    """What a method holds of `count` measurement matrices at its peak, at most.

    All hold the matrices in double precision. A flow may hold them in single precision as well;
    the minimum nuclear norm needs the products of all pairs.
    """
    numbers = rows * columns * count
    beside = {"truth": 0, "min_nuclear_norm": gram_bytes(count)}.get(method, 4 * numbers)
    return 8 * numbers + beside
