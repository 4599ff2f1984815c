"""The rank that test entries support: that of the truth, whatever noise adds to a completion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmf_utils.user_data.methods import Prediction, Values
from dmf_utils.user_data.offsets import fit_offsets
from dmf_utils.user_data.supported_rank import supported_rank

SHAPE = (60, 45)


def prediction(singular_values, depth=2, unit=1.0, noise=0.0, n_test=600, seed=0):
    """A prediction with these singular values, test entries of its leading part with noise."""
    generator = np.random.default_rng(seed)
    h = len(singular_values)
    U, V = (np.linalg.qr(generator.standard_normal((size, h)))[0] for size in SHAPE)
    scale = float(np.sqrt(SHAPE[0] * SHAPE[1]))
    s = scale * np.array(singular_values)
    W = [torch.from_numpy(x) for x in (V.T * s[:, None], U / unit)]
    if depth == 1:
        W = [W[1] @ W[0]]
    if depth == 3:
        turn = torch.from_numpy(np.linalg.qr(generator.standard_normal((h, h)))[0])
        W = [turn @ W[0], torch.eye(h, dtype=torch.float64), W[1] @ turn.T]
    i, j = (generator.integers(size, size=n_test) for size in SHAPE)
    offsets = fit_offsets(i, j, np.zeros(n_test), SHAPE, "none", (5.0, 5.0))

    def at(rank, noise=noise):
        clean = ((U * s)[i, :rank] * V[j, :rank]).sum(1)
        return Values(i, j, clean + noise * generator.standard_normal(n_test), SHAPE)

    return Prediction(offsets, W, unit), at, np.arange(n_test)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("unit", [1.0, 3e4])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_noise_in_a_completion_adds_no_rank(depth, unit, rank):
    # Behind the truth stand forty values of noise, which help nobody.
    fading = [1.0, 0.8, 0.6, 0.5][:rank] + [0.05] * 40
    found, at, test = prediction(fading, depth, unit, noise=0.3)
    assert supported_rank(found, at(rank), test) == rank
    sigma = found.singular_values()
    assert float(sigma.sum() ** 2 / sigma.square().sum()) > 1.5 * rank  # what it is not taken for


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_clean_completion_has_the_rank_of_its_truth(rank):
    found, at, test = prediction([*[1.0, 0.3, 0.1][:rank], 1e-6, 1e-7])
    assert supported_rank(found, at(rank), test) == rank


def test_a_value_that_the_test_entries_need_counts_however_late_it_stands():
    found, at, test = prediction([1.0, 0.0, 0.0, 0.0, 0.0])
    one = supported_rank(found, at(1), test)
    found, at, test = prediction([1.0, 0.2, 0.2, 0.2, 0.2])
    assert (one, supported_rank(found, at(5), test)) == (1, 5)


def test_few_test_entries_say_nothing_of_errors():
    found, at, test = prediction([1.0, 1.0, 1.0], n_test=29)
    assert supported_rank(found, at(1), test) == 3
    found, at, test = prediction([1.0, 1.0, 1.0], n_test=600)
    assert supported_rank(found, at(1), test) == 1


def test_offsets_alone_are_of_rank_one():
    offsets = fit_offsets(np.zeros(9, int), np.arange(9), np.arange(9.0), (1, 9), "both", (5, 5))
    values = Values(np.zeros(9, int), np.arange(9), np.arange(9.0), (1, 9))
    assert supported_rank(Prediction(offsets), values, np.arange(9)) == 1
