"""Gradient flow and gradient descent on the factors of a deep factorization.

Both give back a `Trajectory`, with a `Status` that says how it ended; `Settings` says how the flow
is followed. The wing imports ``_support``, ``factorization`` and ``problems``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
