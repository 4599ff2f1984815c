"""The report on a matrix of one's own: one HTML page that needs no other file."""

from __future__ import annotations

from html import escape

import numpy as np

from dmf_utils.user_data.charts import error_picture, path_picture, singular_value_picture, words
from dmf_utils.user_data.completion import CONVEX, MEAN, OwnCompletion

__all__ = ["as_html", "as_text", "verdict"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --faint: #d9d9d9; --soft: #555;
  --s1: #666; --s2: #b34700; --s3: #0063a0; --s4: #007a56; --s5: #a3497c; --s6: #5c4400; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; --faint: #3a3d42;
  --soft: #b5b5b5; --s1: #b0b0b0; --s2: #ff9a5c; --s3: #6cb8f0; --s4: #4fd0a5; --s5: #eba0cb;
  --s6: #d9bd72; } }
* { box-sizing: border-box; }
body { font: 1rem/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 0 auto; padding: 1.2rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .6rem; } h2 { font-size: 1.1rem; margin: 1.2rem 0 .4rem; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { overflow-wrap: normal; border-collapse: collapse; font-variant-numeric: tabular-nums;
  width: 100%; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .9rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr));
  gap: .8rem; } figure { margin: 0; break-inside: avoid; }
figcaption { font-size: .87em; color: var(--soft); } svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
svg .x { text-anchor: middle; } svg .y { text-anchor: end; }
.axis { fill: none; stroke: var(--soft); } .grid { stroke: var(--faint); stroke-width: .6; }
.dot { fill: var(--s3); } .bar { stroke: var(--s3); stroke-width: 2; }
.stem { stroke: var(--s3); stroke-width: 1.2; }
.line { fill: none; stroke-width: 1.8; } .ring { fill: var(--paper); stroke-width: 2; }
.s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); } .s3 { stroke: var(--s3); }
.s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); } .s6 { stroke: var(--s6); }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --faint: #ccc;
  --soft: #444; --s1: #666; --s2: #b34700; --s3: #0063a0; --s4: #007a56; --s5: #a3497c;
  --s6: #5c4400; } @page { margin: 14mm; } body { font-size: 9pt; padding: 0; }
  h1 { font-size: 14pt; } h2 { font-size: 11pt; } th, td { padding: .15rem .35rem; }
  .pictures { grid-template-columns: repeat(3, 1fr); } .wide { overflow: visible; } }
"""
_HEADS = {
    "error": "held-out error",
    "spread": "± standard error",
    "residual": "residual on fitted",
    "nuclear_norm": "nuclear norm",
    "effective_rank": "effective rank",
    "gradients": "gradients",
}


def _rows(found: OwnCompletion) -> list[list[str]]:
    """The table in words, a head and a row for each method."""
    rows = [["method", *_HEADS.values(), "end"]]
    for name, row in found.table.iterrows():
        numbers = [words(float(row[column])) for column in list(_HEADS)[:-1]]
        gradients = str(row.gradients) if row.gradients else ""
        rows.append([str(name), *numbers, gradients, str(row.end)])
    return rows


def as_text(found: OwnCompletion) -> str:
    """The table for a terminal."""
    rows = _rows(found)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        middle = [cell.rjust(w) for cell, w in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *middle, row[-1]]).rstrip())
    return "\n".join(lines)


def verdict(found: OwnCompletion) -> str:
    """What the held-out errors say, and whether the difference is more than chance may make."""
    table = found.table
    chosen, convex = table.loc[f"depth {found.depth}"], table.loc[CONVEX]
    difference = abs(chosen.error - convex.error)
    chance = 2 * (chosen.spread**2 + convex.spread**2) ** 0.5
    if difference <= chance:
        said = (
            f"On the held-out entries, depth {found.depth} and the minimum nuclear norm solution "
            "do not differ by more than twice the standard error."
        )
    else:
        word = "smaller" if chosen.error < convex.error else "larger"
        ratio = max(chosen.error, convex.error) / max(min(chosen.error, convex.error), 1e-300)
        said = (
            f"On the held-out entries, the error at depth {found.depth} is {word} than that of the "
            f"minimum nuclear norm solution, by a factor of {words(ratio)}."
        )
    least = str(table.error.astype(float).idxmin())
    if chosen.error >= table.loc[MEAN].error:
        said += " It is no better than the mean of the fitted entries: do not use the completion."
    elif least != f"depth {found.depth}":
        said += f" Least of all is that of: {least}."
    return said


def _root_mean_square(values: np.ndarray) -> float:
    largest = float(np.abs(values).max()) or 1.0
    return largest * float(np.mean((values / largest) ** 2)) ** 0.5


def as_html(found: OwnCompletion, name: str, facts: dict[str, str]) -> str:
    """The page.

    Parameters
    ----------
    found
        What to report.
    name
        Of the file that the matrix comes from.
    facts
        Further facts for the list at the top, such as the date and the versions.

    Returns
    -------
    str
        HTML without a script and without a reference to anything outside. All names are escaped.
    """
    own, split = found.own, found.split
    d, d_prime = own.shape
    facts = {
        "File": name,
        "Matrix": f"{d} rows ({own.names[0]}), {d_prime} columns ({own.names[1]})",
        "Observed": f"{own.n_observed} entries ({own.names[2]}), "
        f"{100 * own.n_observed / (d * d_prime):.3g} % of all",
        "Parted into": f"{len(split.fitted)} fitted, {len(split.stopping)} to stop a run by, "
        f"{len(split.held_out)} held out",
        "Values": f"from {words(own.values.min())} to {words(own.values.max())}, root mean square "
        f"{words(_root_mean_square(own.values))}",
        **facts,
    }
    head, *rows = _rows(found)
    listed = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in facts.items()
    )
    table = f"<tr>{''.join(f'<th scope=col>{escape(cell)}</th>' for cell in head)}</tr>"
    table += "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in found.remarks)
    pictures = [
        (
            error_picture(found),
            "Root mean square error on the held-out entries, ± its standard error.",
        ),
        (
            path_picture(found),
            "Along each run, from left to right. The circle is where it was stopped: where a "
            "line turns up, what the flow still learns no longer helps on other entries.",
        ),
        (singular_value_picture(found), "Singular values of the product matrix that completes."),
    ]
    figures = "".join(
        f"<figure>{picture}<figcaption>{escape(text)}</figcaption></figure>"
        for picture, text in pictures
        if picture
    )
    stopped = (
        "A run was stopped where its error on the stopping entries was least."
        if len(split.stopping)
        else "No run was stopped early."
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Completion of {escape(name)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Completion of {escape(name)}</h1>
<p>{escape(verdict(found))}</p>
<dl>{listed}</dl>
<h2>Error by depth</h2>
<div class="wide" tabindex="0" role="region" aria-label="Table of methods">
<table>{table}</table></div>
<div class="pictures">{figures}</div>
<h2>How it was made</h2>
<p>A product of N matrices started near zero and followed gradient flow on the fitted entries.
{stopped} The minimum nuclear norm solution fits the same entries exactly. All methods are judged by
the root mean square error on the held-out entries, which none of them saw. The completed matrix
comes from depth {found.depth}, run again on all observed entries; these stand in it as given.
The held-out entries are a random choice of the observed ones: the error says as much about the
unobserved entries as these are like the observed.</p>
{f"<h2>Remarks</h2><ul>{remarks}</ul>" if remarks else ""}
</main>
</body>
</html>
"""
