"""A completion as a whole: which method wins, what is filled in, and in which unit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dmf_utils import low_rank_matrix
from dmf_utils.user_data import completion as module
from dmf_utils.user_data.completion import complete
from dmf_utils.user_data.cost import check_memory, choose_hidden, in_words, runs_asked
from dmf_utils.user_data.judging import Judge
from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.offsets import fit_offsets
from dmf_utils.user_data.split import split_entries

QUICK = {"center": "none", "until_loss": 1e-4}


def partly(shape=(20, 14), rank=1, share=0.5, noise=0.0, seed=0, scale=1.0, shift=0.0):
    """The whole matrix, and the same with NaN at random places."""
    generator = np.random.default_rng([seed, 1])
    truth = low_rank_matrix(shape, rank, seed).numpy()
    seen = truth + noise * generator.standard_normal(shape)
    seen[generator.random(shape) > share] = np.nan
    return scale * truth + shift, scale * seen + shift


def test_depth_recovers_what_a_nuclear_norm_does_not() -> None:
    truth, seen = partly((40, 25), 2, 0.4)
    found = complete(ObservedMatrix.from_array(seen), (1, 2, 3), center="none")
    names = ["mean", "depth 1", "depth 2", "depth 3", "nuclear norm penalty"]
    assert list(found.table.index) == names
    error = found.table.error
    assert error["depth 3"] < 0.02
    assert error["depth 1"] > 0.5
    assert error["nuclear norm penalty"] > 5 * error["depth 3"]
    assert found.method == "depth 3"
    assert found.table.end["depth 3"] == "all fitted"
    assert 1.8 < found.table.effective_rank["depth 3"] < 3
    unseen = np.isnan(seen)
    assert np.array_equal(found.matrix[~unseen], seen[~unseen])
    known = unseen & found.determined.mask
    assert found.determined.rank == 2
    assert np.sqrt(np.mean((found.matrix - truth)[known] ** 2)) < 0.02
    assert np.isnan(found.matrix[unseen & ~known]).all()
    assert found.singular_values[:2] == pytest.approx(np.linalg.svd(truth)[1][:2], rel=0.01)


def test_the_table_is_what_its_words_say() -> None:
    _, seen = partly((20, 14), 1, 0.6, noise=0.3, scale=3.0, shift=2.0)
    data = ObservedMatrix.from_array(seen)
    found = complete(data, (2,), test=0.2, seed=4, center="both", until_loss=1e-3)
    split = found.split
    both, judged = np.concatenate([split.fitted, split.validation]), split.test
    mean = data.values[both].mean()
    residuals = data.values[judged] - mean
    row = found.table.loc["mean"]
    assert row.error == pytest.approx(np.sqrt(np.mean(residuals**2)))
    assert row.residual == pytest.approx(data.values[both].std())
    mean_square, deviation = np.mean(residuals**2), np.std(residuals**2)
    shifted = math.sqrt(mean_square + 1e-6 * deviation / math.sqrt(len(judged)))
    assert row.spread == pytest.approx((shifted - row.error) / 1e-6, rel=1e-3)
    row, at = found.table.loc["biases"], (data.row_index, data.column_index)
    shrinkage = tuple(float(x) for x in row.end.removeprefix("shrinkage ").split(", "))
    biases = fit_offsets(at[0][both], at[1][both], data.values[both], data.shape, "both", shrinkage)
    expected = biases.at(*at) - data.values
    assert row.error == pytest.approx(np.sqrt(np.mean(expected[judged] ** 2)))
    path = found.paths["biases + depth 2"]
    assert found.table.validation["biases + depth 2"] == pytest.approx(path.error.min())
    columns = found.column_errors
    assert columns.entries.sum() == len(judged)
    total = (columns.error**2 * columns.entries).sum() / len(judged)
    assert math.sqrt(total) == pytest.approx(found.table.error[found.method])
    assert columns.share.sum() == pytest.approx(1)
    top = found.disagreements.iloc[0]
    spread = found.disagreements.iloc[:, 3:].max(axis=1) - found.disagreements.iloc[:, 3:].min(
        axis=1
    )
    assert (np.diff(spread) <= 0).all()
    assert top["value (observed)"] in data.values


def test_a_low_rank_beside_biases_is_found_by_the_flow_on_what_they_leave() -> None:
    rng = np.random.default_rng(0)
    truth, _ = partly((60, 40), 1, 1.0)
    truth = truth + 4 + 2 * rng.standard_normal((60, 1)) + rng.standard_normal(40)
    seen = truth + 0.3 * rng.standard_normal(truth.shape)
    seen[rng.random(seen.shape) > 0.35] = np.nan
    found = complete(ObservedMatrix.from_array(seen), (2,))
    error = found.table.error.astype(float)
    assert error["biases + depth 2"] < 0.7 * error["biases"]
    assert error["biases + depth 2"] < 1.1 * error.min()
    assert error["biases"] < 0.7 * error["mean"]
    errors = found.table.validation.astype(float)
    assert found.method == errors.idxmin()


def test_noise_stops_a_run_early_and_that_pays() -> None:
    truth, seen = partly((40, 25), 2, 0.5, noise=0.5)
    data, unseen, errors = ObservedMatrix.from_array(seen), np.isnan(seen), {}
    for validation, end in ((0.15, "stopped early"), (0.0, "all fitted")):
        found = complete(
            data,
            (2,),
            validation=validation,
            until_loss=1e-5,
            center="none",
            method="depth 2",
            fill_undetermined=True,
        )
        assert found.table.end["depth 2"] == end
        errors[validation] = np.sqrt(np.mean((found.matrix - truth)[unseen] ** 2))
    assert errors[0.15] < 0.85 * errors[0.0]


def test_the_unit_of_the_data_does_not_matter() -> None:
    _, seen = partly((20, 14), 1, 0.6, noise=0.2)
    plain = complete(ObservedMatrix.from_array(seen), (2,), **QUICK)
    for scale in (1e-300, 2.0**40, 1e300):
        scaled = complete(ObservedMatrix.from_array(scale * seen), (2,), **QUICK)
        np.testing.assert_allclose(scaled.matrix / scale, plain.matrix, rtol=1e-5)
        errors = scaled.table.error.astype(float) / scale
        np.testing.assert_allclose(errors, plain.table.error.astype(float), rtol=1e-5)


def test_groups_that_share_nothing_are_not_filled_in() -> None:
    """Any sign and scale fits between two groups of users who share no item."""
    truth = np.outer([1.0] * 10 + [2.0] * 10, [1.5, 2.5] * 8)
    seen = np.full(truth.shape, np.nan)
    rng = np.random.default_rng(0)
    for rows, columns in ((slice(10), slice(8)), (slice(10, 20), slice(8, 16))):
        block = truth[rows, columns].copy()
        block[rng.random(block.shape) > 0.8] = np.nan
        seen[rows, columns] = block
    between = np.ones(truth.shape, dtype=bool)
    between[:10, :8] = between[10:, 8:] = False
    data = ObservedMatrix.from_array(seen)
    found = complete(data, (2,), **QUICK)
    assert found.determined.n_components == 2
    assert np.isnan(found.matrix[between]).all()
    assert not np.isnan(found.matrix[~between]).any()
    (said,) = [remark for remark in found.remarks if "determined by nothing" in remark]
    assert said.startswith("160 of ")
    assert "left as NaN: 2 groups of rows and columns share no entry" in said
    filled = complete(data, (2,), **QUICK, fill_undetermined=True)
    assert np.isfinite(filled.matrix).all()
    assert any("filled in all the same" in remark for remark in filled.remarks)


def test_columns_of_unlike_units_keep_their_own() -> None:
    rng = np.random.default_rng(1)
    health = rng.standard_normal(200)
    table = np.stack(
        [
            50 + 12 * health,
            1e5 * (2 + health) + 3e4 * rng.standard_normal(200),
            (health + 0.3 * rng.standard_normal(200) > 0).astype(float),
            120 + 9 * health + 3 * rng.standard_normal(200),
            5 + 0.2 * health,
        ],
        axis=1,
    )
    seen = table.copy()
    seen[rng.random(seen.shape) < 0.3] = np.nan
    found = complete(ObservedMatrix.from_array(seen), (2,), until_loss=1e-4)
    assert found.scale == "columns"
    filled = found.matrix[:, 2]
    assert np.nanmin(filled) > -1
    assert np.nanmax(filled) < 2
    by = found.column_errors
    assert (by.error < 1.05 * by.deviation).all()
    assert by.error["4"] < 0.5 * by.deviation["4"]
    assert not any("one column" in remark for remark in found.remarks)
    raw = complete(ObservedMatrix.from_array(seen), (2,), scale="none", until_loss=1e-4)
    assert any("one column, '1', makes 9" in remark for remark in raw.remarks)


def test_bounds_clip_all_methods_alike() -> None:
    _, seen = partly((20, 14), 2, 0.6, noise=0.5)
    seen = np.clip(np.round(seen + 3), 1, 5)
    data = ObservedMatrix.from_array(seen)
    found = complete(data, (2,), bounds=(1, 5), fill_undetermined=True, **QUICK)
    assert found.matrix.min() >= 1
    assert found.matrix.max() <= 5
    said = found.disagreements.iloc[:, 3:].to_numpy()
    assert said.min() >= 1
    assert said.max() <= 5
    free = complete(data, (2,), **QUICK)
    assert (found.table.error <= free.table.error + 1e-12).all()


def test_an_interrupted_completion_goes_on_from_its_finished_runs(tmp_path, monkeypatch) -> None:
    _, seen = partly((20, 14), 1, 0.6, noise=0.2)
    data, keep = ObservedMatrix.from_array(seen), tmp_path / "kept"
    plain = complete(data, (2, 3), **QUICK)

    class Interrupted(module.Penalty):
        def choose(self, *arguments):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "Penalty", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            complete(data, (2, 3), **QUICK, keep=keep)
    assert len(list(keep.iterdir())) == 4
    told = []
    found = complete(data, (2, 3), **QUICK, keep=keep, say=told.append)
    assert any("4 finished runs of an interrupted" in remark for remark in found.remarks)
    np.testing.assert_array_equal(found.matrix, plain.matrix)
    assert found.table.equals(plain.table)
    assert not keep.exists()
    assert "20 × 14" in told[0]
    assert "GiB" in told[0]


def test_what_goes_wrong_is_remarked() -> None:
    _, seen = partly((20, 14), 2, 0.15)
    data = ObservedMatrix.from_array(seen)
    asked = round(0.45 * data.n_observed)
    found = complete(data, (2,), test=0.45, validation=0.45, until_loss=1e-3, hidden=3)
    count = len(found.split.test)
    assert count < asked
    said = f"{count} test entries, not {asked}: more would leave a row or a column empty"
    assert said in found.remarks
    assert any("hidden size 3, as asked" in remark for remark in found.remarks)
    assert len(set(found.remarks)) == len(found.remarks)
    assert len(found.singular_values) <= 3


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"depths": ()}, ValueError, "depths must be different numbers, at least one"),
        ({"depths": (2, 2)}, ValueError, "depths must be different numbers"),
        ({"depths": (0,)}, ValueError, "depths must be at least 1"),
        ({"depths": (2.5,)}, TypeError, "depths must be a whole number"),
        ({"test": 0.0}, ValueError, "test must be a share between 0 and 1"),
        ({"test": "a"}, TypeError, "test must be a number"),
        ({"validation": -0.1}, ValueError, "validation must be a share"),
        ({"validation": math.nan}, ValueError, "validation must be a share"),
        ({"test": 0.6, "validation": 0.5}, ValueError, "together they must leave entries to fit"),
        ({"start_norm": 0}, ValueError, "start_norm must be a positive number"),
        ({"tolerance": "1e-4"}, TypeError, "tolerance must be a number, got '1e-4'"),
        ({"until_loss": -1}, ValueError, "until_loss must be a positive number"),
        ({"tolerance": math.inf}, ValueError, "tolerance must be a positive number"),
        ({"hidden": 0}, ValueError, "hidden must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"center": "rank"}, ValueError, "center must be auto, none"),
        ({"center": ("none", "auto")}, ValueError, "different ones of these but auto, got"),
        ({"center": ("none", "none")}, ValueError, "different ones of these but auto, got"),
        ({"center": 5}, ValueError, "center must be auto, none.*got 5"),
        ({"center": [["none"]]}, ValueError, "different ones of these but auto, got"),
        ({"center": ()}, ValueError, "different ones of these but auto, got"),
        ({"depths": [2, 3000]}, ValueError, "depths must be at most 30, got 3000"),
        ({"scale": "both"}, ValueError, "scale must be auto, none"),
        ({"bounds": (5, 1)}, ValueError, "bounds must be a smaller and a larger"),
        ({"bounds": (0, 0.1)}, ValueError, "observed values lie outside"),
        ({"method": "best"}, ValueError, "method must be one of mean, depth 2"),
    ],
)
def test_bad_arguments_are_refused_before_computing(monkeypatch, options, error, words) -> None:
    monkeypatch.setattr(module.Flow, "choose", None)
    monkeypatch.setattr(module.Biases, "choose", None)
    with pytest.raises(error, match=words):
        complete(ObservedMatrix.from_array(partly()[1]), **options)


def test_several_ways_to_center_are_compared_in_one_table() -> None:
    data = ObservedMatrix.from_array(partly()[1])
    found = complete(data, (2,), center=("none", "mean", "rows", "both"), until_loss=1e-2)
    prefixes = ("", "mean + ", "row means + ", "biases + ")
    expected = ["mean", "row means", "biases"]
    expected += [f"{one}{of}" for one in prefixes for of in ("depth 2", "nuclear norm penalty")]
    assert found.table.index.is_unique
    assert sorted(found.table.index) == sorted(expected)
    alone = complete(data, (2,), center="rows", until_loss=1e-2)
    shared = alone.table.drop(columns="gradients").loc["row means + depth 2"]
    assert shared.equals(found.table.drop(columns="gradients").loc["row means + depth 2"])


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_data_without_anything_to_learn_are_refused(value: float) -> None:
    seen = np.where(np.isnan(partly()[1]), np.nan, value)
    with pytest.raises(ValueError, match=f"all fitted entries are {value:g}"):
        complete(ObservedMatrix.from_array(seen))


def test_the_judge_works_in_units_of_one() -> None:
    _, seen = partly(scale=1e-300)
    data = ObservedMatrix.from_array(seen)
    judge = Judge(data, split_entries(data, 0.1, 0.1, 0), "none", None)
    assert np.abs(judge.y).max() == 1.0


def test_cost_is_known_before() -> None:
    assert choose_hidden((943, 1682), 100_000) == 78
    assert choose_hidden((6040, 3706), 1_000_000) == 128
    assert choose_hidden((200, 1000), 5000) is None
    assert choose_hidden((300, 1000), 1000) == 50
    assert runs_asked("auto", (2, 3), 10_000) == {"none": [2, 3], "both": [2, 3]}
    assert runs_asked("auto", (2, 3), 100_000) == {"none": [2], "both": [2, 3]}
    assert runs_asked("auto", (2, 3), 1_000_000) == {"both": [2, 3]}
    assert runs_asked(["rows"], (2, 3), 1_000_000) == {"rows": [2, 3]}
    assert runs_asked(["none", "both"], (2, 3), 1_000_000) == {"none": [2, 3], "both": [2, 3]}
    assert in_words(3) == "some seconds"
    assert in_words(42) == "about 40 seconds"
    assert in_words(1000) == "about 17 minutes"
    check_memory((943, 1682), 1)
    with pytest.raises(ValueError, match=r"3000000 × 1000000 matrix at depth 3 needs about .* GiB"):
        check_memory((3_000_000, 1_000_000), 3)
