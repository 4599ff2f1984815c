"""The error that a step may make: relative to the state, and to the distance it moves."""

import math

import pytest

from dmf_utils.flow.step_size import tolerated_error

USUAL = {"stages": None, "is_faster": False, "is_last": False}


@pytest.mark.parametrize("stages", [None, 8, 100])
def test_the_last_steps_are_held_to_less(stages):
    """No later one dampens what they miss: three tenths of the tolerance, as the flow promises."""
    usual = tolerated_error(1e-4, 5.0, 1e3, **USUAL | {"stages": stages})
    last = tolerated_error(1e-4, 5.0, 1e3, **USUAL | {"stages": stages, "is_last": True})
    assert usual == pytest.approx(5e-4, rel=1e-12)
    assert last / usual == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize(
    ("stages", "is_faster", "share"), [(None, True, 0.2), (9, True, 0.3), (9, False, 1.6)]
)
def test_a_short_step_is_held_to_a_share_of_its_length(stages, is_faster, share):
    options = USUAL | {"stages": stages, "is_faster": is_faster}
    one, two = (tolerated_error(1e-4, 1.0, move, **options) for move in (1e-5, 2e-5))
    assert two - one == pytest.approx(share * 1e-2 * 1e-5, rel=1e-6)
    still = tolerated_error(1e-4, 1.0, 0.0, **options)
    assert 0 < still < 1e-10  # rounding, so that a run at rest can be told to be
    assert tolerated_error(1e-4, 1.0, math.inf, **options) == 1e-4
