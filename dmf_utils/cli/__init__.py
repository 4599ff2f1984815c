"""The command ``dmf``; the one place that sees both the numerics and the publisher."""
