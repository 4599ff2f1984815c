"""The command ``dmf``; the one place that sees both the numerics and the publisher."""

# For what it spares them, before anything that reads notebooks.
import dmf_utils._support.program  # noqa: F401, imported for what it does
