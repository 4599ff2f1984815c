"""Deep matrix factorization: problems, gradient flow and descent, and what judges them.

The numerics behind the book that recomputes *Implicit Regularization in Deep Matrix
Factorization* (Arora, Cohen, Hu, Luo, NeurIPS 2019). What chapters use most is exported here, and
loaded when it is first asked for: torch takes seconds. The rest is imported from its wing, such as
``from dmf_utils.sweep import sweep`` or ``from dmf_utils import claims, plotting``.

Imports run one way: ``_support``, then ``factorization``, ``problems`` and ``claims``, then
``flow``, ``convex`` and ``publishing``, then ``theory``, ``sweep``, ``user_data``, ``teaching`` and
``plotting``, then ``explore`` and ``cli``.
"""

import os

import lazy_loader

# Threads that wait for each other sleep instead of spinning, or two runs beside each other take ten
# times as long as one after the other. It is read when torch is loaded; one's own choice stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
