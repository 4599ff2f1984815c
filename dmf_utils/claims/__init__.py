"""The ledger: every claim, figure and number is a row that a rule judges.

It imports ``_support`` only, and neither torch nor the publisher: a chapter records what it
measured with ``claims.record``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
