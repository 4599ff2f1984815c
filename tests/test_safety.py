"""No code of ours runs what it reads: no pickles, no shell, no archive that leaves its folder."""

import ast
import zipfile
from pathlib import Path

import pytest

import dmf_utils
from dmf_utils.problems import movielens as movielens_module
from dmf_utils.problems.movielens import movielens

FILES = sorted(Path(dmf_utils.__file__).parent.rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
CALLS = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "tempfile.mktemp",
    "torch.load",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
}
BUILTINS = {"eval", "exec", "compile"}
METHODS = {"extract", "extractall", "read_pickle", "to_pickle", "unpack_archive"}
LOADERS = {"Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader", "CUnsafeLoader"}


def found_in(text):
    """What a module does that ours must not."""
    tree = ast.parse(text)
    names = {}  # what a name of this module means elsewhere
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(a.asname or a.name.split(".")[0]): a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {(a.asname or a.name): f"{node.module}.{a.name}" for a in node.names}
    wrong = [name for name in names.values() if name.split(".")[0] in MODULES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            first, *rest = called.split(".")
            meant = ".".join([names.get(first, first), *rest])
            if meant in CALLS or meant in BUILTINS or (rest and rest[-1] in METHODS):
                wrong.append(meant)
            for keyword in node.keywords:
                if keyword.arg in ("shell", "allow_pickle") and not (
                    isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                ):
                    wrong.append(f"{meant}({keyword.arg})")
        if isinstance(node, ast.Attribute) and node.attr in LOADERS:
            wrong.append(ast.unparse(node))
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_module_runs_what_it_reads(path):
    assert found_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib as j",
        "import os\nos.system(name)",
        "from os import system as run\nrun(name)",
        "import subprocess as s\ns.run(name, shell=True)",
        "import subprocess\nsubprocess.Popen(name, shell=flag)",
        "import subprocess\nsubprocess.getoutput(name)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy\nnumpy.load(path, allow_pickle=flag)",
        "import torch\ntorch.load(path)",
        "from torch import load\nload(path)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nclass L(yaml.UnsafeLoader): pass",
        "import pandas as pd\npd.read_pickle(path)",
        "import zipfile\nzipfile.ZipFile(path).extractall()",
        "def f(text):\n    return eval(text)",
    ],
)
def test_what_is_planted_is_found(planted):
    assert found_in(planted) != []


def test_what_is_harmless_is_passed():
    assert found_in("import numpy as np\nnp.load(path, allow_pickle=False)\nnp.load(path)") == []
    assert found_in("import yaml\nyaml.safe_load(text)") == []
    assert found_in("import re\nre.compile(text)\nimport subprocess\nsubprocess.run([name])") == []


def test_files_are_those_of_the_package():
    assert {"table", "movielens", "main", "chunk_store"} <= {path.stem for path in FILES}


def link(name):
    """An entry of an archive that is a symbolic link."""
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    return entry


@pytest.mark.parametrize("trusted", [False, True])
def test_an_archive_that_reaches_out_is_neither_followed_nor_unpacked(
    tmp_path, monkeypatch, trusted
):
    secret = tmp_path / "secret"
    secret.write_text("1\t1\t5\t0\n")
    path = tmp_path / "here" / "ml-100k.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link("ml-100k/u.data"), "../../secret")
        archive.writestr("../outside", "planted")
        archive.writestr(str(tmp_path / "absolute"), "planted")
    if trusted:  # even if its checksum were right
        monkeypatch.setattr(movielens_module, "_check_sum", lambda *_: None)
    # What the link holds is taken for the ratings themselves; its target is not read.
    message = r"line 1: expected user.*got '\.\./\.\./secret'" if trusted else "MD5 checksum"
    with pytest.raises(ValueError, match=message):
        movielens(path)
    names = {one.relative_to(tmp_path).as_posix() for one in tmp_path.rglob("*")}
    assert names == {"secret", "here", "here/ml-100k.zip"}
