"""Momentum, Adam, stochastic batches and weight decay on deep factorizations."""

import math

import pytest
import torch

from dmf_utils.factorization.initialization import balanced, gaussian
from dmf_utils.factorization.product import product_matrix
from dmf_utils.flow.batch import Factorizations
from dmf_utils.flow.descent import beyond_stability, gradient_descent
from dmf_utils.flow.optimizers import train
from dmf_utils.problems.completion import MatrixCompletion

PROBLEMS = [MatrixCompletion.random((6, 5), 2, 20, seed) for seed in (0, 1)]
STARTS = [gaussian(norm=0.5, seed=seed) for seed in (0, 1)]


def autograd_step(problem, start, depth, step, n_steps):
    """The product matrix after some steps of a torch optimizer on an autograd loss."""
    factors = [W.clone().requires_grad_() for W in start.factors(problem.shape, depth)]
    optimizer = step(factors)
    for _ in range(n_steps):
        optimizer.zero_grad()
        W = product_matrix(factors)
        residual = torch.where(problem.mask, W - problem.values, 0.0)
        (residual.square().sum() / problem.n_observed).backward()
        optimizer.step()
    return product_matrix(factors).detach()


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "options", "step"),
    [
        ("sgd", {"momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        ("sgd", {"weight_decay": 0.1}, lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1)),
        ("adam", {}, lambda p: torch.optim.Adam(p, lr=0.05)),
        ("adam", {"weight_decay": 0.1}, lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1)),
    ],
)
def test_steps_are_those_of_autograd(depth, name, options, step):
    runs = train(PROBLEMS, depth, STARTS, name, learning_rate=0.05, max_steps=7, **options)
    for problem, start, run in zip(PROBLEMS, STARTS, runs, strict=True):
        expected = autograd_step(problem, start, depth, step, 7)
        torch.testing.assert_close(run.product, expected, rtol=1e-10, atol=1e-12)
        assert run.n_steps == 7
        assert run.loss == pytest.approx(float(problem.loss(expected)), rel=1e-10)


def test_plain_steps_are_gradient_descent():
    runs = train(PROBLEMS, 3, STARTS, learning_rate=0.1, until_loss=1e-4, look_every=1)
    for problem, start, run in zip(PROBLEMS, STARTS, runs, strict=True):
        other = gradient_descent(problem, 3, start, 1e-4, learning_rate=0.1)
        assert run.reached
        assert run.n_steps == other.n_steps
        torch.testing.assert_close(run.product, other.product, rtol=1e-9, atol=1e-11)


def test_a_run_is_frozen_when_it_reaches_the_loss():
    runs = train(PROBLEMS, 2, STARTS, learning_rate=0.1, until_loss=1e-3, look_every=5)
    alone = train(PROBLEMS[:1], 2, STARTS[:1], learning_rate=0.1, until_loss=1e-3, look_every=5)[0]
    assert runs[0].n_steps == alone.n_steps != runs[1].n_steps
    torch.testing.assert_close(runs[0].product, alone.product, rtol=1e-12, atol=1e-14)
    assert runs[0].n_steps % 5 == 0
    assert runs[0].loss <= 1e-3


def test_a_start_with_the_asked_loss_is_the_end():
    start = PROBLEMS[0].loss(product_matrix(STARTS[0].factors((6, 5), 2)))
    run = train(PROBLEMS[:1], 2, STARTS[:1], learning_rate=0.1, until_loss=float(start))[0]
    assert (run.n_steps, run.reached) == (0, True)


def test_stochastic_gradients_are_right_on_average():
    problem, start = PROBLEMS[0], gaussian(norm=0.5, seed=3)
    before = product_matrix(start.factors(problem.shape, 1))
    full = train([problem], 1, [start], learning_rate=1.0, max_steps=1)[0].product - before
    count, share = 4000, 0.3
    moved = [
        train(
            [problem], 1, [start], learning_rate=1.0, max_steps=1, batch_share=share, batch_seed=s
        )
        for s in range(count)
    ]
    steps = torch.stack([run[0].product - before for run in moved])
    deviation = (steps.mean(dim=0) - full).abs()
    # five standard errors of a share that is seen or not
    assert bool((deviation <= 5 * full.abs() * math.sqrt((1 - share) / share / count)).all())
    expected = full / share
    seen = steps[0] != 0
    torch.testing.assert_close(steps[0][seen], expected[seen], rtol=1e-9, atol=1e-12)
    assert 0 < int(seen.sum()) < problem.n_observed


def test_weight_decay_at_depth_2_ends_at_the_nuclear_norm_penalty():
    # min over W_2 W_1 = W of (|W_1|² + |W_2|²)/2 is the nuclear norm: the end is soft thresholding.
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    everything = MatrixCompletion.from_mask(
        target, torch.ones(4, 4, dtype=torch.bool), reduction="half_sum"
    )
    run = train(
        [everything],
        2,
        [balanced(norm=1e-1, seed=0)],
        learning_rate=0.05,
        weight_decay=0.7,
        max_steps=6000,
    )[0]
    U, s, Vh = torch.linalg.svd(target)
    expected = (U * (s - 0.7).clamp_min(0)) @ Vh
    torch.testing.assert_close(run.product, expected, rtol=0, atol=1e-6)
    assert not run.reached


def test_divergence_is_told():
    run = train(PROBLEMS[:1], 3, STARTS[:1], learning_rate=50.0, max_steps=200)[0]
    assert not math.isfinite(run.loss)
    assert not run.reached


# --- stability of Adam ----------------------------------------------------------------------------


def said(run):
    """Learning rate × curvature, as the run says it; None if it says nothing."""
    return float(run.detail.split(" is ")[1].split()[0]) if run.detail else None


def adam_by_hand(problem, start, depth, rate, n_steps, decay=0.0):
    """The largest eigenvalue of Adam's preconditioned Hessian after some steps, by autograd."""
    factors = [W.clone().requires_grad_() for W in start.factors(problem.shape, depth)]
    optimizer = torch.optim.Adam(factors, lr=rate, weight_decay=decay)

    def loss(*at):
        residual = torch.where(problem.mask, product_matrix(at) - problem.values, 0.0)
        return residual.square().sum() / problem.n_observed

    for _ in range(n_steps):
        optimizer.zero_grad()
        loss(*factors).backward()
        optimizer.step()
    blocks = torch.autograd.functional.hessian(loss, tuple(W.detach() for W in factors))
    rows = [
        torch.cat([H.reshape(W.numel(), -1) for H in row], dim=1)
        for W, row in zip(factors, blocks, strict=True)
    ]
    H = torch.cat(rows)
    squares = [optimizer.state[W]["exp_avg_sq"].reshape(-1) for W in factors]
    P = (torch.cat(squares) / (1 - 0.999**n_steps)).sqrt() + 1e-8
    scaled = (H + decay * torch.eye(len(P), dtype=H.dtype)) / (P.sqrt()[:, None] * P.sqrt())
    return float(torch.linalg.eigvalsh(scaled)[-1])


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(
    ("depth", "rate", "n_steps"), [(1, 0.01, 40), (2, 0.01, 60), (1, 20.0, 1), (2, 3.0, 1)]
)
def test_adam_says_when_its_step_is_beyond_stability(depth, rate, n_steps, decay):
    problem, start = PROBLEMS[0], STARTS[0]
    options = {"max_steps": n_steps, "until_loss": 1e-30, "weight_decay": decay}
    exact = rate * adam_by_hand(problem, start, depth, rate, n_steps, decay)
    run = train([problem], depth, [start], "adam", learning_rate=rate, **options)[0]
    assert not 36 < exact < 40
    assert bool(run.detail) is (exact > 38) is (rate > 1)
    if exact > 38:
        assert said(run) == pytest.approx(exact, rel=0.02)
        assert "beyond 38" in run.detail


def test_where_adam_is_stable_and_where_not():
    # (w - 1)², with the running square held: stable while rate · 2 / √v is below 38.
    problem = MatrixCompletion(torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1).double())
    alone = Factorizations(problem.stacked([problem]), [(1, 1)], 1)
    w = torch.full((1, 1), 1.5, dtype=torch.float64)
    slope = 2 * (w - 1)
    for share, is_stable in ((0.98, True), (1.02, False)):
        P = torch.full((1, 1), 0.25, dtype=torch.float64)
        rate = share * 38 * 0.25 / 2
        at = torch.tensor(1.5, dtype=torch.float64)
        mean = torch.tensor(0.0, dtype=torch.float64)
        for _ in range(2000):
            mean = 0.9 * mean + 0.1 * 2 * (at - 1)
            at = at - rate * mean / 0.25
        assert (abs(float(at) - 1) < 1e-3) is is_stable
        assert (beyond_stability(alone, w, slope, rate, 0.9, 0.0, P) == "") is is_stable


def test_nothing_is_said_of_stochastic_steps_or_of_none():
    options = {"learning_rate": 20.0, "max_steps": 1}
    assert train(PROBLEMS[:1], 1, STARTS[:1], "adam", batch_share=0.5, **options)[0].detail == ""
    assert train(PROBLEMS[:1], 1, STARTS[:1], "adam", **options)[0].detail
    at_once = train(PROBLEMS[:1], 1, STARTS[:1], "adam", **options | {"until_loss": 1e6})[0]
    assert (at_once.n_steps, at_once.detail) == (0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "lbfgs"}, 'optimizer must be "sgd" or "adam", got \'lbfgs\''),
        ({"learning_rate": 0.0}, "learning_rate must be a positive number"),
        ({"momentum": 1.0}, "momentum must be from 0 to below 1"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"batch_share": 0.0}, "batch_share must be above 0, at most 1"),
        ({"optimizer": "adam", "momentum": 0.9}, 'momentum is for "sgd" only'),
        ({"max_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        train(PROBLEMS, 2, STARTS, **({"learning_rate": 0.1} | options))


def test_problems_and_starts_must_fit():
    with pytest.raises(ValueError, match="must have one length, got 2 and 1"):
        train(PROBLEMS, 2, STARTS[:1], learning_rate=0.1)
    other = MatrixCompletion.random((5, 5), 2, 20, 0)
    with pytest.raises(ValueError, match="problems must be of one shape"):
        train([PROBLEMS[0], other], 2, STARTS, learning_rate=0.1)
