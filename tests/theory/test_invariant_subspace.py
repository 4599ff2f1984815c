"""The compressed flow against the full one, where the theorem applies."""

import numpy as np
import pytest
import torch

from dmf_utils import FullObservation, Record, Settings, gradient_flow
from dmf_utils.theory.invariant_subspace import compress


def orthogonal(rng, size):
    return torch.from_numpy(np.linalg.qr(rng.standard_normal((size, size)))[0])


def low_rank(rng, size, rank):
    return torch.from_numpy(rng.standard_normal((size, rank)) @ rng.standard_normal((rank, size)))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("rank", [1, 2])
def test_compressed_flow_is_the_flow(depth, rank):
    rng = np.random.default_rng(depth)
    Y = low_rank(rng, 9, rank) / 3
    factors = [0.4 * orthogonal(rng, 9) for _ in range(depth)]
    small = compress(factors, Y, rank)
    moments = [0.0, 0.5, 2.0]
    options = {"until_time": 2.0, "settings": Settings(tolerance=1e-11)}
    options["record"] = Record(moments, measures={"W": torch.clone})
    whole = gradient_flow(FullObservation(Y), depth, factors, None, **options)
    part = gradient_flow(FullObservation(small.target), depth, small.factors, None, **options)
    for W, expected, t in zip(part.measured["W"], whole.measured["W"], moments, strict=True):
        torch.testing.assert_close(small.expand(W, t), expected, atol=1e-9, rtol=0)


def test_without_the_rest_it_is_not():
    rng = np.random.default_rng(0)
    factors = [0.4 * orthogonal(rng, 9) for _ in range(2)]
    small = compress(factors, low_rank(rng, 9, 2), 2)
    W = small.left @ small.factors[0] @ small.factors[1] @ small.right.T
    assert float((W - factors[1] @ factors[0]).abs().max()) > 1e-3


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    factors = [0.4 * orthogonal(rng, 9) for _ in range(2)]
    Y = low_rank(rng, 9, 2)
    with pytest.raises(ValueError, match=r"factors\[1\] must be 0.4 times an orthogonal"):
        compress([factors[0], 2 * factors[1]], Y, 2)
    with pytest.raises(ValueError, match="rank above 1"):
        compress(factors, Y, 1)
    with pytest.raises(ValueError, match="below half of 9"):
        compress(factors, Y, 5)
