"""The volume of a fibre against its tangent directions, and against its length by hand."""

import math

import numpy as np
import pytest
import torch

from dmf_utils import product_matrix
from dmf_utils.theory.fibre import fibre_log_volume, fibre_metric


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_formula_and_directions_differ_by_a_constant(depth, size):
    drawn = torch.from_numpy(np.random.default_rng(size).random((5, size)) + 0.05)
    drawn[0, 1] = drawn[0, 0]  # equal values are no exception
    by_directions = torch.stack([torch.logdet(fibre_metric(s, depth)) / 2 for s in drawn])
    constant = by_directions - fibre_log_volume(drawn, depth)
    assert float(constant.max() - constant.min()) < 1e-9


@pytest.mark.parametrize("s", [[2.0, 0.5], [1.0, 1.0], [3.0, 0.0]])
def test_length_of_the_fibre_of_two_by_two(s):
    """At depth 2 the fibre is a curve; its length is measured by small chords."""
    root = torch.diag(torch.tensor(s, dtype=torch.float64).sqrt())
    angles = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)
    c, d = angles.cos(), angles.sin()
    turns = torch.stack([torch.stack([c, -d], -1), torch.stack([d, c], -1)], -2)
    curve = torch.cat([turns @ root, root @ turns.mT], dim=1)
    product = product_matrix([turns @ root, root @ turns.mT])
    torch.testing.assert_close(product, (root @ root).expand_as(product))
    length = float(torch.linalg.matrix_norm(curve.diff(dim=0)).sum())
    unit = 2 * math.pi * math.sqrt(2)
    assert math.log(length / unit) == pytest.approx(float(fibre_log_volume(s, 2)), abs=1e-5)


def test_two_zeros_have_no_volume():
    assert fibre_log_volume([1.0, 0.0, 0.0], 3) == -math.inf
    assert float(fibre_log_volume([1.0, 0.3], 1)) == 0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="not negative"):
        fibre_log_volume([1.0, -0.5], 2)
    with pytest.raises(ValueError, match="depth must be at least 2"):
        fibre_metric([1.0, 0.5], 1)
