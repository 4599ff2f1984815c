"""One entry with two values is refused, whichever is larger and wherever it stands."""

import pytest

from dmf_utils.user_data import read_matrix


@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("2", "1"), ("-1", "1"), ("0", "-0.5")])
def test_two_values_of_one_entry_are_refused_in_both_orders(tmp_path, first, second):
    path = tmp_path / "x.csv"
    path.write_text(f"row,column,value\na,b,{first}\nc,d,9\na,b,{second}\n")
    said = rf"several values .*{first} in line 2, {second} in line 4"
    with pytest.raises(ValueError, match=said):
        read_matrix(path)


def test_the_same_value_twice_is_counted_once(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("row,column,value\na,b,1\na,b,1.0\nc,b,2\nc,d,3\n")
    found = read_matrix(path)
    assert found.values.tolist() == [1.0, 2.0, 3.0]
    assert "line 3: given before with the same value" in found.remarks[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [("7", "7.0"), ("7", "07"), ("7", "+7"), (".5", "0.50"), ("ann", "Ann"), ("a  b", "a b")],
)
@pytest.mark.parametrize("axis", ["row", "column"])
def test_names_that_differ_only_in_how_they_are_written_are_remarked(tmp_path, one, other, axis):
    path = tmp_path / "x.csv"
    entries = [(one, "x", 1), (other, "y", 2), (one, "z", 3), ("b", "y", 4), (other, "x", 5)]
    lines = [(a, b, v) if axis == "row" else (b, a, v) for a, b, v in entries]
    path.write_text("\n".join(["row,column,value", *(f"{a},{b},{v}" for a, b, v in lines)]))
    found = read_matrix(path)
    assert len(found.rows if axis == "row" else found.columns) == 3
    (remark,) = found.remarks
    assert f"2 names differ only in how they are written ({one!r} and {other!r})" in remark


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[("7", "8"), ("7", "70"), ("7", "-7"), ("1.5", "1"), ("ann", "anne"), ("a b", "ab")],
        *[("9007199254740992", "9007199254740993"), ("0x7", "7"), ("1e1", "10")],
    ],
)
def test_other_names_are_not(tmp_path, one, other):
    path = tmp_path / "x.csv"
    path.write_text(f"row,column,value\n{one},x,1\n{other},y,2\n{one},z,3\n{other},x,4\n")
    assert read_matrix(path).remarks == ()


def test_names_of_a_wide_file_are_compared_too(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,a,b,A\n1,1,2,\n01,,3,4\n2,5,,6\n")
    assert sum("differ only" in remark for remark in read_matrix(path).remarks) == 2
