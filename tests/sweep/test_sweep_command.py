"""``dmf sweep``: from a file of parameters to a table that says where it comes from."""

import json
import platform
from importlib.metadata import version

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from dmf_utils._support.errors import InputError
from dmf_utils.cli.main import main
from dmf_utils.flow.trajectory import Record
from dmf_utils.sweep import cost, table as module, table_files
from dmf_utils.sweep.run_parameters import chunks, complete_run
from dmf_utils.sweep.source import SOURCE
from dmf_utils.sweep.spec import read_spec
from dmf_utils.sweep.table import grid, sweep
from dmf_utils.sweep.table_files import is_ours, read_provenance, write_tables

SMALL = {"rows": 6, "columns": 5, "rank": 1, "n_observed": 20}
SPEC = """
# What all have in common
rows: 6
columns: 5
rank: 1
n_observed: 20
grids:
  - {depth: [2, 3], norm: [1e-1, 0.01], seed: [0, 1]}
  - method: [truth, min_nuclear_norm]
runs:
  - {depth: 1, norm: 1}
"""
RUNS = [
    *grid(**SMALL, depth=[2, 3], norm=[0.1, 0.01], seed=[0, 1]),
    *grid(**SMALL, method=["truth", "min_nuclear_norm"]),
    SMALL | {"depth": 1, "norm": 1},
]


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """The name of a file with `SPEC`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yml").write_text(SPEC)
    return "spec.yml"


@pytest.fixture(scope="module")
def expected():
    return sweep(RUNS, workers=1, progress=False).drop(columns="seconds")


def run(*arguments):
    return main(["sweep", *arguments, "--workers", "1"])


# --- the file that says what to run ---------------------------------------------------------------


def test_grids_and_runs_are_those_of_the_file(spec, tmp_path):
    read = read_spec(tmp_path / spec)
    assert read.runs == RUNS
    assert read.trajectories is None
    assert read.contents["grids"][0]["norm"] == [0.1, 0.01]  # 1e-1 is a number


def test_parameters_alone_are_one_grid(tmp_path):
    path = tmp_path / "spec.yml"
    path.write_text("depth: [2, 3]\nnorm: 1E-3\nseed: [0, 1]")
    assert read_spec(path).runs == grid(depth=[2, 3], norm=1e-3, seed=[0, 1])


@pytest.mark.parametrize(
    ("asked", "times"),
    [
        ("{times: [0, 1.5, 3], singular_values: 2}", (0.0, 1.5, 3.0)),
        ("{points: 4, until: 6, singular_values: 2}", (0.0, 2.0, 4.0, 6.0)),
    ],
)
def test_trajectories_are_recorded_at_times(tmp_path, asked, times):
    path = tmp_path / "spec.yml"
    path.write_text(f"depth: 2\ntrajectories: {asked}")
    assert read_spec(path).trajectories == Record(times, 2)


WRONG = [
    ("dept: 2", "the grid: unknown parameter 'dept'; known are ['problem', "),
    ("depth: two", "the grid: depth must be of type int, got 'two'"),
    ("depth: 2.5", "the grid: depth must be of type int, got 2.5"),
    ("depth: [2, [3]]", "the grid: depth must be of type int, got [3]"),
    ("norm: -1e-3", "run 0: norm must be positive and finite, got -0.001"),
    ("depth: 2\ndepth: 3", "the key 'depth' stands twice"),
    ("grids: [{depth: 2, depth: 3}]", "the key 'depth' stands twice"),
    ("depth: [2", "while parsing a flow sequence"),
    ("- depth", "must hold lines `parameter: value`"),
    ("", "must hold lines `parameter: value`"),
    ("1: 2", "must hold lines `parameter: value`"),
    ("seed: []", "there is no run in it: a list of values is empty"),
    ("grids: {depth: 2}", "grids must be a list of mappings of parameters"),
    ("runs: [depth]", "runs must be a list of mappings of parameters"),
    ("grids: []", "grids is empty; leave it out, or name some runs"),
    ("runs: [{depth: [2, 3]}]", "run 0: depth must be of type int, got [2, 3]"),
    ("trajectories: 3", "trajectories must be a mapping of"),
    ("trajectories: {time: [1]}", "trajectories must be a mapping of"),
    ("trajectories: {points: 3}", "trajectories needs either times, or points and until"),
    ("trajectories: {points: 1, until: 2}", "points must be a number from 2 on, got 1"),
    ("trajectories: {points: 3, until: 0}", "until must be a positive time, got 0"),
    ("trajectories: {times: [2, 1]}", "increasing; sort them"),
    ("trajectories: {points: 3, until: .inf}", "until must be a positive time, got inf"),
    ("trajectories: {points: 3, until: " + "9" * 400 + "}", "until must be a positive time, got 9"),
    ("trajectories: {times: [" + "9" * 400 + "]}", "times must be a list of numbers, got [9"),
    ("trajectories: {times: [-1]}", "got [-1]; finite, none below 0"),
    ("trajectories: {times: [1], singular_values: 100001}", "must be at most 100000"),
    ("trajectories: {times: [a]}", "times must be a list of numbers, got ['a']"),
    ("trajectories: {times: [1], singular_values: -1}", "singular_values must be at least 0"),
    ("depth: !!python/object/apply:os.system ['false']", "the tag tag:yaml.org,2002:python/"),
    ("a: &a [1, 2]\ndepth: *a", "line 2: the alias *a; write it out"),
    ("depth: " + "[" * 2000, "is nested more than 50 deep"),
    ("seed: [" + "1, " * 400 + "1]\nnorm: [" + "1, " * 400 + "1]", "asks for 160801 runs"),
    ("depth: 100000000", "GiB, this machine has"),
    ("rows: 10000000\ncolumns: 10000000\nmethod: truth", "GiB, this machine has"),
    ("depth: " + "9" * 4000, "depth must be at most 9.22e+18 in size"),
    ("norm: " + "9" * 4000, "norm must be at most 1.8e+308 in size"),
    ("seed: 10000000000000000000", "seed must be at most 9.22e+18 in size"),
    ("trajectories: {points: 1000000000, until: 3}", "points must be at most 100000"),
    ("trajectories: {times: [1], singular_values: x}", "singular_values must be"),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[text[:40] or "empty" for text, _ in WRONG])
def test_what_is_wrong_is_told_in_one_line_before_anything(
    tmp_path, monkeypatch, capsys, text, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yml").write_text(text)
    monkeypatch.setattr(module, "compute_chunk", None)
    assert run("spec.yml", "--out", "t.parquet") == 2
    shown = capsys.readouterr().err
    assert shown.startswith(("dmf: spec.yml: ", "dmf: spec.yml, line "))
    assert told in shown
    assert len(shown.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yml"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.yml", "--out", "t.parquet"], "none.yml: cannot be read: No such file"),
        (["spec.yml", "--out", "t.txt"], "--out t.txt: must end in .parquet or .csv"),
        (["spec.yml", "--out", "no/t.csv"], "the folder no does not exist; make it first"),
        (["spec.yml", "--out", "d.csv"], "--out d.csv: is a folder"),
        (["spec.yml", "--out", "t.csv", "--device", "hal"], "device must be such as 'cpu'"),
    ],
)
def test_bad_arguments_are_one_line(spec, tmp_path, capsys, arguments, told):
    (tmp_path / "d.csv").mkdir()
    assert run(*arguments) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize(
    "option",
    [
        ["--workers", "0"],
        ["--wait", "-1"],
        ["--wait", "nan"],
        ["--workers", "x"],
        ["--workers", "1", "--scheduler", "tcp://127.0.0.1:1"],
        ["--cache", "spec.yml"],
    ],
)
def test_bad_options_are_refused_in_a_line(spec, capsys, option):
    assert main(["sweep", spec, "--out", "t.parquet", *option]) == 2
    told = capsys.readouterr().err
    assert option[0] in told
    assert told.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_refused(spec, capsys):
    assert run(spec, "--out", "t.parquet", "--device", "cuda") == 2
    assert "device = 'cuda': torch finds none here" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_graphics_card_computes_the_same_but_for_rounding(expected):
    table = sweep(RUNS, workers=1, progress=False, device="cuda")
    pd.testing.assert_frame_equal(
        table[["error", "nuclear_norm"]], expected[["error", "nuclear_norm"]], rtol=1e-3
    )


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_the_table_is_that_of_sweep(spec, tmp_path, capsys, expected, name):
    assert run(spec, "--out", name) == 0
    shown = capsys.readouterr()
    assert shown.out == f"11 runs: 11 reached\n{name}\n"
    read = pd.read_parquet if name == "t.parquet" else pd.read_csv
    table = read(tmp_path / name).drop(columns="seconds")
    pd.testing.assert_frame_equal(table, expected, check_exact=True, check_dtype=False)
    assert len(list((tmp_path / f"{name}.chunks").glob("*.parquet"))) == 5
    about = read_provenance(tmp_path / name)
    assert about["spec"]["rows"] == 6
    assert about["spec"]["runs"] == [{"depth": 1, "norm": 1}]
    assert about["source"] == SOURCE
    assert about["python"] == platform.python_version()
    # The package's number: PyTorch's own may add the kind of build (+cpu, +cu130).
    assert about["versions"]["torch"] == version("torch")
    assert "of memory" in about["machine"]
    assert about["seconds"] > 0
    assert {"begun", "command", "scheduler"} <= set(about)


def test_trajectories_are_a_long_table_beside_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yml").write_text(SPEC + "trajectories: {points: 3, until: 20, "
        "singular_values: 2}\n")  # fmt: skip
    assert run("spec.yml", "--out", "t.parquet") == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["t.parquet", "t-trajectories.parquet"]
    table = pd.read_parquet("t.parquet")
    assert "times" not in table
    long = pd.read_parquet("t-trajectories.parquet")
    assert list(long.columns) == ["run", "time", "loss", "sigma_1", "sigma_2"]
    assert set(long.run) == {0, 1, 2, 3, 4, 5, 6, 7, 10}  # those that have a way
    assert long[long.run == 0].time.tolist() == [0.0, 10.0, 20.0]
    assert read_provenance("t-trajectories.parquet")["spec"]["trajectories"]["points"] == 3


def test_what_is_finished_is_not_computed_again(spec, monkeypatch, capsys, expected):
    assert run(spec, "--out", "t.parquet") == 0
    monkeypatch.setattr(module, "compute_chunk", None)
    assert run(spec, "--out", "again.parquet", "--cache", "t.parquet.chunks") == 0
    assert pd.read_parquet("again.parquet").error.tolist() == expected.error.tolist()


def test_runs_that_do_not_end_as_asked_are_told_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yml").write_text(
        "{rows: 4, columns: 4, rank: 1, n_observed: 9, max_steps: 2}"
    )
    assert run("spec.yml", "--out", "t.parquet") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("1 run: 1 step limit\n")
    assert "dmf: warning: spec: 1 of 1 runs did not reach their end" in shown.err


def test_a_sweep_that_fails_says_how_to_go_on(spec, monkeypatch, capsys):
    def fails(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(module, "compute_chunk", fails)
    assert run(spec, "--out", "t.parquet") == 1
    told = capsys.readouterr().err
    assert "dmf: no luck\ndmf: what was finished is kept in t.parquet.chunks. Go on with: " in told


# --- provenance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_a_table_is_written_whole_or_not_at_all(tmp_path, monkeypatch, name):
    table, path = pd.DataFrame({"a": [1.0]}), tmp_path / name
    write_tables({path: table}, {"is": "first"})
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(table_files.pq, "write_table", interrupted)
    monkeypatch.setattr(table_files, "file_digest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_tables({path: table * 2}, {"is": "second"})
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before
    monkeypatch.undo()
    assert read_provenance(path) == {"is": "first"}


def test_provenance_is_not_of_another_table(tmp_path):
    path, sidecar = tmp_path / "t.csv", tmp_path / "t.csv.json"
    write_tables({path: pd.DataFrame({"a": [1.0]})}, {"is": "first"})
    first, about = path.read_bytes(), sidecar.read_bytes()
    write_tables({path: pd.DataFrame({"a": [2.0]})}, {"is": "second"})
    assert read_provenance(path) == {"is": "second"}
    for table, stated in [(first, sidecar.read_bytes()), (path.read_bytes(), about)]:
        path.write_bytes(table)  # as a kill between the two would leave them
        sidecar.write_bytes(stated)
        with pytest.raises(ValueError, match=r"t\.csv\.json is not of the table"):
            read_provenance(path)
        assert not is_ours(path)
    path.write_bytes(first)
    assert read_provenance(path) == {"is": "first"}
    for text in ("{}", "[1]", '{"is": "first"}'):
        sidecar.write_text(text)
        with pytest.raises(ValueError, match="is not of the table"):
            read_provenance(path)


def test_a_table_of_unknown_origin_says_so(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="does not say where it comes from"):
        read_provenance(tmp_path / "t.parquet")
    with pytest.raises(FileNotFoundError, match=r"t\.csv"):
        read_provenance(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"must end in \.parquet or \.csv"):
        write_tables({tmp_path / "t.txt": pd.DataFrame()}, {})


def test_provenance_is_json_in_the_metadata(tmp_path):
    write_tables({tmp_path / "t.parquet": pd.DataFrame({"a": [1]})}, {"ä": [1, None]})
    metadata = pq.read_schema(tmp_path / "t.parquet").metadata
    assert json.loads(metadata[b"dmf_provenance"]) == {"ä": [1, None]}


# --- outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.csv", "t.csv.json", "t.parquet", "t-trajectories.csv"])
def test_a_file_of_the_users_is_not_replaced(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "compute_chunk", None)
    (tmp_path / "spec.yml").write_text(SPEC + "trajectories: {times: [1]}\n")
    (tmp_path / name).write_text("precious")
    out = "t.parquet" if name == "t.parquet" else "t.csv"
    assert run("spec.yml", "--out", out) == 2
    told = capsys.readouterr().err
    assert f"--out {name}: is there already, and is not as dmf wrote it" in told
    assert (tmp_path / name).read_text() == "precious"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run("spec.yml", "--out", out, "--force") == 0
    assert (tmp_path / name).read_bytes() != b"precious"


def test_a_table_that_dmf_wrote_is_replaced_and_one_that_was_edited_is_not(spec, tmp_path, capsys):
    for _ in range(2):
        assert run(spec, "--out", "t.csv") == 0
    with (tmp_path / "t.csv").open("a") as file:
        file.write("a note of mine\n")
    assert run(spec, "--out", "t.csv") == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "t.csv").read_text().endswith("a note of mine\n")


def test_the_spec_is_never_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.csv").write_text(SPEC)
    for options in ([], ["--force"]):
        assert run("spec.csv", "--out", "./spec.csv", *options) == 2
        assert "is a source here, never an output" in capsys.readouterr().err
    assert (tmp_path / "spec.csv").read_text() == SPEC


def test_the_limit_of_runs_says_its_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yml").write_text("seed: [0, 1, 2]\nrank: [0, 1]\nmethod: truth")
    assert run("spec.yml", "--out", "t.csv", "--most-runs", "5", "--dry-run") == 2
    assert "asks for 6 runs, more than 5; take fewer values, or say --most-runs 6" in (
        capsys.readouterr().err
    )
    assert read_spec(tmp_path / "spec.yml", most_runs=6).runs[5] == {
        "seed": 2,
        "rank": 1,
        "method": "truth",
    }


# --- what it would take ---------------------------------------------------------------------------


def test_a_dry_run_computes_nothing_and_says_what_is_missing(spec, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "compute_chunk", None)
    assert run(spec, "--out", "t.parquet", "--dry-run") == 0
    told = capsys.readouterr().out
    assert told.startswith("11 runs in 5 chunks; 0 are finished\nprocessor time: about ")
    assert "1 process: about" in told
    assert "GiB of memory" in told
    assert [path.name for path in tmp_path.iterdir()] == [spec]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run(spec, "--out", "t.parquet") == 0
    capsys.readouterr()
    assert run(spec, "--out", "t.parquet", "--dry-run") == 0
    assert capsys.readouterr().out == "11 runs in 5 chunks; 5 are finished\n"


def test_the_estimate_is_the_time_of_the_gradients_times_their_number(monkeypatch):
    monkeypatch.setattr(cost, "least_seconds", lambda work: [work(), 8e-3][1])

    def estimate(*runs):
        return cost.estimate(chunks([complete_run(run, 0) for run in runs])).seconds

    flow = SMALL | {"depth": 2}
    assert estimate(flow) == pytest.approx(1.0)  # 8e-3 for eight, 1000 gradients
    assert estimate(*grid(**flow, seed=range(5))) == pytest.approx(5.0)
    assert estimate(flow | {"max_steps": 10}) == pytest.approx(0.06)
    assert estimate(flow | {"max_gradients": 10}) == pytest.approx(0.01)
    descent = flow | {"method": "descent", "learning_rate": 1e-2}
    assert estimate(descent) == pytest.approx(3.0)
    assert estimate(descent | {"max_steps": 100}) == pytest.approx(0.1)
    sensing = flow | {"problem": "sensing"}
    assert estimate(sensing | {"n_observed": 600}) == pytest.approx(3.0)  # timed with 200
    large = {"rows": 201, "columns": 4, "rank": 1, "n_observed": 9, "depth": 1}
    assert estimate(large) == pytest.approx(8.0)  # timed alone


def test_memory_grows_with_the_batch_and_the_measurements():
    def needed(**run):
        return cost._batch_bytes(chunks([complete_run(SMALL | run, 0)])[0])

    assert needed(depth=3) > needed(depth=2) > needed(depth=1) == 8 * 24 * 30
    assert needed(problem="sensing", n_observed=1000) > needed() + 8 * 30 * 1000


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.01, "0.1 seconds"), (42, "40 seconds"), (200, "3 minutes"), (7300, "2 hours")],
)
def test_times_have_one_digit(seconds, words):
    from dmf_utils.cli.sweep import _clock

    assert _clock(seconds) == words


def test_an_unreadable_file_is_told(tmp_path):
    path = tmp_path / "spec.yml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is not text in UTF-8"):
        read_spec(path)
