"""What the speeds in README.md come from: ``python -m benchmarks``."""
