"""The report on a matrix of one's own: one HTML page that needs no other file."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from dmf_utils.user_data.charts import charts
from dmf_utils.user_data.completion import Completion

__all__ = ["as_html", "as_text", "digest_in", "is_unchanged", "verdict", "words"]

_HEADS = {
    "error": "test error",
    "spread": "± standard error",
    "validation": "validation error",
    "residual": "residual on fitted",
    "effective_rank": "effective rank",
    "gradients": "gradients",
}
_MOST_ROWS = 15
_FEW = 5  # test entries, below which a standard error says nothing
_MARK = re.compile(r'<meta name="dmf" content="([0-9a-f]{64}) ([0-9a-f]{64})">')


def words(number: float) -> str:
    """A number in three figures, as a person writes it."""
    if number == 0 or not math.isfinite(number):
        return "" if math.isnan(number) else f"{number:g}"
    return f"{number:.3g}" if 1e-3 <= abs(number) < 1e5 else f"{number:.2e}"


def _rows(found: Completion) -> list[list[str]]:
    """The table in words, a head and a row for each method."""
    rows = [["method", *_HEADS.values(), "chosen"]]
    for name, row in found.table.iterrows():
        numbers = [words(float(row[column])) for column in list(_HEADS)[:-1]]
        gradients = str(row.gradients) if row.gradients else ""
        rows.append([str(name), *numbers, gradients, str(row.end)])
    return rows


def as_text(found: Completion) -> str:
    """The table for a terminal."""
    rows = _rows(found)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        middle = [cell.rjust(w) for cell, w in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *middle, row[-1]]).rstrip())
    return "\n".join(lines)


def verdict(found: Completion) -> str:
    """Which method wins, whether by more than chance may make, and whether to use any."""
    table = found.table
    errors = table.error.astype(float)
    least = str(errors.idxmin())
    said = f"On the test entries the least error is that of {least}: {words(errors[least])}."
    flows = [name for name in table.index if "depth " in name]
    others = [name for name in table.index if "depth " not in name]
    flow, other = (str(errors[names].idxmin()) for names in (flows, others))
    chance = 2 * math.hypot(table.spread[flow], table.spread[other])
    if len(found.split.test) < _FEW:
        said += f" With {len(found.split.test)} test entries nothing can be said for sure."
    elif abs(errors[flow] - errors[other]) <= chance:
        said += (
            f" The best flow ({flow}, {words(errors[flow])}) and the best other method ({other}, "
            f"{words(errors[other])}) do not differ by more than twice the standard error."
        )
    else:
        word = "smaller" if errors[flow] < errors[other] else "larger"
        said += (
            f" The error of the best flow ({flow}, {words(errors[flow])}) is {word} than that of "
            f"the best other method ({other}, {words(errors[other])})."
        )
    said += f" The matrix is completed by {found.method}"
    said += ", which the validation entries chose." if len(found.split.validation) else "."
    simple = min((name for name in ("mean", "biases") if name in table.index), key=errors.get)
    if found.method != simple and errors[found.method] >= errors[simple]:
        said += f" It is no better than the {simple}: do not use the completion."
    elif found.method == "mean":
        said += " Nothing is better than the mean: do not use the completion."
    return said


def _facts(found: Completion) -> dict[str, str]:
    data, split = found.data, found.split
    d, d_prime = data.shape
    size = float(np.abs(data.values).max()) or 1.0
    square = size * math.sqrt(float(np.mean((data.values / size) ** 2)))
    return {
        "Matrix": f"{d} rows ({data.names[0]}), {d_prime} columns ({data.names[1]})",
        "Observed": f"{data.n_observed} entries ({data.names[2]}), "
        f"{100 * data.n_observed / (d * d_prime):.3g} % of all",
        "Split into": f"{len(split.fitted)} fitted, {len(split.validation)} validation and "
        f"{len(split.test)} test entries",
        "Values": f"from {words(data.values.min())} to {words(data.values.max())}, root mean "
        f"square {words(square)}",
    }


def _in_words(frame: pd.DataFrame) -> list[list[str]]:
    lines = [[str(name) for name in frame.columns]]
    for row in frame.itertuples(index=False):
        lines.append([words(x) if isinstance(x, float) else str(x) for x in row])
    return lines


def as_html(found: Completion, name: str, facts: dict[str, str], digest: str = 64 * "0") -> str:
    """The page.

    Parameters
    ----------
    found : Completion
    name : str
        Of the file that the matrix comes from.
    facts : dict
        Further facts for the list at the top, such as the date and the versions.
    digest : str
        SHA-256 of the completed file, by which `is_unchanged` knows it.

    Returns
    -------
    str
        HTML without a script and without a reference to anything outside. All names are text: the
        template escapes whatever it is given.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    by_column = found.column_errors.head(_MOST_ROWS).reset_index()
    page = environment.get_template("report.html.jinja").render(
        name=name,
        verdict=verdict(found),
        facts={"File": name} | _facts(found) | facts,
        table=_rows(found),
        unit="" if found.scale == "none" else f"spreads of its {found.scale[:-1]}",
        charts=charts(found),
        by_column=_in_words(by_column),
        more_columns=max(0, len(found.column_errors) - _MOST_ROWS),
        disagreements=_in_words(found.disagreements),
        method=found.method,
        has_validation=bool(len(found.split.validation)),
        remarks=found.remarks,
    )
    return _marked(page, digest)


def _marked(page: str, digest: str) -> str:
    """The page with its own digest, taken without it, and that of the completed file."""
    own = hashlib.sha256(page.encode()).hexdigest()
    return page.replace("<head>\n", f'<head>\n<meta name="dmf" content="{own} {digest}">\n', 1)


def is_unchanged(path: Path) -> bool:
    """Whether a file is a report as it was written here: one that was changed is the user's."""
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    mark = _MARK.search(page)
    if mark is None:
        return False
    bare = page.replace(f"{mark[0]}\n", "", 1)
    return hashlib.sha256(bare.encode()).hexdigest() == mark[1]


def digest_in(path: Path) -> str | None:
    """The digest of the completed file that an unchanged report states."""
    return _MARK.search(path.read_text(encoding="utf-8"))[2] if is_unchanged(path) else None
