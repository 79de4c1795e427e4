"""Adapters to the outside world: lake, tracking, serving."""
