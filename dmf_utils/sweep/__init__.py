"""A grid of runs turned into a tidy table: in parallel, cached, resumable, on many machines.

It imports ``_support``, ``factorization``, ``problems``, ``flow`` and ``convex``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
