"""The ledger can say no: each row that a run could refute refuses the opposite of its claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dmf_utils.claims.ledger import Claim, Kind, Verdict, judge, load

LEDGER = load(Path(__file__).parents[2] / "book" / "claims.yml")
OPPOSITES: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("opposites.yml").read_text(encoding="utf-8")
)
REFUTABLE = {
    id: claim for id, claim in LEDGER.items() if claim.kind in (Kind.PAPER, Kind.LATER)
}


def test_each_row_that_a_run_could_refute_has_its_opposite() -> None:
    assert sorted(REFUTABLE) == sorted(OPPOSITES)


@pytest.mark.parametrize("id", [id for id in REFUTABLE if id in OPPOSITES])
def test_the_opposite_of_the_claim_is_refused(id: str) -> None:
    """By the looser rule as well: it is a looser form of the claim, not another claim."""
    assert set(OPPOSITES[id]) == {"value", "why"}
    assert judge(LEDGER[id], OPPOSITES[id]["value"]) is Verdict.NOT_REPRODUCED


def test_a_loosened_rule_is_found_out(claim: Any) -> None:
    """The check itself can fail: any first number of the opposites passes a rule without bounds."""
    loose = {"rule": {"bound_below": -1e12}}
    assert judge(claim(**loose), 0.9) is Verdict.REPRODUCED
    looser: Claim = claim(rule={"bound_below": 3}, partly=loose["rule"])
    assert judge(looser, 0.9) is Verdict.PARTLY


@pytest.mark.parametrize("claim", LEDGER.values(), ids=list(LEDGER))
def test_what_is_not_of_the_paper_says_where_it_comes_from(claim: Claim) -> None:
    """Nobody predicts after the run: a value of our own was derived, or observed."""
    assert "predict:" not in claim.expected
    if claim.kind is Kind.OURS and claim.expected.startswith("none"):
        pytest.fail("say 'derived here: …' or 'observed: …'")
