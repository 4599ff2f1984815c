"""A matrix of one's own: read, split, complete with early stopping, compare, report.

It imports ``_support``, ``factorization``, ``problems``, ``flow`` and ``convex``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
