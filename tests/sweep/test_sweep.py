"""Sweeps: rows equal to direct calls, wherever they are computed, cached, damaged or stopped."""

import json
import math
import struct
import warnings
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import threadpoolctl
import torch

from dmf_utils.convex.nuclear_norm import min_nuclear_norm
from dmf_utils.factorization.initialization import balanced, gaussian, identity
from dmf_utils.factorization.norms import effective_rank, nuclear_norm
from dmf_utils.flow.descent import gradient_descent
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.trajectory import Record
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.sensing import MatrixSensing
from dmf_utils.sweep import chunk_store, compute, run_parameters, table as module
from dmf_utils.sweep.cache import SweepWarning
from dmf_utils.sweep.executors import ThisProcess
from dmf_utils.sweep.run_parameters import Chunk
from dmf_utils.sweep.table import DEFAULTS, grid, project_cache, sweep, trajectory_table

SMALL = {"rows": 6, "columns": 5, "rank": 1, "n_observed": 20}
# Eleven runs in six chunks, of every method.
RUNS = [
    *grid(**SMALL, method="flow", depth=[2, 3], norm=[1e-1, 1e-2], seed=[0, 1]),
    *grid(**SMALL, method="descent", depth=2, until_loss=1e-3, learning_rate=1e-2),
    *grid(**SMALL, method=["min_nuclear_norm", "truth"]),
]
N_CHUNKS = 5


def here(runs, **options):
    """In this process, without a bar."""
    return sweep(runs, **({"workers": 1, "progress": False} | options))


def stored(folder):
    """The files in a cache, but for that of its locks."""
    return sorted(path for path in folder.iterdir() if path.name != ".locks")


def assert_same(table, expected):
    """To the bit, all columns but the seconds."""
    pd.testing.assert_frame_equal(
        table.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True
    )


@pytest.fixture(scope="module")
def expected():
    return here(RUNS)


@pytest.fixture
def computed(monkeypatch):
    """The chunks computed in this process from here on."""
    run_chunk, seen = module.compute_chunk, []

    def counted(runs, *more):
        seen.append(runs)
        return run_chunk(runs, *more)

    monkeypatch.setattr(module, "compute_chunk", counted)
    return seen


# --- the grid -------------------------------------------------------------------------------------


def test_grid_has_all_combinations_the_last_axis_fastest():
    assert grid(depth=[2, 3], method="flow", seed=range(2)) == [
        {"depth": 2, "method": "flow", "seed": 0},
        {"depth": 2, "method": "flow", "seed": 1},
        {"depth": 3, "method": "flow", "seed": 0},
        {"depth": 3, "method": "flow", "seed": 1},
    ]


def test_grid_of_single_values_is_one_run():
    assert grid(depth=3, start="identity") == [{"depth": 3, "start": "identity"}]
    assert grid() == [{}]
    assert grid(depth=[], seed=[0, 1]) == []


def test_grid_takes_arrays_and_tuples():
    norms = np.logspace(-3, -1, 3)
    assert [run["norm"] for run in grid(norm=norms)] == norms.tolist()
    assert [run["depth"] for run in grid(depth=(4, 2))] == [4, 2]


# --- rows against direct calls --------------------------------------------------------------------


def test_one_row_a_run_in_the_order_given(expected):
    assert len(expected) == len(RUNS)
    for row, run in zip(expected.to_dict("records"), RUNS, strict=True):
        assert {name: row[name] for name in run} == run
    assert list(expected.columns[: len(DEFAULTS)]) == list(DEFAULTS)


def test_what_a_run_leaves_out_is_the_default_and_what_it_does_not_use_is_empty(expected):
    flow = expected[expected.method == "flow"].iloc[0]
    assert flow.tolerance == DEFAULTS["tolerance"]
    assert flow.start == DEFAULTS["start"]
    assert flow.until_loss == DEFAULTS["until_loss"]
    assert math.isnan(flow.learning_rate)
    assert math.isnan(expected[expected.method == "descent"].iloc[0].tolerance)
    for method in ("min_nuclear_norm", "truth"):
        row = expected[expected.method == method].iloc[0]
        assert row[["depth", "start", "norm", "until_loss", "max_steps"]].isna().all()


def check_run(row, problem, run, rel=1e-9):
    """The row of a run is the trajectory and what is measured of its end."""
    W = run.product.to(torch.float64)
    assert row["status"] == run.status.value
    assert row["loss"] == pytest.approx(run.loss, rel=rel)
    assert row["time"] == pytest.approx(run.time, rel=rel)
    assert row["n_gradients"] == run.n_gradients
    assert row["error"] == pytest.approx(float(problem.error(W)), rel=100 * rel)
    assert row["nuclear_norm"] == pytest.approx(float(nuclear_norm(W)), rel=rel)
    assert row["effective_rank"] == pytest.approx(float(effective_rank(W)), rel=rel)
    assert math.isnan(row["gap"])


def test_flow_rows_are_direct_calls(expected):
    for row in expected[expected.method == "flow"].to_dict("records"):
        problem = MatrixCompletion.random((6, 5), 1, 20, seed=row["seed"])
        start = gaussian(norm=row["norm"], seed=row["seed"])
        check_run(row, problem, gradient_flow(problem, int(row["depth"]), start))


def test_descent_rows_are_direct_calls_of_the_normalized_step(expected):
    (row,) = expected[expected.method == "descent"].to_dict("records")
    problem = MatrixCompletion.random((6, 5), 1, 20, seed=0)
    start, asked = gaussian(norm=1e-2, seed=0), {"learning_rate": 1e-2, "normalized": True}
    check_run(row, problem, gradient_descent(problem, 2, start, 1e-3, **asked))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("method", ["flow", "descent"])
def test_options_reach_the_run(method, precision):
    options = {"until_loss": 1e-2, "max_steps": 12, "precision": precision}
    more = {"tolerance": 1e-3} if method == "flow" else {"learning_rate": 0.3}
    with pytest.warns(RuntimeWarning, match="1 of 1 runs did not reach"):
        (row,) = here([SMALL | {"method": method, "depth": 2} | options | more]).to_dict("records")
    problem, start = MatrixCompletion.random((6, 5), 1, 20, 0), gaussian(1e-2, 0)
    asked = {"max_steps": 12, "dtype": getattr(torch, precision)}
    if method == "flow":
        solve = partial(gradient_flow, settings=Settings(tolerance=1e-3, **asked))
    else:
        solve = partial(gradient_descent, learning_rate=0.3, normalized=True, **asked)
    with pytest.warns(RuntimeWarning, match="step limit"):
        run = solve(problem, 2, start, 1e-2)
    check_run(row, problem, run, rel=1e-9 if precision == "float64" else 1e-6)
    assert run.product.dtype == asked["dtype"]


@pytest.mark.parametrize("start", [identity(norm=0.1), balanced(norm=0.1, seed=3)], ids=str)
def test_starts_are_those_named(start):
    name = type(start).__name__
    (row,) = here([SMALL | {"start": name, "norm": 0.1, "seed": 3, "depth": 2}]).to_dict("records")
    problem = MatrixCompletion.random((6, 5), 1, 20, seed=3)
    check_run(row, problem, gradient_flow(problem, 2, start))


def test_sensing_rows_are_direct_calls():
    sensing = SMALL | {"problem": "sensing", "n_observed": 25}
    runs = grid(**sensing, depth=2, norm=[1e-1, 1e-2], seed=[4, 5])
    runs += grid(**sensing, seed=4, method=["min_nuclear_norm", "truth"])
    table = here(runs).to_dict("records")
    for row in table[:4]:
        problem = MatrixSensing.random((6, 5), 1, 25, seed=row["seed"])
        start = gaussian(norm=row["norm"], seed=row["seed"])
        check_run(row, problem, gradient_flow(problem, 2, start))
    problem = MatrixSensing.random((6, 5), 1, 25, seed=4)
    check_least(table[4], problem)
    check_truth(table[5], problem)


def check_least(row, problem):
    least = min_nuclear_norm(problem, tolerance=1e-6)
    assert row["status"] == "reached"
    assert row["nuclear_norm"] == pytest.approx(least.nuclear_norm, rel=1e-12)
    assert row["gap"] == pytest.approx(least.gap, rel=1e-6, abs=1e-12)
    assert 0 <= row["gap"] <= 1e-6
    assert row["error"] == pytest.approx(float(problem.error(least.matrix)), rel=1e-6, abs=1e-20)


def check_truth(row, problem):
    truth = problem.ground_truth
    assert row["status"] == "reached"
    assert row["error"] == 0
    assert row["loss"] < 1e-25
    assert row["nuclear_norm"] == pytest.approx(float(nuclear_norm(truth)), rel=1e-12)
    assert row["effective_rank"] == pytest.approx(float(effective_rank(truth)), rel=1e-12)
    assert row["n_gradients"] == 0


def test_comparison_rows_are_direct_calls(expected):
    problem = MatrixCompletion.random((6, 5), 1, 20, seed=0)
    least, truth = expected.to_dict("records")[-2:]
    check_least(least, problem)
    check_truth(truth, problem)


def test_the_gap_is_that_of_the_certificate():
    run = SMALL | {"method": "min_nuclear_norm", "n_observed": 15, "seed": 2}
    (row,) = here([run]).to_dict("records")
    problem = MatrixCompletion.random((6, 5), 1, 15, seed=2)
    assert row["gap"] > 1e-10  # not rounding
    check_least(row, problem)


def test_numpy_scalars_are_the_numbers_they_hold(expected):
    def as_numpy(value):
        kinds = {int: np.int64, float: np.float64, str: np.str_}
        return kinds[type(value)](value)

    runs = [{name: as_numpy(value) for name, value in run.items()} for run in RUNS]
    assert_same(here(runs), expected)


def test_whole_numbers_stand_for_floats():
    runs = [SMALL | {"depth": 2, "norm": norm} for norm in (1, 1.0, np.int64(1))]
    assert here(runs).drop(columns="seconds").drop_duplicates().shape[0] == 1


def test_numbers_that_no_run_has_are_nan_not_objects():
    table = here([SMALL | {"method": "truth"}])
    for name in ("norm", "tolerance", "learning_rate", "time", "gap"):
        assert table[name].dtype == float
        assert math.isnan(table[name][0])


def test_no_runs_are_an_empty_table():
    table = here([])
    assert len(table) == 0
    assert list(table.columns) == list(here([SMALL | {"method": "truth"}]).columns)


def test_runs_may_come_from_a_generator(expected):
    assert_same(here(run for run in RUNS), expected)


# --- anywhere -------------------------------------------------------------------------------------


def test_two_processes_compute_the_same(expected, tmp_path):
    # Every chunk under the eyes of a limit on warnings: workers must not raise or print them.
    runs = [*RUNS, *grid(**SMALL, max_steps=2, seed=[0, 1])]
    with pytest.warns(RuntimeWarning, match="2 of 13 runs did not reach"):
        table = here(runs, workers=2, cache=tmp_path)
    assert_same(table.iloc[: len(RUNS)], expected)
    assert_same(here(RUNS, cache=tmp_path), expected)


@pytest.mark.parametrize(("share", "workers"), [("1", None), ("2", 2), ("3", 3)])
def test_a_sweep_starts_as_many_processes_as_its_share(monkeypatch, share, workers):
    monkeypatch.setenv("DMF_THREADS", share)
    started = []

    class Pool(ThisProcess):
        def __init__(self, count):
            started.append(count)

    monkeypatch.setattr(module, "WorkerProcesses", Pool)
    here(RUNS, workers=None)
    assert started == [workers][: workers is not None]


def test_threads_compute_the_same(expected):
    with ThreadPoolExecutor(3) as threads:
        assert_same(here(RUNS, executor=threads), expected)
        assert threads.submit(lambda: 1).result() == 1  # not shut down


def test_other_orders_of_chunks_compute_the_same(expected, monkeypatch):
    chunks = module.chunks
    for order in (lambda made: made[::-1], lambda made: made[2:] + made[:2]):
        monkeypatch.setattr(module, "chunks", lambda complete, order=order: order(chunks(complete)))
        assert_same(here(RUNS), expected)


SENSING = SMALL | {"problem": "sensing", "n_observed": 25, "depth": 2}
SENSED = grid(**SENSING, seed=[4, 5], norm=[3e-1, 2e-1, 1e-1, 5e-2, 3e-2])


def test_other_orders_of_runs_compute_the_same_to_the_last_bit():
    runs = [*RUNS[:8], *SENSED[:5]]
    order = np.random.default_rng(0).permutation(len(runs))
    table = here([runs[i] for i in order])
    assert_same(table.iloc[np.argsort(order)].reset_index(drop=True), here(runs))


def test_chunks_are_of_the_runs_not_of_their_order():
    runs = [module.complete_run(run, 0) for run in [*RUNS, *SENSED, *RUNS]]
    once = {chunk.runs for chunk in map(as_hashable, module.chunks(runs))}
    again = {chunk.runs for chunk in map(as_hashable, module.chunks(runs[::-1]))}
    assert once == again
    assert sum(map(len, once)) == len(RUNS) + len(SENSED)


def as_hashable(chunk):
    return Chunk(chunk.first, tuple(tuple(run.values()) for run in chunk.runs))


def test_other_sizes_of_chunks_compute_the_same(expected, monkeypatch):
    more = grid(**SMALL, depth=3, norm=1e-2, gradient_precision="float32", seed=range(4))
    eight = here(more)
    for size in (1, 3):  # completion: to the last bit
        monkeypatch.setattr(run_parameters, "CHUNK", size)
        assert_same(here(more), eight)
    assert_same(here(RUNS), expected)


def test_sensing_differs_by_rounding_alone_in_other_chunks(monkeypatch):
    runs = grid(**SENSING | {"depth": [2, 3, 4]}, seed=4, norm=[2e-1, 5e-2])
    together = here(runs)
    monkeypatch.setattr(run_parameters, "CHUNK_OF_SENSING", 1)
    alone = here(runs)
    assert alone.n_gradients.tolist() == together.n_gradients.tolist()
    names = ["loss", "error", "nuclear_norm", "time"]
    pd.testing.assert_frame_equal(alone[names], together[names], rtol=1e-8, atol=0)


def test_flows_of_sensing_that_share_measurements_are_one_chunk():
    runs = grid(**SENSING | {"depth": [2, 3, 4]}, seed=[4, 5], norm=[2e-1, 5e-2])
    made = module.chunks([module.complete_run(run, at) for at, run in enumerate(runs)])
    assert [{run["seed"] for run in chunk.runs} for chunk in made] == [{4}, {5}]
    assert [len(chunk.runs) for chunk in made] == [6, 6]


def test_a_run_that_is_named_twice_is_computed_once(expected, computed, tmp_path, monkeypatch):
    path = tmp_path / "progress"
    monkeypatch.setenv("DMF_PROGRESS", str(path))
    twice = here([*RUNS, *RUNS[::-1]], progress=True)
    assert sum(map(len, computed)) == len(RUNS)
    assert lines_of(path)[-1]["done"] == 2 * len(RUNS)
    assert_same(twice[: len(RUNS)], expected)
    assert_same(twice[len(RUNS) :][::-1].reset_index(drop=True), expected)


def test_a_chunk_is_computed_in_one_thread(monkeypatch):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    row = compute._row

    def counted(*arguments):
        limits = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
        seen.append((torch.get_num_threads(), limits))
        return row(*arguments)

    monkeypatch.setattr(compute, "_row", counted)
    try:
        here([SMALL | {"method": "truth"}])
        assert seen == [(1, {1})]
        assert torch.get_num_threads() == 2  # as it was
    finally:
        torch.set_num_threads(before)


def test_another_source_where_it_is_computed_is_refused():
    run = module.complete_run(SMALL, 0)
    with pytest.raises(RuntimeError, match="another version of dmf_utils, numpy, scipy"):
        compute.compute_chunk([run], {}, "of another version")


# --- trajectories ---------------------------------------------------------------------------------


def test_recorded_trajectories_are_those_of_direct_calls(expected, tmp_path, computed):
    record = Record([0.0, 5.0, 10.0, 1e9], singular_values=3)
    options = {"trajectories": record, "cache": tmp_path}
    table = here(RUNS, **options)
    assert_same(table[expected.columns], expected)  # looking changes nothing
    long = trajectory_table(table)
    for i, run in enumerate(RUNS[:9]):
        problem = MatrixCompletion.random((6, 5), 1, 20, seed=run.get("seed", 0))
        start = gaussian(run.get("norm", 1e-2), run.get("seed", 0))
        if run["method"] == "flow":
            direct = gradient_flow(problem, run["depth"], start, record=record)
        else:
            direct = gradient_descent(
                problem, 2, start, 1e-3, learning_rate=1e-2, normalized=True, record=record
            )
        part = long[long.run == i]
        assert len(part) >= 2
        assert part.time.tolist() == direct.times.tolist()
        assert part.loss.tolist() == pytest.approx(direct.losses.tolist(), rel=1e-9)
        sigmas = part[["sigma_1", "sigma_2", "sigma_3"]].to_numpy()
        np.testing.assert_allclose(sigmas, direct.singular_values, rtol=1e-7, atol=1e-14)
    assert set(long.run) == set(range(9))  # the others have no way
    computed.clear()
    pd.testing.assert_frame_equal(trajectory_table(here(RUNS, **options)), long, check_exact=True)
    assert computed == []
    here(RUNS, cache=tmp_path)  # without them is another question
    assert len(computed) == N_CHUNKS


def test_trajectories_of_several_shapes_leave_out_what_there_is_not():
    runs = [
        {"rows": n, "columns": n, "rank": 1, "n_observed": n, "depth": 1, "until_loss": 1e-2}
        for n in (2, 3)
    ]
    long = trajectory_table(here(runs, trajectories=Record([0.0], singular_values=3)))
    assert long.sigma_3.isna().tolist() == [True, False]
    assert list(trajectory_table(here([], trajectories=Record([0.0]))).columns) == [
        "run", "time", "loss",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("record", "kind", "message"),
    [
        ([1.0], TypeError, "trajectories must be a Record"),
        (Record([1.0], measures={"norm": torch.sum}), ValueError, "leave measures and factors"),
        (Record([1.0], factors=True), ValueError, "leave measures and factors out"),
    ],
)
def test_other_records_are_refused(computed, record, kind, message):
    with pytest.raises(kind, match=message):
        here([SMALL], trajectories=record)
    assert computed == []


def test_a_table_without_trajectories_says_so(expected):
    with pytest.raises(ValueError, match="table has no trajectories"):
        trajectory_table(expected)


# --- chunks ---------------------------------------------------------------------------------------


def test_chunks_hold_what_is_stepped_together(computed):
    here(RUNS)
    assert len(computed) == N_CHUNKS
    for chunk in computed:
        shared = [{k: v for k, v in run.items() if k not in ("norm", "seed")} for run in chunk]
        assert all(run == shared[0] for run in shared)
    assert [chunk[0]["depth"] for chunk in computed[:2]] == [3, 2]


def test_chunks_are_of_eight_runs_at_most_and_sensing_of_one_instance(computed):
    here(grid(**SMALL, method="truth", seed=range(17)))
    assert [len(chunk) for chunk in computed] == [8, 8, 1]
    computed.clear()
    here(grid(**SMALL, problem="sensing", until_loss=10.0, seed=[0, 1], norm=[1e-1, 1e-2]))
    assert [{run["seed"] for run in chunk} for chunk in computed] == [{0}, {1}]


def test_threads_leave_the_filters_of_warnings_as_they_were():
    runs = grid(**SMALL, depth=[2, 3], max_steps=[1, 2, 3, 4], seed=[0, 1])
    before = list(warnings.filters)
    with (
        ThreadPoolExecutor(4) as threads,
        pytest.warns(RuntimeWarning, match="16 of 16") as told,
    ):
        here(runs, executor=threads)
    assert len(told) == 1
    assert list(warnings.filters) == before


# --- the cache ------------------------------------------------------------------------------------


def test_a_second_call_computes_nothing(expected, tmp_path, computed):
    assert_same(here(RUNS, cache=tmp_path / "a" / "b"), expected)
    assert len(computed) == N_CHUNKS
    again = here(RUNS, cache=str(tmp_path / "a" / "b"))
    assert len(computed) == N_CHUNKS
    assert_same(again, expected)
    names = [path.suffix for path in stored(tmp_path / "a" / "b")]
    assert names == [".parquet"] * N_CHUNKS


def test_without_a_cache_everything_is_computed_again(computed):
    here(RUNS[:2])
    here(RUNS[:2])
    assert len(computed) == 2


def test_only_missing_chunks_are_computed(expected, tmp_path, computed):
    here(RUNS, cache=tmp_path)
    for path in stored(tmp_path)[:2]:
        path.unlink()
    computed.clear()
    assert_same(here(RUNS, cache=tmp_path), expected)
    assert len(computed) == 2


def test_more_runs_take_over_the_chunks_there_are(tmp_path, computed):
    here(RUNS[:4], cache=tmp_path)
    computed.clear()
    here(RUNS, cache=tmp_path)
    assert len(computed) == N_CHUNKS - 1


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"norm": 0.011}, {"tolerance": 1e-6}, {"n_observed": 21}, {"rank": 2}],
    ids=str,
)
def test_other_parameters_are_computed_anew(tmp_path, computed, change):
    here([SMALL], cache=tmp_path)
    here([SMALL | change], cache=tmp_path)
    assert len(computed) == 2


def test_what_a_method_does_not_use_changes_nothing(tmp_path, computed):
    for depth in (2, 3):
        here([SMALL | {"method": "truth", "depth": depth, "norm": 0.1 * depth}], cache=tmp_path)
    assert len(computed) == 1


def test_another_source_is_computed_anew(tmp_path, computed, monkeypatch):
    here([SMALL], cache=tmp_path)
    monkeypatch.setattr(chunk_store, "_SOURCE", "of another version")
    here([SMALL], cache=tmp_path)
    assert len(computed) == 2


def test_damaged_chunks_are_named_and_computed_again(expected, tmp_path, computed):
    here(RUNS, cache=tmp_path)
    truncated, flipped, foreign, *_ = stored(tmp_path)
    whole = bytearray(flipped.read_bytes())
    whole[whole.index(struct.pack("<d", pq.read_table(flipped)["error"][0].as_py()))] ^= 1
    flipped.write_bytes(whole)
    truncated.write_bytes(truncated.read_bytes()[:-50])
    foreign.write_text("not a table")
    computed.clear()
    with pytest.warns(RuntimeWarning, match="is damaged") as told:
        table = here(RUNS, cache=tmp_path)
    assert_same(table, expected)
    assert len(computed) == len(told) == 3
    for path in (truncated, flipped, foreign):
        assert sum(str(path) in str(one.message) for one in told) == 1
    assert all(one.filename == __file__ or "test_sweep" in one.filename for one in told)
    computed.clear()
    assert_same(here(RUNS, cache=tmp_path), expected)
    assert computed == []


def test_the_projects_cache_can_be_put_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("DMF_CACHE", str(tmp_path))
    assert project_cache() == tmp_path
    for clear in (
        lambda: monkeypatch.setenv("DMF_CACHE", ""),
        lambda: monkeypatch.delenv("DMF_CACHE"),
    ):
        clear()
        root = Path(module.__file__).resolve().parents[2]
        assert project_cache() == root / "_build" / "cache"


# --- stopped --------------------------------------------------------------------------------------


class _StopsAt(Executor):
    """Computes at once, up to a chunk at which the user presses Ctrl-C."""

    def __init__(self, stop, error=KeyboardInterrupt):
        self.stop, self.error, self.later = stop, error, []

    def submit(self, work, *arguments):
        future = Future()
        if self.stop == 0:
            future.set_exception(self.error("stopped"))
        elif self.stop > 0:
            future.set_result(work(*arguments))
        else:
            self.later.append(future)
        self.stop -= 1
        return future


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_was_done_is_kept_when_stopped(expected, tmp_path, computed, error):
    executor = _StopsAt(2, error)
    with pytest.raises(error, match="stopped"):
        here(RUNS, executor=executor, cache=tmp_path)
    assert [path.suffix for path in stored(tmp_path)] == [".parquet"] * 2
    assert [future.cancelled() for future in executor.later] == [True] * (N_CHUNKS - 3)
    computed.clear()
    assert_same(here(RUNS, cache=tmp_path), expected)
    assert len(computed) == N_CHUNKS - 2


def test_what_was_done_is_kept_when_stopped_in_one_process(expected, tmp_path, monkeypatch):
    run_chunk, begun = module.compute_chunk, []

    def stopped(runs, *more):
        begun.append(runs)
        if len(begun) == 4:
            raise KeyboardInterrupt
        return run_chunk(runs, *more)

    monkeypatch.setattr(module, "compute_chunk", stopped)
    with pytest.raises(KeyboardInterrupt):
        here(RUNS, cache=tmp_path)
    assert len(stored(tmp_path)) == 3
    assert_same(here(RUNS, cache=tmp_path), expected)
    assert len(begun) == 4 + N_CHUNKS - 3


class _FullDisk:
    """Has no room for a while."""

    def __init__(self, monkeypatch, refusals):
        self.write, self.refusals = chunk_store.write, refusals
        monkeypatch.setattr(chunk_store, "write", self)

    def __call__(self, *arguments):
        self.refusals -= 1
        if self.refusals >= 0:
            raise OSError(28, "No space left on device")
        self.write(*arguments)


def test_without_room_on_the_disk_the_sweep_goes_on(expected, tmp_path, computed, monkeypatch):
    _FullDisk(monkeypatch, refusals=10**9)
    with pytest.warns(SweepWarning, match="cannot be written") as told:
        table = here(RUNS, cache=tmp_path)
    assert_same(table, expected)
    assert len(computed) == N_CHUNKS
    assert len(told) == 1
    assert str(tmp_path) in str(told[0].message)
    assert "No space left on device" in str(told[0].message)
    assert told[0].filename == __file__
    assert stored(tmp_path) == []


def test_what_found_no_room_is_stored_as_soon_as_there_is(
    expected, tmp_path, computed, monkeypatch
):
    _FullDisk(monkeypatch, refusals=2)
    with pytest.warns(SweepWarning, match="cannot be written") as told:
        here(RUNS, cache=tmp_path)
    assert len(told) == 1
    assert len(stored(tmp_path)) == N_CHUNKS
    computed.clear()
    assert_same(here(RUNS, cache=tmp_path), expected)
    assert computed == []


def test_what_found_no_room_until_it_was_stopped_is_stored_then(tmp_path, computed, monkeypatch):
    _FullDisk(monkeypatch, refusals=2)
    with pytest.raises(OSError, match="stopped"), pytest.warns(SweepWarning):
        here(RUNS, executor=_StopsAt(2, OSError), cache=tmp_path)
    assert len(stored(tmp_path)) == 2


# --- runs that fail -------------------------------------------------------------------------------


def test_a_diverged_run_among_others_is_told_once():
    wild = SMALL | {"method": "descent", "depth": 3, "until_loss": 1e-3}
    runs = [
        *grid(**wild, learning_rate=1e-2),
        *grid(**wild, learning_rate=[1e60, 1e120]),
        *grid(**SMALL, depth=2, max_steps=3),
    ]
    with pytest.warns(RuntimeWarning, match="3 of 4 runs") as told:
        table = here(runs, label="wild ones")
    assert len(told) == 1
    message = str(told[0].message)
    assert message.startswith("wild ones: ")
    assert "{'diverged': 2, 'step limit': 1}" in message
    assert told[0].filename.endswith("test_sweep.py") or "here" in told[0].filename
    assert table.status.tolist() == ["reached", "diverged", "diverged", "step limit"]
    assert np.isfinite(table.error).tolist() == [True, False, False, True]
    assert np.isfinite(table.loss).tolist() == [True, False, False, True]
    assert table.nuclear_norm.isna().tolist() == [False, False, True, False]  # without a matrix


def test_a_diverged_run_is_cached_as_it_is(tmp_path, computed):
    runs = grid(
        **SMALL, method="descent", depth=3, until_loss=1e-3, learning_rate=[1e60, 1e-2], seed=[0, 1]
    )
    tables = []
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="2 of 4 runs"):
            tables.append(here(runs, cache=tmp_path))
    assert len(computed) == 2
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_the_residual_reaches_the_convex_program():
    run = SMALL | {"method": "min_nuclear_norm", "n_observed": 15, "seed": 2}
    exact, relaxed = here([run, run | {"residual": 0.05}]).to_dict("records")
    problem = MatrixCompletion.random((6, 5), 1, 15, 2)
    least = min_nuclear_norm(problem, residual=0.05, tolerance=1e-4)
    assert relaxed["nuclear_norm"] == least.nuclear_norm < exact["nuclear_norm"]
    assert relaxed["gap"] == least.gap <= 1e-4
    assert 0 < relaxed["loss"] <= 0.05**2


def test_the_limit_of_gradients_reaches_the_flow():
    run = SMALL | {"depth": 3, "norm": 1e-4}
    whole = here([run]).iloc[0]
    with pytest.warns(RuntimeWarning, match="1 of 1 runs did not reach"):
        given_up = here([run | {"max_gradients": 50}]).iloc[0]
    assert given_up.status == "step limit"
    assert 50 <= given_up.n_gradients < whole.n_gradients


def test_an_unsolved_convex_problem_says_so(monkeypatch):
    solve = compute.min_nuclear_norm

    def stopped(problem, **asked):
        return solve(problem, **asked, max_iterations=1)

    monkeypatch.setattr(compute, "min_nuclear_norm", stopped)
    with pytest.warns(RuntimeWarning, match="1 of 1 runs") as told:
        table = here([SMALL | {"method": "min_nuclear_norm"}])
    assert len(told) == 1
    assert table.status[0] == "step limit"
    assert table.gap[0] > 1e-6


# --- bad input ------------------------------------------------------------------------------------

WRONG = [
    ({"dept": 3}, ValueError, "unknown parameter 'dept'"),
    ({"depth": 2.0}, TypeError, "depth must be of type int, got 2.0"),
    ({"depth": True}, TypeError, "depth must be of type int, got True"),
    ({"depth": "3"}, TypeError, "depth must be of type int, got '3'"),
    ({"depth": None}, TypeError, "depth must be of type int, got None"),
    ({"norm": "small"}, TypeError, "norm must be of type float, got 'small'"),
    ({"norm": True}, TypeError, "norm must be of type float, got True"),
    ({"norm": 1j}, TypeError, "norm must be of type float, got 1j"),
    ({"norm": np.complex128(1)}, TypeError, "norm must be of type float"),
    ({"norm": [1e-2]}, TypeError, r"norm must be of type float, got \[0.01\]"),
    ({"method": 3}, TypeError, "method must be of type str, got 3"),
    ({"method": "flows"}, ValueError, "method must be one of .*'flow'.*got 'flows'"),
    ({"problem": "complete"}, ValueError, "problem must be one of .* got 'complete'"),
    ({"start": "zero"}, ValueError, "start must be one of .* got 'zero'"),
    ({"precision": "float16"}, ValueError, "precision must be one of .* got 'float16'"),
    ({"depth": 0}, ValueError, "depth must be positive and finite, got 0"),
    ({"rows": 0}, ValueError, "rows must be positive and finite, got 0"),
    ({"columns": -5}, ValueError, "columns must be positive and finite, got -5"),
    ({"n_observed": 0}, ValueError, "n_observed must be positive and finite, got 0"),
    ({"norm": 0.0}, ValueError, "norm must be positive and finite, got 0.0"),
    ({"norm": math.inf}, ValueError, "norm must be positive and finite, got inf"),
    ({"until_loss": math.nan}, ValueError, "until_loss must be positive and finite, got nan"),
    ({"tolerance": -1e-5}, ValueError, "tolerance must be positive and finite, got -1e-05"),
    ({"learning_rate": 0}, ValueError, "learning_rate must be positive and finite, got 0.0"),
    ({"max_steps": 0}, ValueError, "max_steps must be positive and finite, got 0"),
    ({"max_gradients": 0}, ValueError, "max_gradients must be positive and finite, got 0"),
    ({"residual": -1e-3}, ValueError, "residual must be at least 0, got -0.001"),
    ({"residual": math.nan}, ValueError, "residual must be at least 0, got nan"),
    ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ({"rank": 6}, ValueError, "rank must be in 0…5, got 6"),
    ({"rank": -1}, ValueError, "rank must be in 0…5, got -1"),
    ({"n_observed": 31}, ValueError, "n_observed must be at most rows·columns = 30, got 31"),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), WRONG, ids=[str(w[0]) for w in WRONG])
def test_a_wrong_run_is_named_before_any_is_made(tmp_path, computed, wrong, kind, message):
    with pytest.raises(kind, match=f"^run 2: {message}"):
        here([SMALL, SMALL, SMALL | wrong], cache=tmp_path / "cache")
    assert computed == []
    assert not (tmp_path / "cache").exists()


def test_more_measurements_than_entries_are_meant():
    run = SMALL | {"problem": "sensing", "n_observed": 31, "method": "truth"}
    assert here([run]).error.tolist() == [0.0]


def test_runs_are_mappings(computed):
    with pytest.raises(TypeError, match="run 0 must be a mapping of parameters, got 'rows'"):
        here(SMALL)
    with pytest.raises(TypeError, match="run 1 must be a mapping of parameters, got 3"):
        here([SMALL, 3])
    assert computed == []


@pytest.mark.parametrize(
    ("workers", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)]
)
def test_workers_are_a_positive_number(computed, workers, kind):
    with pytest.raises(kind, match="workers"):
        here([SMALL], workers=workers)
    assert computed == []


# --- progress -------------------------------------------------------------------------------------


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_progress_is_told_to_the_driver(tmp_path, monkeypatch, capfd):
    path = tmp_path / "progress"
    monkeypatch.setenv("DMF_PROGRESS", str(path))
    monkeypatch.setattr("dmf_utils._support.progress.time.monotonic", iter(range(1000)).__next__)
    here(RUNS, progress=True, label="eleven runs", cache=tmp_path / "cache")
    told = lines_of(path)
    assert {(line["total"], line["label"]) for line in told} == {(11, "eleven runs")}
    assert [line["done"] for line in told] == [0, 4, 8, 9, 10, 11]
    path.unlink()
    here(RUNS, progress=True, label="eleven runs", cache=tmp_path / "cache")
    assert [line["done"] for line in lines_of(path)] == [11]
    path.unlink()
    here(RUNS[:1], progress=False)
    assert not path.exists()
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_to_a_person(monkeypatch, capfd):
    monkeypatch.delenv("DMF_PROGRESS", raising=False)
    here(RUNS[:4], progress=True, label="four runs")
    shown = capfd.readouterr().err
    assert "four runs" in shown
    assert "4/4" in shown


def test_one_instance_of_sensing_is_kept_and_let_go_before_the_next(monkeypatch):
    first, other = (DEFAULTS | SMALL | {"problem": "sensing", "seed": seed} for seed in (0, 1))
    kept = compute.problem_of(first)
    assert compute.problem_of(dict(first)) is kept

    def made(*about):
        assert not compute._SENSING  # the one before takes no memory any more
        return about

    monkeypatch.setattr(MatrixSensing, "random", made)
    assert compute.problem_of(other) == ((6, 5), 1, 20, 1)
    compute._SENSING.clear()
