"""The kernel in which chapters are executed: ipykernel's own, as a `program` that begins sooner.

This module is run as a script, by the specification in ``kernels``.
"""

from dmf_utils._support import program

if __name__ == "__main__":
    program.run("ipykernel.kernelapp:launch_new_instance")
