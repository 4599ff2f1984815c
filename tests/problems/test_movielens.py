"""The ratings: found, fetched, checked, refused. All but the last test's are made up."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from dmf_utils.problems import movielens as module
from dmf_utils.problems.movielens import MovieLensUnavailable, movielens

# User, movie, rating, time: six ratings stand for the hundred thousand.
LINES = ["1\t1\t5\t9", "1\t3\t3\t9", "943\t1\t4\t9", "2\t2\t1\t9", "2\t1682\t2\t9", "3\t1\t2\t9"]
DATA = ("\n".join(LINES) + "\n").encode()


def archive(data: bytes = DATA, member: str = "ml-100k/u.data") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("ml-100k/README", "made up")
        file.writestr(member, data)
    return made.getvalue()


ARCHIVE = archive()


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest):
    if "real" in request.node.name:
        return
    monkeypatch.setattr(module, "_N_RATINGS", len(LINES))
    monkeypatch.setattr(module, "_MD5", hashlib.md5(ARCHIVE).hexdigest())
    monkeypatch.setattr(module, "_URL", "http://127.0.0.1:9/ml-100k.zip")  # nobody listens there
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DMF_DATA", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class _Server(ThreadingHTTPServer):
    body, announced, status, requests = ARCHIVE, None, 200, 0


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(self.server.status)
        length = self.server.announced or len(self.server.body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(module, "_URL", f"http://127.0.0.1:{running.server_port}/ml-100k.zip")
        yield running
        running.shutdown()
        thread.join()


def cached(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())


def check_made_up(problem) -> None:
    assert problem.shape == (943, 1682)
    assert problem.n_observed == len(LINES)
    assert problem.values.dtype == torch.float64
    for user, movie, rating in ((1, 1, 5), (1, 3, 3), (943, 1, 4), (2, 2, 1), (2, 1682, 2)):
        assert problem.mask[user - 1, movie - 1]
        assert problem.values[user - 1, movie - 1] == rating
    # Mean squared error at zero: the mean square of the ratings, not centred.
    assert float(problem.loss(torch.zeros(943, 1682).double())) == pytest.approx(59 / 6, abs=1e-14)
    assert problem.ground_truth is None


@pytest.mark.parametrize("place", ["u.data", "ml-100k/u.data", "ml-100k.zip"])
@pytest.mark.parametrize("by", ["argument", "environment"])
@pytest.mark.parametrize("named", ["file", "folder"])
def test_ratings_are_found_where_they_are(
    place: str, by: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "given" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(ARCHIVE if place.endswith("zip") else DATA)
    given = file if named == "file" else tmp_path / "given"
    if by == "environment":
        monkeypatch.setenv("DMF_DATA", str(given))
    check_made_up(movielens(given if by == "argument" else None))
    assert cached(tmp_path) == []


def test_argument_goes_before_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "u.data").write_bytes(DATA)
    monkeypatch.setenv("DMF_DATA", str(tmp_path / "nothing"))
    check_made_up(movielens(tmp_path))


def test_first_users_and_movies(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_bytes(DATA)
    problem = movielens(tmp_path, n_users=2, n_movies=3)
    expected = torch.tensor([[5.0, 0.0, 3.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert torch.equal(problem.values, expected)
    assert torch.equal(problem.mask, expected > 0)
    assert movielens(tmp_path, n_users=3).shape == (3, 1682)
    assert movielens(tmp_path, n_movies=2).n_observed == 4


def test_download_is_kept_and_used_again(server: _Server, tmp_path: Path, capfd) -> None:
    check_made_up(movielens())
    assert cached(tmp_path) == ["ml-100k.zip"]
    assert "MovieLens" in capfd.readouterr().err
    check_made_up(movielens())
    assert server.requests == 1


def test_download_goes_to_the_home_folder_by_default(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    movielens()
    assert (tmp_path / ".cache" / "dmf_utils" / "ml-100k.zip").read_bytes() == ARCHIVE


def test_offline_says_how_to_get_the_data(tmp_path: Path) -> None:
    with pytest.raises(MovieLensUnavailable, match=r"Download ml-100k\.zip .* path .* DMF_DATA"):
        movielens()
    assert cached(tmp_path) == []


def test_refusing_server_counts_as_offline(server: _Server, tmp_path: Path) -> None:
    server.status = 503
    with pytest.raises(MovieLensUnavailable, match="503"):
        movielens()
    assert cached(tmp_path) == []


def test_unwritable_cache_counts_as_unavailable(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(MovieLensUnavailable, match="DMF_DATA"):
        movielens()


def test_download_cut_short_leaves_nothing(server: _Server, tmp_path: Path) -> None:
    server.body, server.announced = ARCHIVE[:-10], len(ARCHIVE)
    with pytest.raises(MovieLensUnavailable):
        movielens()
    assert cached(tmp_path) == []


def test_download_with_a_wrong_checksum_leaves_nothing(server: _Server, tmp_path: Path) -> None:
    server.body = ARCHIVE[:100] + bytes([ARCHIVE[100] ^ 1]) + ARCHIVE[101:]
    with pytest.raises(MovieLensUnavailable, match="MD5"):
        movielens()
    assert cached(tmp_path) == []


@pytest.mark.parametrize("length", [None, "", "-3", "many", "9" * 400])
def test_a_page_that_asks_for_a_password_counts_as_unavailable(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: str | None
) -> None:
    class Answer(io.BytesIO):
        headers: ClassVar[dict] = {} if length is None else {"Content-Length": length}

    page = b"<html>Welcome to the hotel's network. Your room number, please.</html>"
    monkeypatch.setattr(module.urllib.request, "urlopen", lambda *_, **__: Answer(page))
    with pytest.raises(MovieLensUnavailable, match=r"Download ml-100k\.zip from there"):
        movielens()
    assert cached(tmp_path) == []


@pytest.mark.parametrize("content", [b"", ARCHIVE[:50], b"<html>"])
def test_a_damaged_download_in_the_cache_is_fetched_anew(
    server: _Server, tmp_path: Path, capfd, content: bytes
) -> None:
    assert movielens().n_observed == len(LINES)
    path = tmp_path / "cache" / "dmf_utils" / "ml-100k.zip"
    path.write_bytes(content)
    assert movielens().n_observed == len(LINES)
    assert path.read_bytes() == ARCHIVE


def test_endless_download_is_broken_off(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SIZE_LIMIT", 50)
    with pytest.raises(MovieLensUnavailable, match="more than 50 bytes"):
        movielens()
    assert cached(tmp_path) == []


def test_download_replaces_whole_or_not_at_all(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise PermissionError("no renaming here")

    monkeypatch.setattr(module.os, "replace", fail)
    with pytest.raises(MovieLensUnavailable, match="no renaming"):
        movielens()
    assert cached(tmp_path) == []


def test_archive_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ml-100k.zip").write_bytes(archive(DATA + b"4\t4\t4\t4\n"))
    with pytest.raises(ValueError, match=r"ml-100k\.zip has the MD5 checksum"):
        movielens(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2\t2\t1", r"line 4: expected user, movie, rating and time.*'2\\t2\\t1'"),
        ("2 2 1 9", "line 4: expected"),
        ("2\t2\tx\t9", "line 4: expected"),
        ("2\t2\t-1\t9", "line 4: expected"),
        ("2\t2\t1.5\t9", "line 4: expected"),
        ("", "line 4: expected"),
        ("944\t2\t1\t9", r"line 4: user 944 is outside 1…943"),
        ("0\t2\t1\t9", "line 4: user 0"),
        ("2\t1683\t1\t9", r"line 4: movie 1683 is outside 1…1682"),
        ("2\t0\t1\t9", "line 4: movie 0"),
        ("2\t2\t6\t9", r"line 4: rating 6 is outside 1…5"),
        ("2\t2\t0\t9", "line 4: rating 0"),
    ],
)
def test_damaged_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("\n".join([*LINES[:3], line, *LINES[4:]]), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        movielens(tmp_path)


@pytest.mark.parametrize("lines", [LINES[:-1], [*LINES, "4\t4\t4\t4"], [*LINES[:-1], LINES[0]], []])
def test_ratings_missing_or_repeated_are_refused(lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"u.data has {len(lines)} ratings"):
        movielens(tmp_path)


@pytest.mark.parametrize("by", ["path", "DMF_DATA"])
def test_data_that_is_not_there(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, why in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "has none of u.data")):
        monkeypatch.setenv("DMF_DATA", str(given))
        with pytest.raises(FileNotFoundError, match=f"{by} is .*{why}"):
            movielens(given if by == "path" else None)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_users": 0}, ValueError, "n_users must be at least 1, got 0"),
        ({"n_users": 944}, ValueError, "n_users must be at most 943, got 944"),
        ({"n_movies": 1683}, ValueError, "n_movies must be at most 1682, got 1683"),
        ({"n_movies": 2.5}, TypeError, "n_movies must be a whole number"),
    ],
)
def test_bad_sizes_are_refused_before_looking(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        movielens("/nowhere/at/all", **arguments)


def test_no_rating_left_is_refused(tmp_path: Path) -> None:
    lines = [*LINES[1:], "4\t4\t4\t4"]
    (tmp_path / "u.data").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="rated none of the first n_movies = 1 movies"):
        movielens(tmp_path, n_users=1, n_movies=1)


@pytest.mark.skipif(
    not os.environ.get("DMF_DATA"), reason="DMF_DATA does not name the MovieLens 100K ratings"
)
def test_real_ratings() -> None:
    problem = movielens()
    assert problem.shape == (943, 1682)
    assert problem.n_observed == 100_000
    observed = problem.values[problem.mask]
    # The distribution of the ratings that GroupLens publishes: 6110, 11370, 27145, 34174, 21201.
    counts = [int((observed == rating).sum()) for rating in range(1, 6)]
    assert counts == [6110, 11370, 27145, 34174, 21201]
    assert problem.mask.any(0).all()
    assert problem.mask.any(1).all()
    quick = movielens(n_users=50, n_movies=80)
    assert torch.equal(quick.values, problem.values[:50, :80])
