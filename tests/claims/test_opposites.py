"""The ledger can say no: each row that a run could refute refuses the opposite of its claim."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from dmf_utils.claims.ledger import Claim, Kind, Verdict, judge, load
from dmf_utils.claims.rules import Rule

LEDGER = load(Path(__file__).parents[2] / "book" / "claims.yml")
OPPOSITES: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("opposites.yml").read_text(encoding="utf-8")
)
REFUTABLE = {id: claim for id, claim in LEDGER.items() if claim.kind in (Kind.PAPER, Kind.LATER)}


def test_each_row_that_a_run_could_refute_has_its_opposite() -> None:
    assert sorted(REFUTABLE) == sorted(OPPOSITES)


def lets_pass(claim: Claim, value: Any) -> bool:
    """Whether a value that the opposite of the claim would give is not refused.

    By the looser rule as well: it is a looser form of the claim, not another claim.
    """
    return judge(claim, value) is not Verdict.NOT_REPRODUCED


@pytest.mark.parametrize("id", [id for id in REFUTABLE if id in OPPOSITES])
def test_the_opposite_of_the_claim_is_refused(id: str) -> None:
    assert set(OPPOSITES[id]) == {"value", "why"}
    assert not lets_pass(LEDGER[id], OPPOSITES[id]["value"])


@pytest.mark.parametrize("field", ["rule", "partly"])
@pytest.mark.parametrize("id", [id for id in REFUTABLE if id in OPPOSITES])
def test_a_loosened_rule_is_found_out(id: str, field: str) -> None:
    """Each entry can find a rule that asks nothing: it is a value such a rule would take."""
    loose = dataclasses.replace(LEDGER[id], **{field: Rule("any", "anything", lambda value: True)})
    assert lets_pass(loose, OPPOSITES[id]["value"])


@pytest.mark.parametrize("claim", LEDGER.values(), ids=list(LEDGER))
def test_what_is_not_of_the_paper_says_where_it_comes_from(claim: Claim) -> None:
    """Nobody predicts after the run: a value of our own was derived, or observed."""
    assert "predict:" not in claim.expected
    if claim.kind is Kind.OURS and claim.expected.startswith("none"):
        pytest.fail("say 'derived here: …' or 'observed: …'")
