"""Losses on the product matrix: full observation, completion, sensing, and MovieLens 100K.

A problem knows its shape, its loss and its gradient; how it is factored is not its affair. The wing
imports ``_support`` only.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
