"""What papermill, its kernels and most chapters import: once, before any of them is a copy.

It is named where `copies` are made, and imported nowhere else.
"""

# ruff: noqa: F401, they are imported for the copies
import ipykernel.ipkernel
import ipykernel.kernelapp
import matplotlib.pyplot
import myst_nb
import pandas
import papermill.cli
import papermill.execute
import pyarrow.parquet
import scipy.linalg
import torch
import tqdm.auto

# As in a kernel: pandas looks for one when it is imported, and takes this for a terminal.
pandas.set_option("display.max_columns", 20)
