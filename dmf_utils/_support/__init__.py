"""What every wing leans on: checks, errors, files, threads, provenance, progress; nothing public.

A module belongs here when at least three wings use it, else it belongs to the one that does. This
wing imports no other.
"""
