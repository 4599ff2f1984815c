"""What decides at the edges of reading, splitting and writing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from dmf_utils.user_data import charts
from dmf_utils.user_data.cost import gradient_dtype
from dmf_utils.user_data.determined import determined_entries
from dmf_utils.user_data.judging import best
from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.offsets import unlike_axis
from dmf_utils.user_data.reading import read_matrix
from dmf_utils.user_data.split import split_entries
from dmf_utils.user_data.text import MatrixFileError
from dmf_utils.user_data.writing import write_completed


def test_names_of_a_data_frame_are_names_though_they_are_numbers(tmp_path: Path) -> None:
    table = np.arange(1.0, 13.0).reshape(4, 3)
    table[1, 1] = np.nan
    frame = pd.DataFrame(table, columns=["10", "20", "30"])
    frame.to_parquet(tmp_path / "own.parquet")
    data = read_matrix(tmp_path / "own.parquet", layout="wide")
    assert data.shape == (4, 3)
    assert data.columns == ("10", "20", "30")


def test_an_array_has_nothing_to_say_of_its_names(tmp_path: Path) -> None:
    data = ObservedMatrix.from_array([[1.0, np.nan], [2.0, 3.0]])
    assert write_completed(data, np.ones((2, 2)), tmp_path / "out.npy") == ()
    assert write_completed(data, np.ones((2, 2)), tmp_path / "out.parquet") == ()
    assert write_completed(data, np.ones((2, 2)), tmp_path / "out.csv") == ()


def test_one_column_with_enough_entries_is_unlike_no_other() -> None:
    rng = np.random.default_rng(0)
    i = np.concatenate([np.arange(60), [0, 1]])
    j = np.concatenate([np.zeros(60, dtype=int), [1, 2]])
    assert unlike_axis(i, j, rng.standard_normal(62), (60, 3)) == "none"


def test_one_validation_entry_that_is_wanted_must_be_there() -> None:
    """Of 24 entries one in 25 is one entry; where it cannot be spared, the split is refused."""
    table = np.arange(25.0).reshape(5, 5)
    table[0, 0] = np.nan
    data = ObservedMatrix.from_array(table)
    split = split_entries(data, 0.1, 0.04, seed=0)
    assert (len(split.test), len(split.validation)) == (2, 1)
    sparse = np.diag([1.0, 2.0, 3.0])
    sparse[sparse == 0] = np.nan
    sparse[0, 1] = 4.0  # the only one that can be spared
    with pytest.raises(ValueError, match="1 can be test entries and 0 validation entries"):
        split_entries(ObservedMatrix.from_array(sparse), 0.5, 0.25, seed=0)


class _Runs:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_what_is_pickled_in_an_npz_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    np.savez(tmp_path / "own.npz", x=np.array([[_Runs(mark), 1.0], [2.0, 3.0]], dtype=object))
    mark.unlink(missing_ok=True)
    with pytest.raises(MatrixFileError, match=r"own\.npz"):
        read_matrix(tmp_path / "own.npz")
    assert not mark.exists()


def test_a_header_that_lacks_the_names_of_rows_does_not_mislead(tmp_path: Path) -> None:
    """Spaces part its lines alike, and yet it is a table of commas."""
    (tmp_path / "own.csv").write_text("a x,b\nr 1,1,2\nr 2,2,\nr 3,5,1\n")
    data = read_matrix(tmp_path / "own.csv", layout="wide")
    assert data.rows == ("r 1", "r 2", "r 3")
    assert data.columns == ("a x", "b")


def test_the_chart_of_groups_shows_one_beside_the_other() -> None:
    mask = np.zeros((9, 6), dtype=bool)
    for group in range(3):  # which alternate in the data
        mask[group::3, group::3] = True
    i, j = np.nonzero(mask)
    data = ObservedMatrix.from_array(np.where(mask, np.arange(54.0).reshape(9, 6), np.nan))
    found = SimpleNamespace(data=data, determined=determined_entries(i, j, mask.shape, 1))
    axes = Figure().subplots()
    charts._components(axes, found)
    blocks = np.kron(np.eye(3), np.ones((3, 2)))
    np.testing.assert_array_equal(axes.images[0].get_array(), 2 * blocks)


def test_large_matrices_get_gradients_in_single_precision() -> None:
    assert gradient_dtype((300, 300)) is torch.float32
    assert gradient_dtype((299, 300)) is None


def test_the_best_is_the_least_of_the_errors_that_are_known() -> None:
    assert best({"mean": 2.0, "depth 2": 1.0, "depth 3": np.nan}, "depth 3") == "depth 2"
    assert best({"mean": np.nan, "depth 2": np.nan}, "2") == "depth 2"
