"""Norms and dot products of a step: right where single precision has no room for squares."""

import math

import pytest
import torch

from dmf_utils.flow import step
from dmf_utils.flow.step import dots, norms


def rows(dtype, scale=1.0):
    drawn = torch.randn(3, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (scale * drawn).to(dtype)


@pytest.mark.parametrize("piece", [2**17, 300])
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e18, 1e25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms_and_dots_are_those_of_double_precision(dtype, scale, piece, monkeypatch):
    monkeypatch.setattr(step, "_PIECE", piece)
    one, other = rows(dtype, scale), rows(dtype, scale).flip(0) + rows(dtype, scale)
    wanted = torch.linalg.vector_norm(one.double(), dim=1)
    assert norms(one) == pytest.approx(wanted.tolist(), rel=2e-6)
    products = torch.linalg.vecdot(one.double(), other.double())
    sizes = wanted * torch.linalg.vector_norm(other.double(), dim=1)
    for found, product, size in zip(dots(one, other), products, sizes, strict=True):
        assert abs(found - float(product)) <= 2e-6 * float(size)


def test_a_row_may_be_tiny_beside_another():
    mixed = rows(torch.float32)
    mixed[1] *= 1e-30
    wanted = torch.linalg.vector_norm(mixed.double(), dim=1).tolist()
    assert norms(mixed) == pytest.approx(wanted, rel=2e-6)
    wanted = torch.linalg.vecdot(mixed.double(), mixed.double()).tolist()
    assert dots(mixed, mixed) == pytest.approx(wanted, rel=2e-6, abs=0)


def test_zero_and_what_is_no_number():
    assert norms(torch.zeros(2, 5)) == dots(torch.zeros(2, 5), torch.ones(2, 5)) == [0.0, 0.0]
    (found,) = norms(torch.tensor([[1.0, math.nan]]))
    assert math.isnan(found)
    assert norms(torch.tensor([[1.0, math.inf]])) == [math.inf]
