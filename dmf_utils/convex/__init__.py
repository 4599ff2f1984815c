"""The minimum nuclear norm: the convex baseline, with the certificate of its optimality.

It imports ``_support`` and ``problems``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
