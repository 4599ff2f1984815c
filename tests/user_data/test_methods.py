"""Biases, the nuclear norm penalty, early stopping and what is determined, by their mathematics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmf_utils import MatrixCompletion, gaussian, gradient_flow, low_rank_matrix
from dmf_utils.factorization.product import product_matrix
from dmf_utils.user_data.completion import complete
from dmf_utils.user_data.determined import determined_entries
from dmf_utils.user_data.early_stopping import EarlyStopping, early_stopping
from dmf_utils.user_data.keeping import Kept
from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.methods import Prediction, at_entries
from dmf_utils.user_data.offsets import fit_offsets, fit_scaling, unlike_axis
from dmf_utils.user_data.soft_impute import soft_impute, soft_impute_path
from dmf_utils.user_data.split import split_entries


def partly(shape=(20, 14), rank=1, share=0.5, noise=0.0, seed=0, scale=1.0, shift=0.0):
    """The whole matrix, and the same with NaN at random places."""
    generator = np.random.default_rng([seed, 1])
    truth = low_rank_matrix(shape, rank, seed).numpy()
    seen = truth + noise * generator.standard_normal(shape)
    seen[generator.random(shape) > share] = np.nan
    return scale * truth + shift, scale * seen + shift


# Split


@pytest.mark.parametrize("seed", range(5))
def test_the_parts_are_a_partition_that_empties_no_row_or_column(seed: int) -> None:
    data = ObservedMatrix.from_array(partly((15, 30), share=0.15, seed=seed)[1])
    parts = split_entries(data, 0.2, 0.3, seed)
    together = np.concatenate([parts.fitted, parts.validation, parts.test])
    assert sorted(together) == list(range(data.n_observed))
    assert set(data.row_index[parts.fitted]) == set(range(len(data.rows)))
    assert set(data.column_index[parts.fitted]) == set(range(len(data.columns)))


def test_shares_and_seed_decide_the_parts() -> None:
    data = ObservedMatrix.from_array(partly((30, 30), share=0.6)[1])
    first, again, other = (split_entries(data, 0.1, 0.2, seed) for seed in (0, 0, 1))
    assert len(first.test) == round(0.1 * data.n_observed)
    assert len(first.validation) == round(0.2 * data.n_observed)
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)
    assert len(split_entries(data, 0.1, 0.0, 0).validation) == 0


def test_too_few_entries_are_refused() -> None:
    diagonal = np.where(np.eye(6) == 1, 1.0, np.nan)
    with pytest.raises(ValueError, match="of 6 observed entries, 0 can be test entries"):
        split_entries(ObservedMatrix.from_array(diagonal), 0.5, 0.0, 0)


# Biases


@pytest.mark.parametrize("center", ["rows", "columns", "both"])
def test_biases_solve_their_regularized_least_squares(center: str) -> None:
    rng = np.random.default_rng(0)
    d, d_prime, m = 7, 5, 24
    at = rng.choice(d * d_prime, m, replace=False)
    i, j, z = at // d_prime, at % d_prime, rng.standard_normal(m) + 2
    found = fit_offsets(i, j, z, (d, d_prime), center, (2.0, 3.0))
    design = np.zeros((m, d + d_prime))
    if center != "columns":
        design[np.arange(m), i] = 1
    if center != "rows":
        design[np.arange(m), d + j] = 1
    ridge = np.diag(np.repeat([2.0, 3.0], [d, d_prime]))
    expected = np.linalg.solve(design.T @ design + ridge, design.T @ (z - z.mean()))
    np.testing.assert_allclose(np.concatenate([found.rows, found.columns]), expected, atol=1e-8)
    assert found.mean == pytest.approx(z.mean())
    whole = found.add_to(np.zeros((d, d_prime)))
    np.testing.assert_allclose(found.at(i, j), whole[i, j])
    product = product_matrix(found.factors()).numpy()
    np.testing.assert_allclose(product, whole)
    values = np.linalg.svd(whole)[1]
    np.testing.assert_allclose(Prediction(found).singular_values()[:2], values[:2], atol=1e-10)


def test_columns_of_unlike_units_are_found_and_scaled() -> None:
    rng = np.random.default_rng(0)
    units = np.array([1.0, 1e5, 0.3, 20.0])
    table = rng.standard_normal((60, 4)) * units + 3 * units
    i, j = (x.ravel() for x in np.indices(table.shape))
    assert unlike_axis(i, j, table.ravel(), table.shape) == "columns"
    assert unlike_axis(j, i, table.ravel(), (4, 60)) == "rows"
    ratings = rng.integers(1, 6, table.shape).astype(float)
    assert unlike_axis(i, j, ratings.ravel(), table.shape) == "none"
    scaling = fit_scaling(i, j, table.ravel(), table.shape, "columns")
    z = ((table.ravel() - scaling.of(i, j)[0]) / scaling.of(i, j)[1]).reshape(table.shape)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(0), 1)
    np.testing.assert_allclose(scaling.put_back(z.copy()), table)


# Nuclear norm penalty


@pytest.mark.parametrize("penalty", [0.3, 2.0, 6.0])
def test_the_penalized_solution_fulfils_its_optimality_conditions(penalty: float) -> None:
    r"""Of :math:`P_\Omega(y - Z)`, all but the part along `Z` is at most the penalty."""
    problem = MatrixCompletion.random((15, 10), 3, 90, seed=0)
    found = soft_impute(problem, penalty, 10, tolerance=1e-10, max_sweeps=20_000)
    Z = product_matrix(found.factors)
    residual = torch.where(problem.mask, problem.values - Z, 0.0)
    rank = int((found.s > 1e-6).sum())
    U, V = found.U[:, :rank], found.V[:, :rank]
    torch.testing.assert_close(
        U.T @ residual @ V, penalty * torch.eye(rank, dtype=U.dtype), rtol=0, atol=1e-4
    )
    assert float(torch.linalg.matrix_norm(residual, 2)) < penalty * (1 + 1e-4)
    assert 0 < rank < 10


def test_a_path_falls_from_zero_and_ends_after_its_least_error() -> None:
    truth, seen = (torch.from_numpy(x) for x in partly((40, 30), 2, 0.5, noise=0.5))
    problem = MatrixCompletion.from_mask(seen)

    def error(found) -> float:
        return float((product_matrix(found.factors) - truth).square().mean())

    path = list(soft_impute_path(problem, 30, error))
    penalties = [found.penalty for found, _ in path]
    largest = float(torch.linalg.matrix_norm(problem.values, 2))
    np.testing.assert_allclose(penalties[:3], largest * 0.8 ** np.arange(1, 4), rtol=1e-3)
    errors = [value for _, value in path]
    best = int(np.argmin(errors))
    assert len(path) == best + 5
    assert float((path[0][0].s > 0).sum()) <= 3
    assert errors[best] < 0.6 * errors[0]
    # Started from the one before, a solution is that which is found from nothing.
    alone = soft_impute(problem, penalties[best], 30, tolerance=1e-8, max_sweeps=5000)
    distance = product_matrix(alone.factors) - product_matrix(path[best][0].factors)
    size = torch.linalg.matrix_norm(product_matrix(alone.factors))
    assert float(torch.linalg.matrix_norm(distance)) < 0.02 * float(size)


# Early stopping


def test_a_run_ends_at_the_look_with_the_least_error() -> None:
    truth, seen = (torch.from_numpy(W) for W in partly((20, 14), 1, 0.6, noise=0.5))
    problem, start, errors = MatrixCompletion.from_mask(seen), gaussian(1e-3, 0), []

    def error(factors) -> float:
        errors.append(float(((product_matrix(factors) - truth) ** 2).mean()))
        return errors[-1]

    run = early_stopping(problem, 2, start, error, until_loss=1e-6)
    assert (run.is_early, run.end) == (True, "stopped early")
    assert [look[1] for look in run.looks] == errors
    product = product_matrix(run.factors)
    assert float(((product - truth) ** 2).mean()) == min(errors)
    losses = np.array([look[0] for look in run.looks])
    ratios = losses[1:] / losses[:-1]
    assert all(min(abs(ratio - 0.8), abs(ratio - 0.95)) < 0.011 for ratio in ratios)
    assert losses[-1] < 0.51 * losses[int(np.argmin(errors))]
    # The looks do not change the way: it is that of a run in one piece.
    straight = gradient_flow(problem, 2, start, None, until_time=run.time)
    assert torch.linalg.matrix_norm(product - straight.product) < 2e-3 * 17
    fitted = gradient_flow(problem, 2, start, 1e-6)
    assert float(((fitted.product - truth) ** 2).mean()) > 1.5 * min(errors)


def test_a_run_without_noise_goes_on_to_the_end() -> None:
    truth, seen = (torch.from_numpy(W) for W in partly((20, 14), 1, 0.6))
    problem = MatrixCompletion.from_mask(seen)

    def error(factors) -> float:
        return float((product_matrix(factors) - truth).square().mean())

    run = early_stopping(problem, 2, gaussian(1e-3, 0), error, 1e-5)
    assert (run.end, run.is_early) == ("all fitted", False)
    assert float(problem.loss(product_matrix(run.factors))) == pytest.approx(1e-5, rel=0.011)
    unseen = torch.isnan(seen)

    def elsewhere(factors) -> float:
        return float((product_matrix(factors) - truth)[unseen].square().mean())

    kept = early_stopping(problem, 1, gaussian(1e-3, 0), elsewhere, 1e-6)
    assert (kept.end, kept.time) == ("no better than its start", 0.0)


@pytest.mark.parametrize(("seed", "rank", "noise"), [(1, 2, 0.3), (3, 2, 0.3), (3, 2, 0.0)])
def test_a_run_goes_on_while_the_next_mode_is_learned(seed: int, rank: int, noise: float) -> None:
    """Between two modes the validation error rises, and falls by much thereafter."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((30, rank)) @ rng.standard_normal((rank, 25))
    measured = truth + noise * rng.standard_normal(truth.shape)
    seen = np.where(rng.random(truth.shape) < 0.5, measured, np.nan)
    found = complete(ObservedMatrix.from_array(seen), [3], center="none")
    errors = found.paths["depth 3"].error
    assert (errors / errors.cummin()).max() > 1.01, "nothing rises: this matrix shows nothing"
    assert found.table.error["depth 3"] < 0.4 * found.table.error["mean"]


def test_entries_of_a_product_from_its_factors() -> None:
    factors = gaussian(2.0, 0).factors((6, 5), 3)
    i, j = np.array([0, 5, 3]), np.array([4, 0, 2])
    np.testing.assert_allclose(at_entries(factors, i, j), product_matrix(factors).numpy()[i, j])


# Kept runs


def test_a_finished_run_is_taken_up_again_and_a_damaged_one_is_not(tmp_path) -> None:
    run = EarlyStopping(gaussian(1.0, 0).factors((4, 3), 2), 1.5, 7, [(1.0, 2.0)], "done", True)
    calls = []

    def compute() -> EarlyStopping:
        calls.append(1)
        return run

    for expected in (1, 1):
        kept = Kept(tmp_path / "kept", b"data")
        again = kept.run(("depth 2", "validation"), compute)
        assert len(calls) == expected
        assert (again.time, again.looks, again.end) == (1.5, [(1.0, 2.0)], "done")
        torch.testing.assert_close(again.factors, run.factors)
    Kept(tmp_path / "kept", b"other data").run(("depth 2", "validation"), compute)
    Kept(tmp_path / "kept", b"data").run(("depth 3", "validation"), compute)
    assert len(calls) == 3
    for path in (tmp_path / "kept").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    kept.run(("depth 2", "validation"), compute)
    assert len(calls) == 4
    kept.clear()
    assert not (tmp_path / "kept").exists()
    Kept().run(("depth 2",), compute)
    assert len(calls) == 5


# What is determined


def test_groups_that_share_no_entry_do_not_determine_each_other() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    mask[:2, :3] = mask[2:, 3:] = True
    i, j = np.nonzero(mask)
    found = determined_entries(i, j, mask.shape, 1)
    assert found.n_components == 2
    np.testing.assert_array_equal(found.mask, mask)
    mask[4, 0] = True  # one entry in common ties them together, at rank 1
    assert determined_entries(*np.nonzero(mask), mask.shape, 1).mask.all()


@pytest.mark.parametrize("rank", [1, 2])
def test_groups_tied_by_too_few_entries_for_the_rank_are_not_determined(rank: int) -> None:
    """Between two groups of rank r lie r² unknowns, a linear map from factors to factors."""
    mask = np.zeros((14, 12), dtype=bool)
    mask[:7, :6] = mask[7:, 6:] = True
    within = mask.copy()
    ties = [(0, 6), (1, 7), (2, 8), (3, 9)]
    for count, tie in enumerate(ties, start=1):
        mask[tie] = True
        found = determined_entries(*np.nonzero(mask), mask.shape, rank)
        assert found.n_components == 1
        assert found.mask[within].all()
        between = found.mask[~within & ~mask]
        assert between.all() if count >= rank**2 else not between.any()


def test_rows_with_fewer_observations_than_the_rank_are_not_determined() -> None:
    mask = np.ones((8, 7), dtype=bool)
    mask[0, 1:] = False  # one observation
    mask[3:, 6] = False
    mask[1, 6] = False  # column 6 has two, of which one stands in the row without enough
    mask[0, [0, 6]] = False, True
    found = determined_entries(*np.nonzero(mask), mask.shape, 2)
    assert (found.rows[0], found.columns[6]) == (-1, -1)
    assert (found.rows[1:] >= 0).all()
    assert (found.columns[:6] >= 0).all()
    assert not found.mask[0].any()
    assert not found.mask[:, 6].any()
    assert found.mask[1:, :6].all()
    assert determined_entries(*np.nonzero(mask), mask.shape, 1).mask.all()
