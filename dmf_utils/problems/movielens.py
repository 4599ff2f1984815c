r"""MovieLens 100K as a matrix completion problem."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import torch

from dmf_utils._support.checks import whole_number
from dmf_utils._support.progress import progress_bar
from dmf_utils.problems.completion import MatrixCompletion

__all__ = ["MovieLensUnavailable", "movielens"]

_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
_MD5 = "0e33842e24a9c977be4e0107933c0723"  # as GroupLens publishes it beside the archive
_MEMBER = "ml-100k/u.data"
_N_USERS, _N_MOVIES, _N_RATINGS = 943, 1682, 100_000
_SIZE_LIMIT = 50_000_000  # bytes; the archive has 5 million, the ratings 2
_TIMEOUT = 30  # seconds of silence on the line


class MovieLensUnavailable(OSError):
    """The ratings are neither on this machine nor to be had over the network."""


def movielens(
    path: str | os.PathLike[str] | None = None,
    n_users: int | None = None,
    n_movies: int | None = None,
) -> MatrixCompletion:
    r"""Ratings 1 to 5 by 943 users of 1682 movies, 100,000 of them observed, not centred.

    .. math:: \ell(W) = \frac{1}{|\Omega|} \sum_{(u, i) \in \Omega} (W_{ui} - r_{ui})^2

    The licence of the ratings does not allow to pass them on, so they do not come with this
    package. They are taken from `path`; else from where the environment variable ``DMF_DATA``
    points; else from the user's cache (``$XDG_CACHE_HOME/dmf_utils`` or ``~/.cache/dmf_utils``),
    where they are downloaded from GroupLens if missing: 5 MB, checked, and put in place whole.

    Parameters
    ----------
    path : path, optional
        The file ``u.data``, the archive ``ml-100k.zip``, or a folder with ``u.data``,
        ``ml-100k/u.data`` or ``ml-100k.zip``.
    n_users, n_movies : int, optional
        Keep the first so many rows and columns, for quick runs. Default: all.

    Returns
    -------
    MatrixCompletion
        Of shape ``(n_users, n_movies)``, mean squared error, without a ground truth. Row `u` is
        user number ``u + 1`` of the file, column `i` movie ``i + 1``.

    Raises
    ------
    MovieLensUnavailable
        If there is no data and it cannot be downloaded; the message says how to get it.
    FileNotFoundError
        If `path` or ``DMF_DATA`` points to nothing, or to a folder without the ratings.
    ValueError
        For a damaged file that was named: a wrong checksum, a malformed line, a number out of range
        (with the line), ratings missing; or `n_users`, `n_movies` out of range.

    References
    ----------
    F. M. Harper and J. A. Konstan, *The MovieLens datasets: history and context*, 2015.
    """
    n_users = _count(n_users, "n_users", _N_USERS)
    n_movies = _count(n_movies, "n_movies", _N_MOVIES)
    source = _located(path)
    rows, columns, ratings = _parsed(_content(source), str(source))
    kept = [k for k in range(len(ratings)) if rows[k] < n_users and columns[k] < n_movies]
    if not kept:
        raise ValueError(
            f"the first n_users = {n_users} users rated none of the first n_movies = {n_movies} "
            "movies; keep more of them"
        )
    return MatrixCompletion.from_entries(
        [rows[k] for k in kept],
        [columns[k] for k in kept],
        torch.tensor([ratings[k] for k in kept], dtype=torch.float64),
        (n_users, n_movies),
    )


def _count(value: int | None, name: str, limit: int) -> int:
    if value is None:
        return limit
    count = whole_number(value, name, 1)
    if count > limit:
        raise ValueError(f"{name} must be at most {limit}, got {count}")
    return count


def _located(path: str | os.PathLike[str] | None) -> Path:
    """The file to read: given, named by the environment, or in the cache after a download."""
    if path is not None:
        return _in_place(Path(path), "path")
    if os.environ.get("DMF_DATA"):
        return _in_place(Path(os.environ["DMF_DATA"]), "DMF_DATA")
    # The specification of XDG_CACHE_HOME has relative paths ignored.
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = cache if cache.is_absolute() else Path.home() / ".cache"
    archive = folder / "dmf_utils" / "ml-100k.zip"
    if not _is_whole(archive):
        _download(archive)
    return archive


def _is_whole(archive: Path) -> bool:
    """Whether what an earlier download left in the cache is there and not damaged."""
    try:
        _check_sum(archive.read_bytes(), str(archive))
    except (OSError, ValueError):
        return False
    return True


def _in_place(given: Path, name: str) -> Path:
    given = given.expanduser()
    if given.is_file():
        return given
    for inside in ("u.data", _MEMBER, "ml-100k.zip"):
        if (given / inside).is_file():
            return given / inside
    why = "has none of u.data, ml-100k/u.data, ml-100k.zip" if given.is_dir() else "does not exist"
    raise FileNotFoundError(
        f"{name} is {str(given)!r}, which {why}; name the file u.data, ml-100k.zip, or a folder "
        "with one of them"
    )


def _download(archive: Path) -> None:
    """Fetch the archive into a temporary file beside `archive`, check it, and rename it."""
    temporary = None
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=archive.parent, prefix="ml-100k.", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            with urllib.request.urlopen(_URL, timeout=_TIMEOUT) as answer:
                stated = answer.headers.get("Content-Length") or ""
                size = int(stated) if stated.isdecimal() and len(stated) < 20 else 0
                done = 0
                with progress_bar("MovieLens 100K, bytes", size) as progress:
                    while block := answer.read(1 << 16):
                        done += len(block)
                        if done > _SIZE_LIMIT:
                            raise ValueError(f"{_URL} sends more than {_SIZE_LIMIT} bytes")
                        file.write(block)
                        progress.update_to(done)
            if done < size:
                raise http.client.IncompleteRead(b"", size - done)
        _check_sum(temporary.read_bytes(), _URL)
        os.replace(temporary, archive)
    # A ValueError is a wrong checksum: a network that asks for a password answers so.
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise MovieLensUnavailable(
            f"MovieLens 100K is not on this machine, and {_URL} could not be fetched into "
            f"{archive.parent} ({error}). Download ml-100k.zip from there, and name the file or "
            "its folder by the argument path or the environment variable DMF_DATA"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _check_sum(content: bytes, source: str) -> None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != _MD5:
        raise ValueError(
            f"{source} has the MD5 checksum {found}, ml-100k.zip has {_MD5}: it is damaged or "
            "another file; remove it if it is on this machine, and get it again"
        )


def _content(source: Path) -> bytes:
    """The text of u.data, out of the archive if `source` is one."""
    content = source.read_bytes()
    if source.suffix.lower() != ".zip" and not content.startswith(b"PK\x03\x04"):
        return content
    _check_sum(content, str(source))
    with zipfile.ZipFile(source) as archive:
        return archive.read(_MEMBER)


def _parsed(content: bytes, source: str) -> tuple[list[int], list[int], list[float]]:
    """Rows, columns and ratings, from lines "user, movie, rating, time" parted by tabs."""
    rows, columns, ratings = [], [], []
    for number, line in enumerate(content.splitlines(), start=1):
        fields = line.split(b"\t")
        # isdigit: int() would also take " 1", "+1" and "1_0".
        if len(fields) != 4 or not all(field.isdigit() for field in fields):
            shown = line[:60].decode("utf-8", "replace")
            raise ValueError(
                f"{source}, line {number}: expected user, movie, rating and time, whole numbers "
                f"parted by tabs, got {shown!r}; get the file again"
            )
        user, movie, rating = (int(field) for field in fields[:3])
        for name, value, limit in (
            ("user", user, _N_USERS),
            ("movie", movie, _N_MOVIES),
            ("rating", rating, 5),
        ):
            if not 1 <= value <= limit:
                raise ValueError(
                    f"{source}, line {number}: {name} {value} is outside 1…{limit}; get the file "
                    "again"
                )
        rows.append(user - 1)
        columns.append(movie - 1)
        ratings.append(float(rating))
    distinct = len(set(zip(rows, columns, strict=True)))
    if len(ratings) != _N_RATINGS or distinct != _N_RATINGS:
        raise ValueError(
            f"{source} has {len(ratings)} ratings of {distinct} pairs of user and movie, "
            f"MovieLens 100K has {_N_RATINGS} of as many: it is truncated or another file; get it "
            "again"
        )
    return rows, columns, ratings
