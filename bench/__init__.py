"""Measures each promise beside its anchor, in one session."""
