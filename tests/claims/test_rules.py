"""Each rule holds for a value, fails for another, and refuses what it cannot judge."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dmf_utils.claims.rules import parse_rule, plain_value

NINE_OF_TEN = {"share": {"at_least": 9, "of": 10, "rule": {"bound_above": 1e-4}}}


@pytest.mark.parametrize(
    ("entry", "good", "bad"),
    [
        ({"range": [1, 2]}, 1, 0.999),
        ({"range": [1, 2]}, 2.0, 2.001),
        ({"range": [1, 2]}, [1, 1.5, 2], [1, 1.5, 2.1]),
        ({"range": [1, 2]}, {"a": 1, "b": 2}, {"a": 1, "b": 3}),
        ({"ratio": {"expected": 3e-5, "factor": 10}}, 3e-6, 2.9e-6),
        ({"ratio": {"expected": 3e-5, "factor": 10}}, 3e-4, 3.1e-4),
        ({"ratio": {"expected": 3e-5, "factor": 10}}, 3e-5, -3e-5),
        ({"order": "increasing"}, [1, 2, 3], [1, 3, 2]),
        ({"order": "increasing"}, [1, 2, 3], [1, 1, 2]),
        ({"order": "decreasing"}, {"2": 0.1, "3": 1e-5}, {"2": 0.1, "3": 0.2}),
        ({"order": {"direction": "increasing", "strict": False}}, [1, 1, 2], [1, 1, 0]),
        ({"exponent": {"expected": 3, "tolerance": 0.05}}, 3.05, 3.051),
        ({"exponent": {"expected": 3, "tolerance": 0.05}}, 2.95, 2.949),
        ({"exponent": {"expected": -2, "tolerance": 0.05}}, -1.96, 2),
        ({"bound_above": 1e-3}, 1e-3, 1.001e-3),
        ({"bound_above": "1e-3"}, [1e-4, 1e-3], [1e-4, 2e-3]),
        ({"bound_below": 2}, 2, 1.999),
        ("true", True, False),
        (True, {"a": True, "b": True}, {"a": True, "b": False}),
        ({"true": None}, [True], [True, False]),
        (NINE_OF_TEN, [1e-5] * 9 + [1.0], [1e-5] * 8 + [1.0, 1.0]),
        (NINE_OF_TEN, {"a": 1e-5, "b": 1e-4}, {"a": 1e-5, "b": 2e-4}),
        (NINE_OF_TEN, [1e-5] * 19 + [1.0], [1e-5] * 17 + [1.0] * 3),
        ({"share": {"at_least": 1, "of": 2, "rule": "true"}}, [True, False], [False, False]),
    ],
)
def test_a_rule_holds_and_fails(entry: Any, good: Any, bad: Any) -> None:
    rule = parse_rule(entry, "rule")
    assert rule.holds(good)
    assert not rule.holds(bad)


def test_a_share_says_how_many_of_how_many() -> None:
    assert parse_rule(NINE_OF_TEN, "rule").text == "for at least 9 of 10: at most 0.0001"


@pytest.mark.parametrize(
    ("entry", "value", "error", "words"),
    [
        ({"bound_above": 1}, math.nan, ValueError, "measured nan"),
        ({"bound_above": 1}, [0.5, math.inf], ValueError, "measured inf"),
        ({"bound_above": 1}, {"a": -math.inf}, ValueError, "measured -inf"),
        ({"bound_above": 1}, 10**400, ValueError, "measured 1"),
        ({"bound_above": 1}, [], ValueError, "empty"),
        ({"bound_above": 1}, {}, ValueError, "empty"),
        ({"bound_above": 1}, "0.5", TypeError, "measured a str"),
        ({"bound_above": 1}, True, TypeError, "judges numbers"),
        ({"bound_above": 1}, [[0.5]], TypeError, "nested"),
        ("true", 1, TypeError, "judges true or false"),
        ({"order": "increasing"}, 3, TypeError, "two numbers or more"),
        ({"order": "increasing"}, [3], TypeError, "two numbers or more"),
        (NINE_OF_TEN, 1e-5, TypeError, "two values or more"),
        (NINE_OF_TEN, [1e-5], TypeError, "two values or more"),
        (NINE_OF_TEN, [1e-5, True], TypeError, "judges numbers"),
    ],
)
def test_a_value_that_cannot_be_judged_is_refused(
    entry: Any, value: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        parse_rule(entry, "rule").holds(plain_value(value, "a claim"))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"near": 3}, "unknown rule 'near'"),
        ({"range": [2, 1]}, "low must be below high"),
        ({"range": [1]}, r"must be \[low, high\]"),
        ({"ratio": {"expected": 1}}, "factor"),
        ({"ratio": {"expected": 1, "factor": 1}}, "factor above 1"),
        ({"order": "upwards"}, "increasing or decreasing"),
        ({"order": {"direction": "increasing", "stric": True}}, "stric"),
        ({"exponent": {"expected": 1, "tolerance": 0}}, "tolerance must be positive"),
        ({"bound_above": "small"}, "bound_above got 'small'"),
        ({"bound_above": math.inf}, "not finite"),
        ({"range": [1, 10**400]}, "not finite"),
        ({"bound_above": "nan"}, "not finite"),
        ({"bound_above": True}, "not a number"),
        ({"bound_above": 1, "bound_below": 0}, "must be one of"),
        ({"true": 1}, "no parameters"),
        ({"share": {"at_least": 9, "of": 10}}, "share got"),
        ({"share": {"at_least": 9, "rule": "true"}}, "share got"),
        ({"share": {"at_least": 11, "of": 10, "rule": "true"}}, "at most of"),
        ({"share": {"at_least": 0, "of": 10, "rule": "true"}}, "must be positive"),
        ({"share": {"at_least": 9, "of": 10, "rule": {"near": 1}}}, "unknown rule 'near'"),
        ({"share": {"at_least": 9, "of": 10, "rule": {"order": "increasing"}}}, "single value"),
        ({"share": {"at_least": 9, "of": 10, "off": 1, "rule": "true"}}, "off"),
        ({"share": 9}, "share got 9"),
    ],
)
def test_a_wrong_rule_is_refused(entry: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_rule(entry, "rule")
