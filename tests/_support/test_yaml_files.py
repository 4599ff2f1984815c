"""YAML from outside: plain values as they stand, and every refusal with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dmf_utils._support import yaml_files
from dmf_utils._support.errors import InputError
from dmf_utils._support.yaml_files import read_yaml


def read(tmp_path: Path, text: str, **options: Any) -> Any:
    (tmp_path / "x.yml").write_text(text, encoding="utf-8")
    return read_yaml(tmp_path / "x.yml", **options)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1e-3", {"a": 1e-3}),
        ("a: -2E+4", {"a": -2e4}),
        ("a: .5e1", {"a": 5.0}),
        ("a: e3", {"a": "e3"}),
        ("a: '1e-3'", {"a": "1e-3"}),
        ("[1, true, null, x]", [1, True, None, "x"]),
        ("{a: {b: 1}, c: {b: 2}}", {"a": {"b": 1}, "c": {"b": 2}}),
        ("{1: a, '1': b}", {1: "a", "1": "b"}),
        ("a: &named 3", {"a": 3}),
        ("", None),
        ("[" * 50 + "]" * 50, None),
    ],
)
def test_plain_values_are_read(tmp_path: Path, text: str, value: Any) -> None:
    found = read(tmp_path, text)
    if text.startswith("[["):
        assert isinstance(found, list)  # fifty deep is not too deep
    else:
        assert found == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' stands twice"),
        ("x:\n  - {a: 1, a: 1}", "the key 'a' stands twice"),
        ("a: &x 1\n\nb: *x", r"line 3: the alias \*x; write it out"),
        ("a: 1\nb: !!str 2", "line 2: the tag tag:yaml.org,2002:str; give plain values"),
        ("a: 1\nb: " + "[" * 51, "line 2: is nested more than 50 deep"),
        ("a: [1", "while parsing a flow sequence"),
        ("a: " + "9" * 5000, "limit"),
        ("a: 2001-13-01", "month must be in 1..12"),
        ("? [1]\n: 2", "unhashable key"),
        ("a: \x07", "characters are not allowed"),
    ],
)
def test_all_else_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, text, name="the spec")
    assert str(caught.value).startswith("the spec")
    assert "\n" not in str(caught.value)


def test_the_limit_of_size_is_that_which_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a: 1"
    monkeypatch.setattr(yaml_files, "_MOST_BYTES", len(text))
    assert read(tmp_path, text) == {"a": 1}
    with pytest.raises(InputError, match="is larger than"):
        read(tmp_path, f"{text}\n")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yml: cannot be read: No such file"):
        read_yaml(tmp_path / "none.yml")
    with pytest.raises(InputError, match="it is not a file"):
        read_yaml(tmp_path)
    (tmp_path / "x.yml").write_bytes(b"a: \xff")
    with pytest.raises(InputError, match="it is not text in UTF-8"):
        read_yaml(tmp_path / "x.yml")
