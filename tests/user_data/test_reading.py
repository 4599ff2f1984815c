"""What files people have, how they are read, and that nothing is guessed without a word."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse

from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.reading import read_matrix
from dmf_utils.user_data.text import MatrixFileError

RATINGS = {("1", "10"): 5.0, ("1", "11"): 3.0, ("2", "10"): 4.0}


@pytest.fixture
def write(tmp_path: Path):
    def write_file(content: str | bytes, name: str = "own.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def entries(data: ObservedMatrix) -> dict[tuple[str, str], float]:
    places = zip(data.row_index, data.column_index, data.values, strict=True)
    return {(data.rows[i], data.columns[j]): float(y) for i, j, y in places}


def as_bytes(write_to, *arguments) -> bytes:
    file = io.BytesIO()
    write_to(file, *arguments)
    return file.getvalue()


STRUCTURED = np.array(
    [(1, 10, 5.0), (1, 11, 3.0), (2, 10, 4.0)],
    dtype=[("user", "i4"), ("item", "i4"), ("rating", "f8")],
)
FRAME = pd.DataFrame({"movieId": [10, 11, 10], "userId": [1, 1, 2], "rating": [5.0, 3.0, 4.0]})


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("row,column,value\n1,10,5\n1,11,3\n2,10,4\n", "own.csv"),
        ("user,item,timestamp,rating\n1,10,97,5\n1,11,98,3\n2,10,99,4\n", "own.csv"),
        ("item,rating,user\n10,5,1\n11,3,1\n10,4,2\n", "own.csv"),
        ("keyword,rating,user\n10,5,1\n11,3,1\n10,4,2\n", "own.csv"),
        (",user,item,rating\n0,1,10,5\n1,1,11,3\n2,2,10,4\n", "own.csv"),
        ("Unnamed: 0,User ID,Movie-Id,Score\n0,1,10,5\n1,1,11,3\n2,2,10,4\n", "own.csv"),
        ("user;item;rating\n1;10;5,0\n1;11;3\n2;10;4,00\n", "own.csv"),
        ("1;10;5,0\n1;11;3,0\n2;10;4,0\n", "own.csv"),
        ("user\titem\trating\n1\t10\t5,0\n1\t11\t3\n2\t10\t4\n", "own.tsv"),
        ('user,item,rating\r\n"1",10,"5,0"\r\n1,11,"3,0"\r\n2,10,"4,0"\r\n', "own.csv"),
        ("1::10::5::978300760\n1::11::3::978302109\n2::10::4::978301968\n", "ratings.dat"),
        ("1\t10\t5\t881250949\n1\t11\t3\t891717742\n2\t10\t4\t878887116\n", "u.data"),
        ("1 10 5\n1 11 3\n2 10 4\n", "ratings.txt"),
        ("1  10   5\n\n1 11 3\n2 10 4", "ratings"),
        ("user|item|rating\n1|10|5\n1|11|3\n2|10|4\n", "own.txt"),
        ("1,10,5\n1,11,3\n2,10,4\n", "own.csv"),
        ("\ufeffuser,item,rating\n1,10,5\n1,11,3\n2,10,4\n", "own.csv"),
        ("user,item,rating\n1,10,5\n1,11,3\n2,10,4\n".encode("utf-16"), "own.csv"),
        ("user,item,rating,\n1,10,5,\n1,11,3,\n2,10,4,\n", "own.csv"),
        ("user,item,rating\n1,10,5\n1,11,3\n2,10,4\n2,11,NA\n", "own.csv"),
        (",10,11\n1,5,3\n2,4,\n", "wide.csv"),
        ("user,10,11\n1,5,3\n2,4,?\n", "wide.csv"),
        ("10;11\n1;5,0;3\n2;4;NaN\n", "wide.csv"),
        (as_bytes(np.save, STRUCTURED), "own.npy"),
        (as_bytes(FRAME.to_parquet), "own.parquet"),
    ],
)
def test_the_same_ratings_in_the_forms_people_have(write, content, name: str) -> None:
    assert entries(read_matrix(write(content, name))) == RATINGS


def test_arrays_and_sparse_matrices(tmp_path: Path) -> None:
    dense = np.array([[5.0, 3.0, np.nan], [np.nan] * 3, [4.0, np.nan, np.nan]])
    i, j = np.nonzero(~np.isnan(dense))
    sparse = scipy.sparse.coo_array((dense[i, j], (i, j)), shape=dense.shape)
    expected = {("0", "0"): 5.0, ("0", "1"): 3.0, ("2", "0"): 4.0}
    np.save(tmp_path / "a.npy", dense)
    np.savez(tmp_path / "b.npz", data=np.nan_to_num(dense), mask=np.isnan(dense))
    np.savez(tmp_path / "c.npz", dense)
    scipy.sparse.save_npz(tmp_path / "d.npz", sparse.tocsr())
    scipy.io.mmwrite(tmp_path / "e.mtx", sparse)
    for path in sorted(tmp_path.iterdir()):
        data = read_matrix(path)
        assert entries(data) == expected, path.name
        assert data.full_shape == (3, 3)
        assert any("row 1 (from 0) without an observed entry" in r for r in data.remarks)
    masked = np.ma.MaskedArray(np.nan_to_num(dense), np.isnan(dense))
    assert entries(ObservedMatrix.from_array(masked)) == expected
    zero = scipy.sparse.coo_array(([0.0, 3.0, 4.0], ([0, 0, 2], [0, 1, 0])), shape=(3, 3))
    scipy.sparse.save_npz(tmp_path / "f.npz", zero)
    assert entries(read_matrix(tmp_path / "f.npz", missing=()))["0", "0"] == 0.0


def test_which_columns_were_used_is_said(write) -> None:
    text = "user,item,timestamp,rating\n1,10,97,5\n1,11,98,3\n2,10,99,4\n"
    (said,) = read_matrix(write(text)).remarks
    assert "column 1 (user), column from column 2 (item), value from column 4 (rating)" in said
    chosen = read_matrix(write(text), columns=("item", "1", "timestamp"))
    assert entries(chosen)["10", "1"] == 97.0
    assert chosen.names == ("item", "user", "timestamp")
    unknown = read_matrix(write("abc,def,ghi\n1,a,3\n1,b,2\n2,a,1\n"))
    assert "row from column 1 (abc)" in unknown.remarks[0]


def test_a_wide_table_has_its_names(write) -> None:
    data = read_matrix(write("patient,age,weight,sex\nann,30,,0\nbob,,81.5,1\ncid,50,70,-\n"))
    assert (data.kind, data.rows) == ("wide", ("ann", "bob", "cid"))
    assert data.columns == ("age", "weight", "sex")
    bare = read_matrix(write("1.5 2 nan 4\n2 nan 3 5\n", "x.txt"))
    assert (bare.kind, bare.rows, bare.columns) == ("wide", ("0", "1"), ("0", "1", "2", "3"))
    empty = read_matrix(write(",a,b,c\nx,1,,2\ny,,,\nz,3,,\n"))
    assert (empty.rows, empty.columns) == (("x", "z"), ("a", "c"))
    assert any("row y without an observed entry" in remark for remark in empty.remarks)


def test_whole_numbers_are_ordered_as_numbers_and_words_as_they_come(write) -> None:
    data = read_matrix(write("user,item,rating\n10,z,1\n9,a,2\n-3,m,3\n"))
    assert (data.rows, data.columns) == (("-3", "9", "10"), ("z", "a", "m"))


def test_latin_1_is_read_and_said(write) -> None:
    data = read_matrix(write("user,item,rating\nJosé,a,3\nJosé,b,2\nAna,a,1\n".encode("latin-1")))
    assert data.rows == ("José", "Ana")
    assert "line 2: is not UTF-8" in data.remarks[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("user,item,rating\n1,a,3,5\n1,b,2\n2,a,1\n", "line 2: has 4 fields .* most lines have 3"),
        ("user,item,rating\n1,a,3\n1,b\n2,a,1\n", "line 3: has 2 fields"),
        ("user,item,rating\n3,a,one\n", "line 2: the rating 'one' is not a number"),
        ("user,item,rating\n3,a,1_0\n", "line 2: the rating '1_0' is not a number"),
        ("user,item,rating\n\n3,a,1\n4,b,inf\n", "line 4: the rating 'inf' is not finite"),
        ("user,item,rating\n3,a,1e999\n", "line 2: the rating '1e999' is not finite"),
        ("user,item,rating\n3,,1\n", "line 2: the item is empty"),
        ("user;item;rating\n1;a;3,5\n1;b;2.5\n2;a;1\n", "line 2: .*comma, others have a point"),
        ("user;item;rating\n1;a;3,500\n1;b;2,500\n2;a;1,250\n", "line 2: .*parts thousands or"),
        ('user,item,rating\n3,a,1\n3,"b,1\n', "line 3: cannot be read"),
        (b"user,item,rating\n3,a,\x00\n", "line 2: has a zero byte"),
        (b"PK\x03\x04rest", "is a zip archive; unpack it"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("user,item,rating\n", "has a header and no entries"),
        ("user,item,rating\n1,1,1\n1,2,2\n", "one row only"),
        ("user,item,rating\n1,1,1\n2,2,2\n1,2,1\n2,1,3\n", "all 2 × 2 entries are observed"),
        (
            "height,weight,age\n1.7,80,\n1.8,,30\n1.7,70,20\n",
            "cannot tell whether this is a matrix",
        ),
        ("a,b,c,d\nx,1,y,2\nz,3,w,4\n", "cannot tell which columns"),
        ("land,2001,2002,2003\nFR,1,,4\nDE,,2,3\n", "line 1: cannot tell whether this line names"),
        ("land,2001,2002\nFR,1,\nDE,,2\n", "line 1: cannot tell whether this line names"),
        ("1,?,3\n?,2,1\n4,5,?\n", "line 2: the row is '\\?' among numbers; .*--layout wide"),
        ("1,2,3\n2,NA,1\n4,5,2\n", "line 2: the column is 'NA' among numbers"),
        ("userId,item,rating\n1,a,3\nnan,a,1\n", "line 3: the userId is 'nan' among numbers"),
        (",a,a,b\nx,1,,2\ny,,3,4\n", "1 column name stands more than once, such as 'a'"),
        (",a,b,c,d\nx,1,,2,3\ny,,b,3,4\n", "line 3: 'b' in column 3 is neither a number nor"),
    ],
)
def test_what_is_not_in_order_is_refused_with_the_line(write, content, words: str) -> None:
    layout = "wide" if "neither" in words else "auto"
    with pytest.raises(MatrixFileError, match=words):
        read_matrix(write(content), layout=layout)


def test_columns_that_are_not_there_are_refused(write) -> None:
    path = write("user,item,rating\n1,10,5\n1,11,3\n2,10,4\n")
    for columns, words in (
        (("user", "film", "rating"), "has no column 'film'; there are user, item, rating"),
        (("user", "user", "rating"), "must be three different"),
        (("user", "item"), "must name row, column and value"),
        (("1", "2", "4"), "has no column '4'"),
    ):
        with pytest.raises(MatrixFileError, match=words):
            read_matrix(path, columns=columns)


@pytest.mark.parametrize("mark", [0, -1, 99, -999])
def test_a_mark_for_what_is_missing_is_asked_about(write, mark: int) -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(1, 6, (8, 6))
    table[rng.random((8, 6)) < 0.3] = mark
    lines = [f"{i},{j},{table[i, j]}" for i in range(8) for j in range(6)]
    path = write("\n".join(["user,item,rating", *lines]))
    times = int((table == mark).sum())
    with pytest.raises(
        MatrixFileError, match=rf"there is {mark} \({times} times\).*--missing none"
    ):
        read_matrix(path)
    data = read_matrix(path, missing=[mark])
    assert data.n_observed == 48 - times
    assert any(f"{times} entries with the value {mark}" in remark for remark in data.remarks)
    with pytest.raises(MatrixFileError, match="all 8 × 6 entries are observed"):
        read_matrix(path, missing=())


@pytest.mark.parametrize("mark", [-99999, 9999999, -32768, -2147483648])
def test_longer_marks_are_asked_about_in_all_their_digits(write, mark: int) -> None:
    lines = [f"{i},{j},{mark if i == j else 10 + i / (j + 1)}" for i in range(6) for j in range(6)]
    path = write("\n".join(["station,item,value", *lines]))
    with pytest.raises(MatrixFileError, match=rf"there is {mark} \(6 times\).*--missing={mark}$"):
        read_matrix(path)
    assert read_matrix(path, missing=[mark]).n_observed == 30


def test_words_that_mark_nothing_may_be_names_among_words(write) -> None:
    data = read_matrix(write("country,item,value\nNA,a,1\nNA,b,2\nDE,a,3\n"))
    assert data.rows == ("NA", "DE")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_delimiter_that_the_first_line_says(write, end: str) -> None:
    lines = ["sep=;", "user;item;rating", "a;x,y;1,5", "a;z;2", "b;z;3"]
    data = read_matrix(write(end.join(lines)))
    assert entries(data) == {("a", "x,y"): 1.5, ("a", "z"): 2.0, ("b", "z"): 3.0}
    with pytest.raises(MatrixFileError, match="line 4: the rating 'two' is not a number"):
        read_matrix(write(end.join(lines).replace("z;2", "z;two")))


def test_names_of_bytes_are_text_and_numbers_too_long_are_refused(tmp_path: Path) -> None:
    kinds = [("user", "S3"), ("item", "S3"), ("rating", "f8")]
    ratings = [("é".encode(), b"x", 4.0), (b"b", b"x", 1.0), (b"b", b"y", 2.0)]
    np.save(tmp_path / "own.npy", np.array(ratings, dtype=kinds))
    assert read_matrix(tmp_path / "own.npy").rows == ("é", "b")
    if np.finfo(np.longdouble).max > np.finfo(float).max:
        long = np.array([[1, np.nan], [2, np.longdouble("1e400")]], dtype=np.longdouble)
        with pytest.raises(MatrixFileError, match=r"row 1, column 1 .* infinite"):
            ObservedMatrix.from_array(long)


def test_a_scale_around_zero_is_not_asked_about(write) -> None:
    rng = np.random.default_rng(0)
    for values in (rng.integers(-10, 11, 40), rng.integers(0, 2, 40), rng.normal(size=40)):
        lines = [f"u{k % 8},{k // 8},{value}" for k, value in enumerate(values.tolist())][:-2]
        assert read_matrix(write("\n".join(["user,item,rating", *lines]))).n_observed == 38
    jester = [f"u{k % 8},{k // 8},{value:.2f}" for k, value in enumerate(rng.uniform(-10, 10, 38))]
    with pytest.raises(MatrixFileError, match=r"99 \(1 times\)"):
        read_matrix(write("\n".join(["user,item,rating", *jester, "u7,4,99"])))


def test_a_mark_in_one_column_of_a_wide_table_is_asked_about(write) -> None:
    rng = np.random.default_rng(0)
    lines = [f"p{k},{20 + k},{1e5 * rng.random():.0f},{rng.integers(2)}" for k in range(12)]
    lines[3], lines[5] = "p3,-999,40000,1", "p5,30,,0"
    with pytest.raises(MatrixFileError, match=r"-999 \(1 times\)"):
        read_matrix(write("\n".join(["patient,age,income,smokes", *lines])))


def test_entries_given_several_times(write) -> None:
    same = write("user,item,rating\n1,a,3\n1,b,2\n2,a,1\n1,a,3.0\n1,a,3\n")
    (said,) = read_matrix(same).remarks
    assert said == "own.csv, lines 5, 6: given before with the same value, counted once"
    path = write("user,item,rating\n1,a,3\n1,b,2\n1,a,4\n2,a,1\n2,a,4\n1,a,5\n")
    with pytest.raises(MatrixFileError) as refused:
        read_matrix(path)
    assert "2 entries have several values" in str(refused.value)
    assert "'1', 'a': 3 in line 2, 4 in line 4, 5 in line 7" in str(refused.value)
    assert "'2', 'a': 1 in line 5, 4 in line 6" in str(refused.value)
    for how, expected in (("last", (5.0, 4.0)), ("mean", (4.0, 2.5))):
        data = read_matrix(path, duplicates=how)
        found = entries(data)
        assert (found["1", "a"], found["2", "a"]) == pytest.approx(expected)
        assert found["1", "b"] == 2.0
        assert f"of which the {how} is taken" in data.remarks[0]


def test_files_that_are_none_are_refused(tmp_path: Path, write) -> None:
    np.save(tmp_path / "objects.npy", np.array([[1, None]], dtype=object), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.array([[1j, 2]]))
    np.save(tmp_path / "cube.npy", np.ones((2, 2, 2)))
    np.save(tmp_path / "infinite.npy", [[1.0, np.inf], [np.nan, 1.0]])
    np.savez(tmp_path / "two.npz", a=np.ones(2), b=np.ones(2))
    pattern = b"%%MatrixMarket matrix coordinate pattern general\n2 2 1\n1 1\n"
    twice = b"%%MatrixMarket matrix coordinate real general\n2 2 3\n1 1 1\n1 1 2\n2 2 3\n"
    for path, words in (
        (tmp_path, "is a folder; name a file in it"),
        (tmp_path / "none.csv", "there is no such file"),
        (write("x", "own.xlsx"), "is a spreadsheet; save it as"),
        (write("x", "own.npy"), "is not an array of numbers"),
        (write("x", "own.parquet"), "is not a Parquet file"),
        (write("x", "own.mtx"), "cannot be read as .mtx"),
        (write(pattern, "pattern.mtx"), "has places without values"),
        (write(twice, "twice.mtx"), "is stored more than once"),
        (tmp_path / "objects.npy", "is not an array of numbers"),
        (tmp_path / "complex.npy", "must hold real numbers, got dtype complex128"),
        (tmp_path / "cube.npy", "must be a matrix, got shape"),
        (tmp_path / "infinite.npy", "row 0, column 1 .from 0. is infinite"),
        (tmp_path / "two.npz", "must hold one array.* it has a, b"),
    ):
        with pytest.raises(MatrixFileError, match=words):
            read_matrix(path)


BODY = "a,x,1\nb,y,2\na,z,3\nb,x,4\n"


@pytest.mark.parametrize(
    ("head", "names", "count"),
    [
        ("# ratings of 2019\n# who, what, how much, and when\nuser,item,rating\n", "user", 2),
        ("#user,item,rating\n", "user", 0),
        ("# made by hand\r\n\r\n# user,item,rating\r\n", "user", 1),
        ("#\n", "row", 1),
    ],
)
def test_lines_with_a_sharp_before_the_first_are_comments_or_names(tmp_path, head, names, count):
    path = tmp_path / "x.csv"
    path.write_text(head + BODY)
    found = read_matrix(path)
    assert (found.shape, found.n_observed, found.names[0]) == ((2, 3), 4, names)
    assert [r for r in found.remarks if "#" in r] == (
        [f"x.csv: {count} line{'s' * (count > 1)} before the first with #: taken as a comment"]
        if count
        else []
    )


@pytest.mark.parametrize("text", ["#1,x,1\n#2,y,2\nc,x,4\n", "#1,x,1\n#2,y,2\n#3,x,4\n"])
def test_names_that_begin_with_a_sharp_are_names(tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(text)
    found = read_matrix(path)
    assert found.rows[:2] == ("#1", "#2")
    assert found.n_observed == 3


def test_an_error_below_comments_counts_their_lines(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("# one\n# two\nuser,item,rating\na,x,1\nb,y,two\n")
    with pytest.raises(ValueError, match="line 5: the rating 'two'"):
        read_matrix(path)
