"""From notebooks to pages: execute the chapters, collect their claims, build the site.

Internal: chapters do not import it. It imports ``_support`` and ``claims``.
"""
