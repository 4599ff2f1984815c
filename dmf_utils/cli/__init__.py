"""The command ``dmf``; the one place that sees both the numerics and the publisher."""

# Before anything that reads notebooks.
import dmf_utils._support.program  # noqa: F401
