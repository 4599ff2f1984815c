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
