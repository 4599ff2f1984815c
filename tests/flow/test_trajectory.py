"""What is recorded, the result of a run, and its warnings."""

import math
import warnings

import numpy as np
import pytest
import torch

from dmf_utils.flow.trajectory import (
    Record,
    Recorder,
    Status,
    Trajectory,
    leading_singular_values,
    warn_unless_reached,
)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def finished(recorder, status=Status.reached, loss=0.5, factors=None):
    factors = factors or [randn(3, 4), randn(5, 3)]
    return recorder.finish(
        product=factors[-1] @ factors[0] if len(factors) > 1 else factors[0],
        factors=factors,
        loss=loss,
        time=2.5,
        status=status,
        n_gradients=17,
        n_steps=3,
        seconds=0.1,
    )


# --- leading singular values ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (300, 310), (310, 300)])
@pytest.mark.parametrize("count", [1, 4])
def test_leading_singular_values(shape, count):
    W = randn(*shape)
    exact = np.linalg.svd(W.numpy(), compute_uv=False)[:count]
    found = leading_singular_values(W, count)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-11)


def test_small_singular_values_of_a_large_matrix_beside_a_huge_one():
    U = torch.linalg.qr(randn(320, 3, seed=1))[0]
    V = torch.linalg.qr(randn(300, 3, seed=2))[0]
    values = torch.tensor([3400.0, 50.0, 1e-3], dtype=torch.float64)
    found = leading_singular_values(U * values @ V.T, 3)
    torch.testing.assert_close(found, values, rtol=1e-8, atol=0)


def test_singular_values_of_large_matrices_of_special_kind():
    assert leading_singular_values(torch.zeros(300, 320).double(), 5).tolist() == [0.0] * 5
    equal = leading_singular_values(1e-3 * torch.eye(300, dtype=torch.float64), 10)
    torch.testing.assert_close(equal, torch.full_like(equal, 1e-3), rtol=1e-12, atol=0)
    again = leading_singular_values(randn(300, 300), 3)
    assert torch.equal(again, leading_singular_values(randn(300, 300), 3))


# --- recorder -------------------------------------------------------------------------------------


def test_recorder_writes_what_was_asked():
    record = Record(
        times=[0.0, 1.0, 4.0],
        singular_values=2,
        measures={"trace": torch.trace, "first": lambda W: W[0], "one": lambda W: 1.0},
        factors=True,
    )
    recorder = Recorder(record)
    factors = [randn(4, 4, seed=1), randn(4, 4, seed=2)]
    products = []
    for loss, t in ((3.0, 0.0), (2.0, 1.0)):
        assert recorder.next_time == t
        products.append(factors[1] @ factors[0])
        recorder.write(loss, products[-1], factors)
        factors[0] *= 2
    assert recorder.next_time == 4.0
    run = finished(recorder)
    assert (run.times.tolist(), run.losses.tolist()) == ([0.0, 1.0], [3.0, 2.0])
    assert run.singular_values.shape == (2, 2)
    for k, W in enumerate(products):
        assert float(run.measured["trace"][k]) == float(torch.trace(W))
        torch.testing.assert_close(run.measured["first"][k], W[0], rtol=0, atol=0)
        torch.testing.assert_close(run.singular_values[k], torch.linalg.svdvals(W)[:2])
    assert run.measured["one"].tolist() == [1.0, 1.0]
    # Copies: what the run does later to its factors does not reach them.
    assert torch.equal(2 * run.recorded_factors[0][0], run.recorded_factors[1][0])
    assert torch.equal(run.recorded_factors[0][1], run.recorded_factors[1][1])


def test_recorder_keeps_the_time_of_a_step():
    recorder = Recorder(Record([1.0, 2.0]))
    recorder.write(1.0, randn(2, 2), [randn(2, 2)], time=1.25)
    assert recorder.next_time == 2.0
    recorder.write(1.0, randn(2, 2), [randn(2, 2)], time=2.5)
    assert math.isinf(recorder.next_time)
    assert finished(recorder).times.tolist() == [1.25, 2.5]


def test_times_that_a_run_does_not_reach_leave_nothing():
    run = finished(Recorder(Record([9.0], measures={"trace": torch.trace})))
    assert run.times.shape == run.losses.shape == run.measured["trace"].shape == (0,)


def test_measure_that_returns_the_matrix_itself_is_copied():
    recorder, W = Recorder(Record([0.0], measures={"W": lambda W: W})), randn(2, 2)
    before = W.clone()
    recorder.write(1.0, W, [W])
    W.zero_()
    assert torch.equal(finished(recorder).measured["W"][0], before)


@pytest.mark.parametrize(("asked", "kept"), [(0, 0), (2, 2), (9, 4)])
def test_shapes_of_records(asked, kept):
    empty = finished(Recorder(Record([3.0], singular_values=asked)))
    assert empty.times.shape == empty.losses.shape == (0,)
    assert empty.singular_values.shape == (0, kept)
    recorder = Recorder(Record([0.0], singular_values=asked))
    recorder.write(1.0, randn(5, 4), [randn(5, 4)])
    assert finished(recorder).singular_values.shape == (1, kept)


def test_result_says_what_happened():
    run = finished(Recorder(Record()), Status.step_limit, loss=0.123456)
    assert repr(run) == (
        "Trajectory(step limit: depth 2, 5×4, loss 0.123 at time 2.5, 17 gradients in 0.1 s)"
    )
    assert run.depth == 2
    with pytest.raises(AttributeError):
        run.loss = 0.0
    assert isinstance(run, Trajectory)


# --- warnings -------------------------------------------------------------------------------------


def test_success_is_silent():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warn_unless_reached([finished(Recorder(Record()))] * 2, "gradient_flow")
    assert not seen


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            Status.step_limit,
            "'step limit' .largest loss 7.; raise max_steps or max_gradients, or ask",
        ),
        (Status.diverged, "'diverged' .largest loss 7.; lower the learning rate, or look at the"),
        (Status.stalled, "'stalled' .largest loss 7.; ask for a larger until_loss, or stop at"),
    ],
)
def test_every_other_end_warns_and_says_what_to_change(status, message):
    runs = [
        finished(Recorder(Record())),
        finished(Recorder(Record()), status, loss=7.0),
        finished(Recorder(Record()), status, loss=3.0),
    ]
    with pytest.warns(RuntimeWarning, match=f"of_it: 2 of 3 runs ended with status {message}"):
        warn_unless_reached(runs, "of_it")


def test_each_status_warns_once():
    runs = [finished(Recorder(Record()), status) for status in Status for _ in range(2)]
    with pytest.warns(RuntimeWarning) as seen:
        warn_unless_reached(runs, "gradient_flow")
    assert len(seen) == 4
    assert all("2 of 10 runs" in str(one.message) for one in seen)


# --- bad input ------------------------------------------------------------------------------------


def test_record_is_a_value():
    record = Record(times=torch.linspace(0, 1, 3), singular_values=1)
    assert record.times == (0.0, 0.5, 1.0)
    assert Record().times == ()
    with pytest.raises(AttributeError):
        record.times = (1.0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"times": [1.0, 0.5]},
            ValueError,
            "times must be finite, at least 0 and increasing; sort",
        ),
        ({"times": [-1.0]}, ValueError, "times must be finite, at least 0"),
        ({"times": [math.nan]}, ValueError, "times must be finite"),
        ({"times": [math.inf]}, ValueError, "times must be finite"),
        ({"times": None}, TypeError, "times must be a sequence of numbers, got None"),
        ({"times": "123"}, TypeError, "times must be a sequence of numbers, got '123'"),
        ({"singular_values": -1}, ValueError, "singular_values must be at least 0, got -1"),
        ({"singular_values": 2.5}, TypeError, "singular_values must be an integer, got 2.5"),
        ({"measures": {"W": 3}}, TypeError, r"measures\['W'\] must be a function of W, got 3"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        Record(**arguments)
