"""Handouts for a class: student notebooks, solution check, PDF.

It imports ``_support``, ``claims`` and ``publishing``.
"""
