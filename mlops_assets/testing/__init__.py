"""Checks that anyone can run against an implementation of their own; plain asserts, and no import of a test runner."""

from mlops_assets.testing.serving_target import check_serving_target

__all__ = ["check_serving_target"]
