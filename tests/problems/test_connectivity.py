"""The bipartite graph of the observed entries."""

import pytest
import torch

from dmf_utils.problems.connectivity import observation_components


def mask(*rows):
    return torch.tensor([[symbol == "x" for symbol in row] for row in rows])


def described(observed):
    return [
        (part.rows.tolist(), part.columns.tolist(), part.n_observed, part.is_complete)
        for part in observation_components(observed)
    ]


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (mask("xx", "xx"), [([0, 1], [0, 1], 4, True)]),
        (mask("xx", "x."), [([0, 1], [0, 1], 3, False)]),
        (mask("x.", ".x"), [([0], [0], 1, True), ([1], [1], 1, True)]),
        (mask(".x.", "x.x"), [([0], [1], 1, True), ([1], [0, 2], 2, True)]),
        (mask("x..", "x..", ".xx"), [([0, 1], [0], 2, True), ([2], [1, 2], 2, True)]),
        (mask("x.x"), [([0], [0, 2], 2, True), ([], [1], 0, True)]),
        # joined by a path of entries, not by a common row or column
        (mask("xx.", ".xx", "..x"), [([0, 1, 2], [0, 1, 2], 5, False)]),
        # a row and a column that are not observed
        (mask("x.", ".."), [([0], [0], 1, True), ([1], [], 0, True), ([], [1], 0, True)]),
    ],
)
def test_components(observed, expected):
    assert described(observed) == expected


def test_components_do_not_depend_on_the_order_of_rows_and_columns():
    observed = mask("xx...", "xx...", "..x.x", "...x.", "..x..")
    rows, columns = torch.tensor([3, 0, 4, 2, 1]), torch.tensor([1, 4, 2, 0, 3])
    shuffled = observed[rows][:, columns]
    expected = {
        (frozenset(part.rows.tolist()), frozenset(part.columns.tolist()))
        for part in observation_components(observed)
    }
    found = {
        (frozenset(rows[part.rows].tolist()), frozenset(columns[part.columns].tolist()))
        for part in observation_components(shuffled)
    }
    assert found == expected
    assert len(found) == 3


def test_mask_is_checked():
    with pytest.raises(TypeError, match=r"mask must be of dtype bool, got torch\.float32"):
        observation_components(torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"mask must be a non-empty matrix .* got shape \(3,\)"):
        observation_components(torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask must be a non-empty matrix .* got shape \(0, 3\)"):
        observation_components(torch.ones(0, 3, dtype=torch.bool))
