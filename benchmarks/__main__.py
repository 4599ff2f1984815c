"""Measure and print; a quarter of an hour on two cores. ``--short``: only the small parts."""

from __future__ import annotations

import argparse
import platform

import torch

from benchmarks import growth, load, scaling, sensing, sparse_gradients, speed, sweeps
from dmf_utils._support.threads import one_thread


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="leave out the authors' grid and deep sensing"
    )
    short = parser.parse_args().short
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
    with one_thread():  # as in a worker process; the authors' loop is fastest so as well
        _measure(short)
    if not short:
        load.quick_book()


def _measure(short: bool) -> None:
    speed.one_run()
    speed.whole_grid(with_authors=not short)
    if not short:
        speed.grid_deviations()
    sensing.gradients_and_runs()
    sensing.both_figures(whole=not short)
    scaling.peak_fraction()
    scaling.growth()
    if not short:
        growth.table()
    sparse_gradients.ratios(sparse_gradients.SHAPES[: 2 if short else None])
    sweeps.grid_sizes((10, 100) if short else (10, 100, 500, 2000))
    sweeps.projection()
    sweeps.large_matrices(((100, 8),) if short else ((100, 8), (300, 8), (1000, 1)))


if __name__ == "__main__":
    main()
