"""Options that several commands have."""

from __future__ import annotations

import math

import click

from dmf_utils.publishing.execution import PATIENCE

__all__ = ["patience", "quick"]


def _times(context: click.Context, parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which click takes for a number of every range
        raise click.BadParameter("nan: give a number above 0")
    return value


quick = click.option("--quick", is_flag=True, help="At the small size, for a look.")
patience = click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    callback=_times,
    default=PATIENCE,
    show_default=True,
    metavar="TIMES",
    help="Give a chapter up after so many times its expected seconds.",
)
