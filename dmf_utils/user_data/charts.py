"""Pictures of the report on a matrix of one's own: SVG, its colours set by the page's scheme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from dmf_utils.user_data.completion import OwnCompletion

__all__ = ["error_picture", "path_picture", "singular_value_picture", "words"]

_WIDTH, _HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 22, 40
_DASHES = ("", "6 3", "8 3 2 3", "2 3")
_SERIES = 6  # colours, then they come again
_MOST_VALUES = 30


def words(number: float) -> str:
    """A number in three figures, as a person writes it."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    return f"{number:.3g}" if 1e-3 <= abs(number) < 1e5 else f"{number:.2e}"


@dataclass(frozen=True)
class _Scale:
    """From numbers to places along an axis."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, number: float) -> float:
        low, high = self._of(self.low), self._of(self.high)
        share = (self._of(number) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def _of(self, number: float) -> float:
        return math.log10(number) if self.is_log else number

    def ticks(self) -> list[float]:
        """Decades, or multiples of 1, 2 or 5; between four and eight of them where that goes."""
        if self.is_log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            step = max(1, (last - first) // 4)
            if last - first >= 2:
                return [10.0**power for power in range(first, last + 1, step)]
            marks = [m * 10.0**p for p in range(first - 1, last + 1) for m in (1, 2, 5)]
            return [mark for mark in marks if self.low <= mark <= self.high]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        first = math.ceil(self.low / step)
        return [k * step for k in range(first, math.floor(self.high / step) + 1)]


def _scale(numbers: Sequence[float], start: float, end: float, is_log: bool) -> _Scale:
    """An axis for these numbers, with room at its ends; a linear one begins at 0."""
    if is_log:
        shown = [number for number in numbers if number > 0] or [1.0]
        low, high = math.log10(min(shown)), math.log10(max(shown))
        room = max(0.05 * (high - low), 0.05)
        return _Scale(10 ** (low - room), 10 ** (high + room), start, end, True)
    return _Scale(0.0, 1.06 * max(*numbers, 0.0) or 1.0, start, end)


def _picture(
    parts: list[str], x: _Scale, y: _Scale | None, names: tuple[str, str], alt: str
) -> str:
    """The drawing, with its axes, in a frame."""
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    axes = [f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>']
    for tick in x.ticks():
        at = f"{x(tick):.1f}"
        axes.append(f'<path class="grid" d="M{at} {_TOP}V{bottom}"/>')
        axes.append(f'<text class="x" x="{at}" y="{bottom + 15}">{words(tick)}</text>')
    for tick in y.ticks() if y else []:
        at = f"{y(tick):.1f}"
        axes.append(f'<path class="grid" d="M{_LEFT} {at}H{right}"/>')
        axes.append(f'<text class="y" x="{_LEFT - 5}" y="{y(tick) + 4:.1f}">{words(tick)}</text>')
    middle = (_LEFT + right) / 2
    axes.append(f'<text class="x" x="{middle}" y="{_HEIGHT - 6}">{escape(names[0])}</text>')
    axes.append(f'<text x="2" y="12">{escape(names[1])}</text>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(alt)}">'
        f"{''.join(axes + parts)}</svg>"
    )


def error_picture(found: OwnCompletion) -> str:
    """Held-out error of each method, with its standard error."""
    table = found.table
    errors = table.error.astype(float)
    is_log = bool(errors.max() > 10 * errors.min() > 0)
    x = _scale([*errors, *(errors + table.spread.astype(float))], _LEFT, _WIDTH - _RIGHT, is_log)
    step = (_HEIGHT - _TOP - _BOTTOM) / len(table)
    parts = []
    for k, (name, row) in enumerate(table.iterrows()):
        y = _TOP + (k + 0.5) * step
        low, high = (max(row.error + s * row.spread, x.low) for s in (-1, 1))
        short = str(name).split(" of ")[0].replace("minimum nuclear norm", "min. norm")
        parts.append(f'<text class="y" x="{_LEFT - 5}" y="{y + 4:.1f}">{escape(short)}</text>')
        if row.error > 0 or not is_log:
            parts.append(f'<path class="bar" d="M{x(low):.1f} {y:.1f}H{x(high):.1f}"/>')
            parts.append(f'<circle class="dot" cx="{x(row.error):.1f}" cy="{y:.1f}" r="4"/>')
    alt = "; ".join(f"{name}: {words(error)}" for name, error in errors.items())
    return _picture(parts, x, None, ("held-out error", ""), f"Held-out error. {alt}")


def path_picture(found: OwnCompletion) -> str:
    """Error on the stopping entries along the residual on the fitted ones, for each depth."""
    looks = {depth: path for depth, path in found.paths.items() if len(path)}
    if not looks:
        return ""
    residuals = np.concatenate([path.residual for path in looks.values()])
    errors = np.concatenate([path.error for path in looks.values()])
    x = _scale(residuals, _WIDTH - _RIGHT, _LEFT, True)  # to the right, the residual falls
    y = _scale(errors, _HEIGHT - _BOTTOM, _TOP, True)
    parts = []
    for k, (depth, path) in enumerate(looks.items()):
        places = [
            (x(residual), y(error))
            for residual, error in zip(path.residual, path.error, strict=True)
            if residual > 0 and error > 0
        ]
        line = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        kind, dash = k % _SERIES + 1, _DASHES[k % len(_DASHES)]
        parts.append(f'<path class="line s{kind}" stroke-dasharray="{dash}" d="M{line}"/>')
        best = path.loc[path.error.idxmin()]
        if best.error > 0:
            place = f'cx="{x(best.residual):.1f}" cy="{y(best.error):.1f}"'
            parts.append(f'<circle class="ring s{kind}" {place} r="4"/>')
        top = _TOP + 8 + 14 * k
        parts.append(
            f'<path class="line s{kind}" stroke-dasharray="{dash}" d="M{_WIDTH - 96} {top}h34"/>'
            f'<text x="{_WIDTH - 56}" y="{top + 4}">depth {depth}</text>'
        )
    alt = (
        "Error on the entries that stop a run, against the residual, for each depth. "
        + "; ".join(
            f"depth {depth}: least {words(path.error.min())}" for depth, path in looks.items()
        )
    )
    names = ("residual on the fitted entries", "error on the stopping entries")
    return _picture(parts, x, y, names, alt)


def singular_value_picture(found: OwnCompletion) -> str:
    """The leading singular values behind the completed matrix."""
    values = found.singular_values[:_MOST_VALUES]
    x = _Scale(0.0, len(values) + 1.0, _LEFT, _WIDTH - _RIGHT)
    y = _scale(list(values), _HEIGHT - _BOTTOM, _TOP, False)
    parts = [
        f'<path class="stem" d="M{x(k):.1f} {y(0):.1f}V{y(value):.1f}"/>'
        f'<circle class="dot" cx="{x(k):.1f}" cy="{y(value):.1f}" r="3"/>'
        for k, value in enumerate(values, start=1)
    ]
    shown = ", ".join(words(value) for value in values[:5])
    alt = f"Singular values at depth {found.depth}, in descending order, beginning {shown}"
    return _picture(parts, x, y, ("number", f"singular values, depth {found.depth}"), alt)
