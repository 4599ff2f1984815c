"""What the report and the written matrix say, and that names in them are nothing but text."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmf_utils.user_data.completion import Completion, complete
from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.reading import read_matrix
from dmf_utils.user_data.report import as_html, as_text, digest_in, is_unchanged, verdict, words
from dmf_utils.user_data.writing import completed_ending, write_completed

NASTY = '<script>alert("1")</script>'


class _Page(HTMLParser):
    """What a page shows, and everything in it that could ask for another file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.alternatives: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attributes:
            if key in ("src", "href", "xlink:href"):
                self.references.append(str(value))
            if key == "alt":
                self.alternatives.append(str(value))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Completion:
    """Two groups of rows that share nothing, and names that are markup and formulas."""
    rng = np.random.default_rng(0)
    table = np.outer(rng.uniform(1, 2, 16), rng.uniform(1, 3, 12)) + 0.1 * rng.normal(size=(16, 12))
    lines = [
        f"{NASTY}{i},=b&{j}$x_$,{table[i, j]:.3f}"
        for i in range(16)
        for j in range(12)
        if (i < 9) == (j < 7) and rng.random() < 0.85
    ]
    path = tmp_path_factory.mktemp("report") / "own.csv"
    path.write_text("\n".join([f"{NASTY},<b>,<i>", *lines, lines[0]]), encoding="utf-8")
    data = read_matrix(path, columns=("1", "2", "3"))
    return complete(data, (2,), center="both", until_loss=1e-3)


def test_the_report_shows_the_numbers_and_escapes_all_names(found: Completion) -> None:
    html = as_html(found, f"{NASTY}.csv", {"Made": "<today>"})
    page = _Page(html)
    assert not {"script", "link", "iframe", "object", "b", "i"} & set(page.tags)
    assert all(one.startswith("data:image/svg+xml;base64,") for one in page.references)
    assert "url(" not in html
    assert "@import" not in html
    assert page.tags.count("img") == len(page.alternatives) == 6
    for said in (f"{NASTY}.csv", "<today>", "given before with the same value"):
        assert said in page.text
    assert found.column_errors.index[0].startswith("=b&")
    assert found.column_errors.index[0] in page.text
    assert "determined by nothing that is observed" in page.text
    shown = as_text(found)
    for value in found.table.error:
        assert words(value) in page.text
        assert words(value) in shown
    assert found.disagreements.iloc[0, 0] in page.text
    assert page.text.count("Completion of") == 2


def test_a_changed_report_is_the_users(found: Completion, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(as_html(found, "own.csv", {}, "ab" * 32), encoding="utf-8")
    assert is_unchanged(path)
    assert digest_in(path) == "ab" * 32
    path.write_text(path.read_text(encoding="utf-8") + "<!-- mine -->", encoding="utf-8")
    assert not is_unchanged(path)
    path.write_bytes(b"\xff")
    assert not is_unchanged(path)
    assert not is_unchanged(tmp_path / "none.html")


def test_the_verdict_names_a_difference_only_beyond_chance(found: Completion) -> None:
    def said(flow: float, other: float, method: str = "biases + depth 2") -> str:
        table = found.table.copy()
        table.loc[["mean", "biases"], "error"] = 9.0
        table.loc["biases + depth 2", ["error", "spread"]] = flow, 0.3
        table.loc["biases + nuclear norm penalty", ["error", "spread"]] = other, 0.4
        return verdict(dataclasses.replace(found, table=table, method=method))

    # Twice the root of 0.3² + 0.4² is 1.
    assert "is smaller than that of the best other method" in said(1.0, 2.01)
    assert "do not differ by more than twice the standard error" in said(1.0, 1.99)
    assert "is larger than that" in said(4.0, 2.0)
    assert "least error is that of biases + nuclear norm penalty: 2." in said(4.0, 2.0)
    assert "do not use" not in said(4.0, 2.0)
    assert "no better than the mean: do not use the completion" in said(9.0, 2.0)
    assert "do not use the completion" in said(4.0, 2.0, "mean")


def test_few_test_entries_say_nothing_for_sure(found: Completion) -> None:
    def of(count: int) -> str:
        split = dataclasses.replace(found.split, test=found.split.test[:count])
        return verdict(dataclasses.replace(found, split=split))

    assert "With 4 test entries nothing can be said for sure" in of(4)
    assert "than that of the best other" not in of(4)
    assert "for sure" not in of(5)


def test_triplets_are_written_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text('user,item,rating\n5,"a,b",1\n2,é,2\n5,é,3.25\n', encoding="utf-8")
    data = read_matrix(path)
    matrix = np.array([[np.nan, 2.0], [1.0, 3.25]])
    assert write_completed(data, matrix, tmp_path / "out.csv") == ()
    text = (tmp_path / "out.csv").read_text(encoding="utf-8")
    assert text == 'user,item,rating,observed\n2,"a,b",,0\n2,é,2.0,1\n5,"a,b",1.0,1\n5,é,3.25,1\n'
    write_completed(data, matrix, tmp_path / "out.tsv")
    lines = (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "2\ta,b\t\t0"
    write_completed(data, matrix, tmp_path / "out.parquet")
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert list(frame.columns) == ["user", "item", "rating", "observed"]
    assert frame.observed.tolist() == [False, True, True, True]


def test_a_wide_table_is_written_as_one(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(",=a,b\nx,1,\n-2,,3\ny,4,5\n", encoding="utf-8")
    data = read_matrix(path)
    (said,) = write_completed(data, np.array([[1.0, 2], [0.5, 3], [4, 5]]), tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text(encoding="utf-8")
    assert text == ",'=a,b\nx,1.0,2.0\n-2,0.5,3.0\ny,4.0,5.0\n"
    assert "1 names, such as '=a', stand behind an apostrophe" in said


def test_an_array_is_written_in_its_full_shape(tmp_path: Path) -> None:
    data = ObservedMatrix.from_array([[1.0, np.nan, 2.0], [np.nan] * 3, [1.0, np.nan, np.nan]])
    write_completed(data, np.array([[1.0, 2.0], [1.0, 3.0]]), tmp_path / "out.npy")
    expected = [[1.0, np.nan, 2.0], [np.nan] * 3, [1.0, np.nan, 3.0]]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    with pytest.raises(ValueError, match=r"must have shape \(2, 2\), got \(2, 3\)"):
        write_completed(data, np.ones((2, 3)), tmp_path / "out.npy")
    with pytest.raises(ValueError, match="path must end in"):
        write_completed(data, np.ones((2, 2)), tmp_path / "out.txt")


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("u.data", ".csv"),
        ("a.TSV", ".tsv"),
        ("a.npz", ".npy"),
        ("a.mtx", ".npy"),
        ("a.pq", ".parquet"),
    ],
)
def test_the_form_of_the_output_is_that_of_the_input(name: str, ending: str) -> None:
    assert completed_ending(Path(name)) == ending
