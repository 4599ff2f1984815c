"""The rules by which the ledger judges a measured value; each can fail."""

from __future__ import annotations

import itertools
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Scalar = bool | int | float
Measured = Scalar | list[Scalar] | dict[str, Scalar]


@dataclass(frozen=True)
class Rule:
    """A named test of a measured value.

    Attributes
    ----------
    name
        A key of the table at this module's end, such as ``range``.
    text
        The rule in words, for the ledger's pages.
    holds
        Whether a value fulfils the rule; raises ``TypeError`` for a value it cannot judge.
    """

    name: str
    text: str
    holds: Callable[[Measured], bool]


def plain_value(value: Any, where: str) -> Measured:
    """A number, bool, list or dict of plain Python numbers, all finite.

    Raises
    ------
    TypeError
        If the value is of another kind.
    ValueError
        If it is empty, or a number is NaN or infinite.
    """
    if hasattr(value, "tolist"):  # arrays and tensors, scalars of either
        value = value.tolist()
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if not _is_finite(value):
            shown = reprlib.repr(value)
            raise ValueError(f"{where}: measured {shown}; a run that gives no number is no value")
        return value
    if isinstance(value, dict | list | tuple) and not value:
        raise ValueError(f"{where}: measured {value!r}, which is empty")
    if isinstance(value, dict):
        return {str(name): _number(item, where) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_number(item, where) for item in value]
    raise TypeError(
        f"{where}: measured a {type(value).__name__}; give a number, a bool, or a list or dict"
    )


def _is_finite(number: float) -> bool:
    """Whether it is a number in double precision; whole ones may be too large for that."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _number(value: Any, where: str) -> Scalar:
    plain = plain_value(value, where)
    if isinstance(plain, list | dict):
        raise TypeError(f"{where}: measured nested lists; give one list of numbers")
    return plain


def parse_rule(entry: Any, where: str) -> Rule:
    """A rule from its YAML form, a mapping of the rule's name to its parameters.

    Raises
    ------
    ValueError
        If the rule is unknown or its parameters do not fit.
    """
    if entry is True or entry == "true":  # YAML reads a bare `true` as a bool
        entry = {"true": None}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(f"{where} is {entry!r}, must be one of {', '.join(_MAKERS)}")
    ((name, parameters),) = entry.items()
    if name not in _MAKERS:
        raise ValueError(f"{where}: unknown rule {name!r}, must be one of {', '.join(_MAKERS)}")
    try:
        text, holds = _MAKERS[name](parameters)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: {name} got {reprlib.repr(parameters)}, must be {_FORMS[name]} ({error})"
        ) from error
    return Rule(name, text, holds)


def _numbers(measured: Measured) -> list[float]:
    if isinstance(measured, dict):
        measured = list(measured.values())
    values = measured if isinstance(measured, list) else [measured]
    if any(isinstance(value, bool) for value in values):
        raise TypeError(f"measured {measured!r}, but this claim's rule judges numbers")
    return [float(value) for value in values]


def _parameter(value: Any) -> float:
    # YAML 1.1 reads 1e-6 (no point, no sign) as text: take it as the number that was meant.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{value!r} is not a number")
    if not _is_finite(number := value if isinstance(value, int) else float(value)):
        raise ValueError(f"{reprlib.repr(value)} is not finite")
    return float(number)


def _fields(parameters: Any, *names: str) -> list[float]:
    if set(parameters) != set(names):
        raise ValueError(f"fields are {', '.join(parameters)}")
    return [_parameter(parameters[name]) for name in names]


_Made = tuple[str, Callable[[Measured], bool]]


def _range(parameters: Any) -> _Made:
    low, high = map(_parameter, parameters)
    if not low < high:
        raise ValueError("low must be below high")
    return (
        f"from {low:g} to {high:g}",
        lambda measured: all(low <= value <= high for value in _numbers(measured)),
    )


def _ratio(parameters: Any) -> _Made:
    expected, factor = _fields(parameters, "expected", "factor")
    if not (expected > 0 and factor > 1):
        raise ValueError("expected must be positive, factor above 1")
    return (
        f"{expected:g} within a factor of {factor:g}",
        lambda measured: all(
            expected / factor <= value <= expected * factor for value in _numbers(measured)
        ),
    )


def _order(parameters: Any) -> _Made:
    if isinstance(parameters, str):
        parameters = {"direction": parameters}
    direction, strict = parameters["direction"], parameters.get("strict", True)
    if direction not in ("increasing", "decreasing") or not isinstance(strict, bool):
        raise ValueError("direction is increasing or decreasing, strict is true or false")
    if unknown := set(parameters) - {"direction", "strict"}:
        raise ValueError(f"unknown {', '.join(unknown)}")
    sign = 1.0 if direction == "increasing" else -1.0

    def holds(measured: Measured) -> bool:
        values = _numbers(measured)
        if len(values) < 2:
            raise TypeError(f"measured {measured!r}, but an order needs two numbers or more")
        steps = [sign * (after - before) for before, after in itertools.pairwise(values)]
        return all(step > 0 or (step == 0 and not strict) for step in steps)

    return f"{'strictly ' if strict else ''}{direction}", holds


def _exponent(parameters: Any) -> _Made:
    expected, tolerance = _fields(parameters, "expected", "tolerance")
    if tolerance <= 0:
        raise ValueError("tolerance must be positive")
    return (
        f"exponent {expected:g} ± {tolerance:g}",
        lambda measured: all(abs(value - expected) <= tolerance for value in _numbers(measured)),
    )


def _bound_above(parameters: Any) -> _Made:
    bound = _parameter(parameters)
    return (
        f"at most {bound:g}",
        lambda measured: all(value <= bound for value in _numbers(measured)),
    )


def _bound_below(parameters: Any) -> _Made:
    bound = _parameter(parameters)
    return (
        f"at least {bound:g}",
        lambda measured: all(value >= bound for value in _numbers(measured)),
    )


def _true(parameters: Any) -> _Made:
    if parameters is not None:
        raise ValueError("it takes no parameters")

    def holds(measured: Measured) -> bool:
        values = list(measured.values()) if isinstance(measured, dict) else measured
        values = values if isinstance(values, list) else [values]
        if not all(isinstance(value, bool) for value in values):
            raise TypeError(f"measured {measured!r}, but this claim's rule judges true or false")
        return all(values)

    return "must be true", holds


def _share(parameters: Any) -> _Made:
    numbers = dict(parameters)
    inner = parse_rule(numbers.pop("rule"), "its rule")
    at_least, of = _fields(numbers, "at_least", "of")
    if not 0 < at_least <= of:
        raise ValueError("at_least must be positive and at most of")
    if inner.name in ("order", "share"):
        raise ValueError(f"{inner.name} does not judge a single value")

    def holds(measured: Measured) -> bool:
        values = list(measured.values()) if isinstance(measured, dict) else measured
        if not isinstance(values, list) or len(values) < 2:
            raise TypeError(f"measured {measured!r}, but a share needs two values or more")
        return sum(map(inner.holds, values)) * of >= at_least * len(values)

    return f"for at least {at_least:g} of {of:g}: {inner.text}", holds


_MAKERS: dict[str, Callable[[Any], _Made]] = {
    "range": _range,
    "ratio": _ratio,
    "order": _order,
    "exponent": _exponent,
    "bound_above": _bound_above,
    "bound_below": _bound_below,
    "true": _true,
    "share": _share,
}
_FORMS = {
    "range": "[low, high]",
    "ratio": "{expected: …, factor: …}",
    "order": "increasing, decreasing or {direction: …, strict: …}",
    "exponent": "{expected: …, tolerance: …}",
    "bound_above": "a number",
    "bound_below": "a number",
    "true": "without parameters",
    "share": "{at_least: …, of: …, rule: …}",
}
