"""A matrix of one's own: what its file may hold, how it is completed, and what is reported."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from dmf_utils import MatrixCompletion, Status, gaussian, gradient_flow, low_rank_matrix
from dmf_utils._support.files import write_whole
from dmf_utils.convex.nuclear_norm import min_nuclear_norm
from dmf_utils.user_data.completion import CONVEX, MEAN, check_memory, complete
from dmf_utils.user_data.early_stopping import stopped_flow
from dmf_utils.user_data.matrix import OwnMatrix, read_matrix, write_completed
from dmf_utils.user_data.report import as_html, as_text, verdict
from dmf_utils.user_data.split import split_entries

TRIPLETS = "row,column,value\n3,a,1.5\n1,b,-2\n3,b,4\n"


@pytest.fixture
def write(tmp_path: Path):
    def write_file(content: str | bytes, name: str = "own.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def partly(shape=(20, 14), rank=1, share=0.5, noise=0.0, seed=0, scale=1.0, shift=0.0):
    """The whole matrix, and the same with NaN at random places."""
    generator = np.random.default_rng([seed, 1])
    truth = low_rank_matrix(shape, rank, seed).numpy()
    seen = truth + noise * generator.standard_normal(shape)
    seen[generator.random(shape) > share] = np.nan
    return scale * truth + shift, scale * seen + shift


# Reading


def test_triplets_keep_their_names_and_values(write) -> None:
    own = read_matrix(write(TRIPLETS))
    assert (own.rows, own.columns, own.names) == (
        ("1", "3"),
        ("a", "b"),
        ("row", "column", "value"),
    )
    found = {
        (own.rows[i], own.columns[j]): value
        for i, j, value in zip(own.row_index, own.column_index, own.values, strict=True)
    }
    assert found == {("3", "a"): 1.5, ("1", "b"): -2.0, ("3", "b"): 4.0}
    assert own.remarks == ()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TRIPLETS.replace(",", "\t"), "own.tsv"),
        (TRIPLETS.replace("\n", "\r\n"), "own.CSV"),
        ("\ufeff" + TRIPLETS.replace("\n", "\n\n"), "own.csv"),
        (TRIPLETS.replace("-2", '" -2 "').replace("3,a", "3 , a"), "own.csv"),
        (",value,column,row\n0,1.5,a,3\n1,-2,b,1\n2,4,b,3\n", "own.csv"),
        ("row,column,value,time\n3,a,1.5,9\n1,b,-2,\n3,b,4,8\n", "own.csv"),
    ],
    ids=["tabs", "carriage returns", "byte order mark", "spaces", "any order", "more columns"],
)
def test_other_ways_to_write_the_same(write, content: str, name: str) -> None:
    own, same = read_matrix(write(content, name)), read_matrix(write(TRIPLETS))
    assert (own.rows, own.columns) == (same.rows, same.columns)
    for one, other in zip((own, same), (same, own), strict=True):
        assert sorted(zip(one.row_index, one.column_index, one.values, strict=True)) == sorted(
            zip(other.row_index, other.column_index, other.values, strict=True)
        )


def test_whole_numbers_are_ordered_as_numbers_and_words_as_they_come(write) -> None:
    own = read_matrix(write("user,item,rating\n10,z,1\n9,a,2\n-3,m,3\n"))
    assert own.rows == ("-3", "9", "10")
    assert own.columns == ("z", "a", "m")
    assert own.names == ("user", "item", "rating")


def test_a_file_without_a_header_is_read_when_that_is_said(write) -> None:
    own = read_matrix(write(TRIPLETS.partition("\n")[2]), header=False)
    assert own.n_observed == 3
    assert own.names == ("row", "column", "value")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("3,a,1.5\n1,b,2\n", r"own.csv, line 1: '3,a,1.5' is an entry.*--no-header"),
        ("row,column,value\n3,a,1\n3,b\n", "line 3: expected row, column and value.*got 2 fields"),
        ("row;column;value\n3;a;1\n", "line 1: .*got 1 field; it has semicolons: write commas"),
        ("row,column,value\n3,a,one\n", "line 2: the value 'one' is not a number.*not known$"),
        ("row,column,value\n3,a,\n", "line 2: the value '' is not a number.*remove the line"),
        ("row,column,value\n3,a,1_0\n", "line 2: the value '1_0' is not a number"),
        ('row,column,value\n3,a,"3,5"\n', "line 2: the value '3,5' is not a number"),
        ("row,column,value\n\n3,a,nan\n", "line 3: the value 'nan' is not finite"),
        ("row,column,value\n3,a,1e999\n", "line 2: the value '1e999' is not finite"),
        ("user,item,rating\n3,,1\n", "line 2: the item is empty"),
        ("user,item,rating\n,4,1\n", "line 2: the user is empty"),
        (
            'row,column,value\n"x\ny",b,2\n3,a,1\n3,b,1\n3,a,2\n',
            r"lines 4 and 6: two values, 1 and 2, of the entry '3', 'a'; keep one",
        ),
        ('row,column,value\n3,a,1\n3,"b,1\n', "line 3: cannot be read"),
        (b"row,column,value\n3,a,1\n\xff,b,1\n", "line 3: is not text in UTF-8"),
        ("", "own.csv: is empty"),
        ("\n\n", "own.csv: is empty"),
        ("row,column,value\n", "own.csv: has a header and no entries"),
        ("row,column,value\n1,1,1\n1,2,2\n", "own.csv: all 1 × 2 entries are observed"),
    ],
)
def test_a_file_that_is_not_in_order_is_refused_with_the_line(write, content, words) -> None:
    with pytest.raises(ValueError, match=words):
        read_matrix(write(content))


def test_a_header_where_none_is_expected_is_refused(write) -> None:
    with pytest.raises(ValueError, match=r"line 1: the value 'value' .*drop --no-header"):
        read_matrix(write(TRIPLETS), header=False)


def test_an_entry_given_twice_with_one_value_counts_once_and_is_remarked(write) -> None:
    own = read_matrix(write(TRIPLETS + "3,a,1.50\n" + 7 * "1,b,-2\n"))
    assert own.n_observed == 3
    assert own.remarks == (
        "own.csv, lines 5, 6, 7, 8, 9 and 3 more: given before with the same value, counted once",
    )


def test_a_file_that_is_missing_or_of_another_kind_is_refused(tmp_path: Path, write) -> None:
    with pytest.raises(ValueError, match="is a folder; name a file in it"):
        read_matrix(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_matrix(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"own.xlsx: must end in \.csv or \.tsv .* or \.npy"):
        read_matrix(write(TRIPLETS, "own.xlsx"))


def test_an_array_marks_by_nan_what_is_unobserved(tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", [[1.0, np.nan, 2.0], [np.nan, np.nan, 3.0]])
    own = read_matrix(tmp_path / "own.npy")
    assert (own.rows, own.columns, own.full_shape) == (("0", "1"), ("0", "2"), (2, 3))
    assert own.values.tolist() == [1.0, 2.0, 3.0]
    assert (own.row_index.tolist(), own.column_index.tolist()) == ([0, 0, 1], [0, 1, 1])
    assert own.remarks == (
        "own.npy: column 1 (from 0) without an observed entry: left out, NaN in the completed "
        "matrix",
    )


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([1.0, np.nan]), r"must be a matrix, got shape \(2,\)"),
        (np.array([[1.0, np.inf], [np.nan, 1.0]]), "row 0, column 1 .from 0. is infinite"),
        (np.full((2, 2), np.nan), "has no observed entry, only NaN"),
        (np.zeros((0, 2)), "has no observed entry"),
        (np.ones((2, 2), dtype=int), "all 2 × 2 entries are observed"),
    ],
)
def test_an_array_that_is_not_in_order_is_refused(array: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OwnMatrix.from_array(array)


def test_an_array_of_other_things_is_refused(tmp_path: Path, write) -> None:
    with pytest.raises(TypeError, match="must hold real numbers, got dtype complex128"):
        OwnMatrix.from_array(np.array([[1j]]))
    np.save(tmp_path / "objects.npy", np.array([[1, None]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"objects.npy: is not an array of .* save one.*observed$"):
        read_matrix(tmp_path / "objects.npy")
    with pytest.raises(ValueError, match=r"own.npy: is not an array of numbers"):
        read_matrix(write(TRIPLETS, "own.npy"))


# Writing


def test_triplets_are_written_as_they_are_read(tmp_path: Path, write) -> None:
    own = read_matrix(write('user,item,rating\n5,"a,b",1\n2,é,2\n5,é,3.25\n'))
    matrix = np.array([[0.1, 2.0], [1.0, 3.25]])
    write_completed(own, matrix, tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text(encoding="utf-8")
    assert (
        text == 'user,item,rating,observed\n2,"a,b",0.1,0\n2,é,2.0,1\n5,"a,b",1.0,1\n5,é,3.25,1\n'
    )
    write_completed(own, matrix, tmp_path / "out.tsv")
    lines = (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "2\ta,b\t0.1\t0"


def test_an_array_is_written_in_its_full_shape(tmp_path: Path) -> None:
    own = OwnMatrix.from_array([[1.0, np.nan, 2.0], [np.nan, np.nan, 3.0]])
    write_completed(own, np.array([[1.0, 2.0], [1.5, 3.0]]), tmp_path / "out.npy")
    expected = [[1.0, np.nan, 2.0], [1.5, np.nan, 3.0]]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    with pytest.raises(ValueError, match=r"must have shape \(2, 2\), got \(2, 3\)"):
        write_completed(own, np.ones((2, 3)), tmp_path / "out.npy")
    with pytest.raises(ValueError, match="path must end in"):
        write_completed(own, np.ones((2, 2)), tmp_path / "out.txt")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"before")

    def interrupted(file) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "out", interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_bytes() == b"before"


# Holding out


@pytest.mark.parametrize("seed", range(5))
def test_the_parts_are_a_partition_that_empties_no_row_or_column(seed: int) -> None:
    own = OwnMatrix.from_array(partly((15, 30), share=0.15, seed=seed)[1])
    parts = split_entries(own, 0.2, 0.3, seed)
    together = np.concatenate([parts.fitted, parts.stopping, parts.held_out])
    assert sorted(together) == list(range(own.n_observed))
    assert set(own.row_index[parts.fitted]) == set(range(len(own.rows)))
    assert set(own.column_index[parts.fitted]) == set(range(len(own.columns)))


def test_shares_and_seed_decide_the_parts() -> None:
    own = OwnMatrix.from_array(partly((30, 30), share=0.6)[1])
    first, again, other = (split_entries(own, 0.1, 0.2, seed) for seed in (0, 0, 1))
    assert len(first.held_out) == round(0.1 * own.n_observed)
    assert len(first.stopping) == round(0.2 * own.n_observed)
    assert np.array_equal(first.held_out, again.held_out)
    assert not np.array_equal(first.held_out, other.held_out)
    assert len(split_entries(own, 0.1, 0.0, 0).stopping) == 0


def test_too_few_entries_to_hold_out_are_refused() -> None:
    diagonal = np.where(np.eye(6) == 1, 1.0, np.nan)
    with pytest.raises(ValueError, match="of 6 observed entries, 0 can be held out"):
        split_entries(OwnMatrix.from_array(diagonal), 0.5, 0.0, 0)


# Stopping


def test_a_run_ends_at_the_look_with_the_least_error() -> None:
    truth, seen = (torch.from_numpy(W) for W in partly((20, 14), 1, 0.6, noise=0.5))
    problem = MatrixCompletion.from_mask(seen)
    errors = []

    def error(W: torch.Tensor) -> float:
        errors.append(float(((W - truth) ** 2).mean()))
        return errors[-1]

    run = stopped_flow(problem, 2, gaussian(1e-3, 0), error, until_loss=1e-6)
    assert run.is_early
    assert run.end == "stopped early"
    assert [look[1] for look in run.looks] == errors
    assert float(((run.product - truth) ** 2).mean()) == min(errors)
    losses = np.array([look[0] for look in run.looks])
    np.testing.assert_allclose(losses[1:] / losses[:-1], 0.8, rtol=0.011)
    best = losses[int(np.argmin(errors))]
    assert losses[-1] <= 0.1 * best < losses[-2] * 1.0001
    # The looks do not change the way: it is that of a run in one piece.
    straight = gradient_flow(problem, 2, gaussian(1e-3, 0), None, until_time=run.time)
    assert torch.linalg.matrix_norm(run.product - straight.product) < 2e-3 * 17
    fitted = gradient_flow(problem, 2, gaussian(1e-3, 0), 1e-6)
    assert float(((fitted.product - truth) ** 2).mean()) > 1.5 * min(errors)


def test_a_run_without_noise_goes_on_to_the_end() -> None:
    truth, seen = (torch.from_numpy(W) for W in partly((20, 14), 1, 0.6))
    problem = MatrixCompletion.from_mask(seen)
    run = stopped_flow(
        problem, 2, gaussian(1e-3, 0), lambda W: float(((W - truth) ** 2).mean()), 1e-5
    )
    assert (run.end, run.is_early) == ("all fitted", False)
    assert float(problem.loss(run.product)) == pytest.approx(1e-5, rel=0.011)
    assert run.looks[-1][1] == min(error for _, error in run.looks)
    # Ended and begun anew at each look, it takes more gradients than in one piece, three a look at
    # the least.
    straight = gradient_flow(problem, 2, gaussian(1e-3, 0), 1e-5)
    assert run.n_gradients > max(straight.n_gradients, 3 * len(run.looks))


def test_where_nothing_is_learned_of_other_entries_the_start_is_kept() -> None:
    truth, seen = (torch.from_numpy(W) for W in partly((20, 14), 1, 0.6))
    problem, start = MatrixCompletion.from_mask(seen), gaussian(1e-3, 0)
    unseen = torch.isnan(seen)
    run = stopped_flow(
        problem, 1, start, lambda W: float((W - truth)[unseen].square().mean()), 1e-6
    )
    assert (run.end, run.time) == ("no better than its start", 0.0)
    torch.testing.assert_close(run.product, start.factors((20, 14), 1)[0])


# Completing


def test_depth_recovers_what_the_convex_solution_does_not() -> None:
    truth, seen = partly((40, 25), 2, 0.4)
    found = complete(OwnMatrix.from_array(seen), (1, 2, 3))
    assert list(found.table.index) == [MEAN, "depth 1", "depth 2", "depth 3", CONVEX]
    error = found.table.error
    assert error["depth 3"] < 0.02
    assert error["depth 1"] > 0.5
    assert error[CONVEX] > 5 * error["depth 3"]
    assert found.table.end["depth 3"] == "all fitted"
    assert found.table.effective_rank["depth 3"] == pytest.approx(2, abs=0.2)
    unseen = np.isnan(seen)
    assert np.array_equal(found.matrix[~unseen], seen[~unseen])
    assert np.sqrt(np.mean((found.matrix - truth)[unseen] ** 2)) < 0.02
    assert found.singular_values[:2] == pytest.approx(np.linalg.svd(truth)[1][:2], rel=0.01)
    assert found.singular_values[2] < 0.02 * found.singular_values[0]


def test_the_table_is_what_its_words_say() -> None:
    _, seen = partly((20, 14), 1, 0.6, noise=0.3, scale=3.0)
    own = OwnMatrix.from_array(seen)
    found = complete(own, (2,), held_out=0.2, stopping=0.1, seed=4)
    fitted, judged = found.split.fitted, found.split.held_out
    place = own.row_index, own.column_index
    mean = own.values[fitted].mean()
    residuals = own.values[judged] - mean
    row = found.table.loc[MEAN]
    assert row.error == pytest.approx(np.sqrt(np.mean(residuals**2)))
    assert row.residual == pytest.approx(own.values[fitted].std())
    mean_square, deviation = np.mean(residuals**2), np.std(residuals**2)
    shifted = math.sqrt(mean_square + 1e-6 * deviation / math.sqrt(len(judged)))
    assert row.spread == pytest.approx((shifted - row.error) / 1e-6, rel=1e-3)
    # The convex solution of the fitted entries alone, computed apart.
    problem = MatrixCompletion.from_entries(
        *(torch.from_numpy(index[fitted]) for index in place),
        torch.from_numpy(own.values[fitted]),
        own.shape,
    )
    W = min_nuclear_norm(problem).matrix.numpy()
    row = found.table.loc[CONVEX]
    expected = np.sqrt(np.mean((W[place] - own.values)[judged] ** 2))
    assert row.error == pytest.approx(expected, rel=1e-5)
    assert row.nuclear_norm == pytest.approx(np.linalg.norm(W, "nuc"), rel=1e-6)
    assert row.residual < 1e-9
    path = found.paths[2]
    assert found.table.residual["depth 2"] == pytest.approx(path.residual[path.error.idxmin()])


def test_noise_stops_a_run_early_and_that_pays() -> None:
    truth, seen = partly((40, 25), 2, 0.5, noise=0.5)
    own, unseen = OwnMatrix.from_array(seen), np.isnan(seen)
    errors = {}
    for stopping, end in ((0.15, "stopped early"), (0.0, "all fitted")):
        found = complete(own, (2,), stopping=stopping, until_loss=1e-5)
        assert found.table.end["depth 2"] == end
        errors[stopping] = np.sqrt(np.mean((found.matrix - truth)[unseen] ** 2))
    assert errors[0.15] < 0.85 * errors[0.0]


def test_the_unit_of_the_data_does_not_matter() -> None:
    _, seen = partly((20, 14), 1, 0.6, noise=0.2)
    plain = complete(OwnMatrix.from_array(seen), (2,))
    for scale in (1e-200, 2.0**40, 1e150):
        scaled = complete(OwnMatrix.from_array(scale * seen), (2,))
        np.testing.assert_allclose(scaled.matrix, scale * plain.matrix, rtol=1e-5)
        assert scaled.singular_values[0] == pytest.approx(
            scale * plain.singular_values[0], rel=1e-5
        )
        np.testing.assert_allclose(
            scaled.table.error.astype(float),
            scale * plain.table.error.astype(float),
            rtol=1e-5,
        )


def test_centring_takes_the_mean_off_and_puts_it_back() -> None:
    _, seen = partly((20, 14), 1, 0.6, noise=0.2)
    plain = complete(OwnMatrix.from_array(seen), (2,), center=True)
    moved = complete(OwnMatrix.from_array(seen + 1000), (2,), center=True)
    np.testing.assert_allclose(moved.matrix, plain.matrix + 1000, atol=1e-4)
    assert moved.table.error["depth 2"] == pytest.approx(plain.table.error["depth 2"], rel=1e-4)


def test_names_and_seeds_are_kept_and_the_last_depth_completes() -> None:
    _, seen = partly((12, 20), 1, 0.6)
    own = OwnMatrix.from_array(seen)
    found, again = (complete(own, (3, 2), seed=3) for _ in range(2))
    assert found.depth == 2
    assert list(found.paths) == [3, 2]
    np.testing.assert_array_equal(found.matrix, again.matrix)
    assert found.table.equals(again.table)


def test_what_goes_wrong_is_remarked() -> None:
    _, seen = partly((20, 14), 2, 0.15)
    own = OwnMatrix.from_array(seen)
    asked = round(0.45 * own.n_observed)
    found = complete(own, (2,), held_out=0.45, stopping=0.45, until_loss=1e-3, hidden=3)
    count = len(found.split.held_out)
    assert count < asked
    said = f"{count} entries are held out, not {asked}: more would leave a row or a column empty"
    assert said in found.remarks
    assert any("hidden = 3 is below min(d, d') = " in remark for remark in found.remarks)
    assert len(set(found.remarks)) == len(found.remarks)
    assert np.linalg.matrix_rank(np.diag(found.singular_values), tol=1e-9) <= 3


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"depths": ()}, ValueError, "depths must be different numbers, at least one"),
        ({"depths": (2, 2)}, ValueError, "depths must be different numbers"),
        ({"depths": (0,)}, ValueError, "depths must be at least 1"),
        ({"depths": (2.5,)}, TypeError, "depths must be an integer"),
        ({"held_out": 0.0}, ValueError, "held_out must be a share between 0 and 1"),
        ({"held_out": 1.0}, ValueError, "held_out must be a share"),
        ({"held_out": "a"}, TypeError, "held_out must be a number"),
        ({"stopping": -0.1}, ValueError, "stopping must be a share"),
        ({"stopping": math.nan}, ValueError, "stopping must be a share"),
        ({"held_out": 0.6, "stopping": 0.5}, ValueError, "together they must leave entries to fit"),
        ({"start_norm": 0}, ValueError, "start_norm must be a positive number"),
        ({"until_loss": -1}, ValueError, "until_loss must be a positive number"),
        ({"tolerance": math.inf}, ValueError, "tolerance must be a positive number"),
        ({"hidden": 0}, ValueError, "hidden must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
    ],
)
def test_bad_arguments_are_refused_before_computing(monkeypatch, options, error, words) -> None:
    monkeypatch.setattr("dmf_utils.user_data.completion.stopped_flow", None)
    with pytest.raises(error, match=words):
        complete(OwnMatrix.from_array(partly()[1]), **options)


@pytest.mark.parametrize(("value", "center", "word"), [(0.0, False, "zero"), (5.0, True, "equal")])
def test_data_without_anything_to_learn_are_refused(value: float, center: bool, word: str) -> None:
    seen = np.where(np.isnan(partly()[1]), np.nan, value)
    with pytest.raises(ValueError, match=f"all fitted entries are {word}"):
        complete(OwnMatrix.from_array(seen), center=center)


def test_a_matrix_beyond_the_memory_is_refused() -> None:
    check_memory((943, 1682), 1)
    with pytest.raises(ValueError, match=r"3000000 × 1000000 matrix at depth 3 needs about .* GiB"):
        check_memory((3_000_000, 1_000_000), 3)


# Reporting


class _Page(HTMLParser):
    """What a page shows, and everything in it that could ask for another file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [k for k, _ in attributes if k in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_shows_the_numbers_and_escapes_all_names(write) -> None:
    nasty = "<script>alert(1)</script>"
    _, seen = partly((12, 9), 1, 0.7, noise=0.3)
    lines = [f"{nasty}{i},b&{j},{seen[i, j]}" for i, j in np.argwhere(~np.isnan(seen))]
    own = read_matrix(write("\n".join([f"{nasty},<b>,<i>", *lines, lines[0]]), "own.csv"))
    found = complete(own, (1, 2))
    html = as_html(found, f"{nasty}.csv", {"Made": "<today>"})
    page = _Page(html)
    assert not {"script", "link", "img", "iframe", "b", "i"} & set(page.tags)
    assert page.references == []
    assert "url(" not in html
    assert "@import" not in html
    assert page.tags.count("svg") == 3
    for said in (f"{nasty}.csv", "<today>", "given before with the same value", "depth 2", CONVEX):
        assert said in page.text
    shown = as_text(found)
    for value in found.table.error:
        assert f"{value:.3g}" in page.text
        assert f"{value:.3g}" in shown
    assert page.tags.count("tr") == 1 + len(found.table)


def test_the_verdict_names_a_difference_only_beyond_chance() -> None:
    found = complete(OwnMatrix.from_array(partly()[1]), (3,), until_loss=1e-2)

    def said(ours: float, convex: float, spread: float) -> str:
        found.table.loc[[MEAN, "depth 3", CONVEX], "error"] = [9.0, ours, convex]
        found.table.loc[["depth 3", CONVEX], "spread"] = [spread, 0.4]
        return verdict(found)

    # Twice the root of 0.3² + 0.4² is 1.
    assert "depth 3 is smaller than that of the minimum nuclear norm" in said(1.0, 2.01, 0.3)
    assert "do not differ by more than twice the standard error" in said(1.0, 1.99, 0.3)
    assert "is larger than that" in said(4.0, 2.0, 0.3)
    assert "by a factor of 2." in said(4.0, 2.0, 0.3)
    assert f"Least of all is that of: {CONVEX}." in said(4.0, 2.0, 0.3)
    assert "Least" not in said(1.0, 2.0, 0.3)
    assert "no better than the mean of the fitted entries" in said(9.0, 2.0, 0.3)


def test_the_flow_of_a_completed_run_was_reached() -> None:
    _, seen = partly((20, 14), 1, 0.6)
    found = complete(OwnMatrix.from_array(seen), (2,), until_loss=1e-4)
    assert found.remarks == ()
    assert Status.stalled.value not in found.table.end.tolist()
