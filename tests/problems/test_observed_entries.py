"""Gradients from the observed entries alone, against autograd, and where they are asked for."""

from __future__ import annotations

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from dmf_utils import MatrixCompletion, gaussian, gradient_flow
from dmf_utils.factorization.product import factor_gradients, product_matrix
from dmf_utils.flow.batch import prepare


@pytest.mark.parametrize("shape", [(7, 11), (11, 7), (8, 8)])
@pytest.mark.parametrize("reduction", ["mean", "half_sum"])
@pytest.mark.parametrize(("depth", "hidden"), [(2, 3), (2, 7), (3, 4), (4, 5)])
@pytest.mark.filterwarnings("ignore:hidden = ")
def test_loss_and_gradients_are_those_of_autograd(
    shape: tuple[int, int], reduction: str, depth: int, hidden: int
) -> None:
    problem = MatrixCompletion.random(shape, 2, 30, seed=0, reduction=reduction)
    factors = gaussian(norm=3.0, seed=1).factors(problem.shape, depth, hidden)
    leaves = [W.clone().requires_grad_() for W in factors]
    error = (product_matrix(leaves) - problem.values)[problem.mask]
    loss = error.square().mean() if reduction == "mean" else 0.5 * error.square().sum()
    loss.backward()
    out = [torch.full_like(W, torch.nan)[None] for W in factors]
    found = problem.loss_and_factor_gradients([W[None] for W in factors], out)
    assert float(found) == pytest.approx(loss.item(), rel=1e-13)
    for gradient, leaf in zip(out, leaves, strict=True):
        torch.testing.assert_close(gradient[0], leaf.grad, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("depth", [3, 4])
def test_products_are_as_small_as_the_shorter_side_allows(depth: int) -> None:
    def operations(shape: tuple[int, int]) -> int:
        problem = MatrixCompletion.random(shape, 1, 20, seed=0)
        factors = [W[None] for W in gaussian(norm=1.0, seed=0).factors(shape, depth, None)]
        out = [torch.empty_like(W) for W in factors]
        dense = {torch.ops.aten.mm.default: mm_flop, torch.ops.aten.mm.out: mm_flop}
        with FlopCounterMode(display=False, custom_mapping=dense) as counted:
            problem.loss_and_factor_gradients(factors, out)
        return counted.get_total_flops()

    wide, tall = operations((30, 300)), operations((300, 30))
    assert wide == tall


@pytest.mark.filterwarnings("ignore:hidden = ")
def test_each_of_a_batch_gets_its_own_gradient() -> None:
    problem = MatrixCompletion.random((9, 6), 1, 20, seed=0)
    several = [gaussian(norm=1.0, seed=seed).factors(problem.shape, 2, 3) for seed in range(3)]
    factors = [torch.stack(of_layer) for of_layer in zip(*several, strict=True)]
    out = [torch.empty_like(W) for W in factors]
    losses = problem.loss_and_factor_gradients(factors, out)
    dense_losses, slope = problem.loss_and_gradient(product_matrix(factors))
    torch.testing.assert_close(losses, dense_losses)
    for found, expected in zip(out, factor_gradients(factors, slope), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:hidden = ")
def test_the_rule_asks_for_them_only_where_they_pay() -> None:
    def prefers(shape, share, depth=2, copies=1, hidden=None) -> bool:
        one = MatrixCompletion.random(shape, 1, round(share * shape[0] * shape[1]), seed=0)
        given = one if copies == 1 else [one, MatrixCompletion.from_mask(one.values, one.mask)]
        start = gaussian(1e-2, 0)
        return prepare(given, depth, start, hidden, "cpu", torch.float64)[0].from_factors

    assert prefers((300, 400), 0.05)
    assert prefers((300, 400), 0.05, depth=3)
    assert not prefers((300, 400), 0.05, depth=1)
    assert prefers((300, 400), 0.063)  # as MovieLens 100K
    assert not prefers((300, 400), 0.1)
    assert not prefers((300, 400), 0.1, depth=3)
    assert prefers((290, 400), 0.1)
    assert prefers((300, 400), 0.1, hidden=30)
    assert not prefers((300, 400), 0.3, hidden=30)
    assert not prefers((100, 100), 0.05)
    assert not prefers((300, 400), 0.05, copies=2)


@pytest.mark.filterwarnings("ignore:hidden = ")
def test_a_flow_ends_at_the_same_matrix_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, start = MatrixCompletion.random((320, 300), 2, 9000, seed=0), gaussian(1e-2, 0)
    sparse = gradient_flow(problem, 2, start, 1e-4, hidden=6)
    monkeypatch.setattr(MatrixCompletion, "prefers_factors", lambda self, shapes: False)
    dense = gradient_flow(problem, 2, start, 1e-4, hidden=6)
    assert sparse.n_gradients == dense.n_gradients
    torch.testing.assert_close(sparse.product, dense.product, rtol=0, atol=1e-9)


def test_they_are_faster_on_a_large_sparse_problem() -> None:
    problem = MatrixCompletion.random((900, 800), 2, 15_000, seed=0)
    batch, states, _ = prepare(problem, 2, gaussian(1e-2, 0), None, "cpu", torch.float64)
    out, seconds = torch.empty_like(states), {}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for from_factors in (True, False, True, False, True, False):
            batch.from_factors = from_factors
            begin = time.process_time()
            batch.gradient(states, out)
            spent = time.process_time() - begin
            seconds[from_factors] = min(spent, seconds.get(from_factors, spent))
    finally:
        torch.set_num_threads(before)
    assert seconds[False] > 2 * seconds[True]
