"""The kernel in which chapters are executed: ipykernel's own, as a `program` that begins sooner.

This module is run as a script, by the specification in ``kernels``.
"""

from ipykernel.kernelapp import launch_new_instance

from dmf_utils._support import program as program  # for what it does when imported

if __name__ == "__main__":
    launch_new_instance()
