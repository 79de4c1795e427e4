"""Conformance tests for what others add: a learner, an object store, a serving target.

Each is a function that raises AssertionError with the reason, so that any test runner can call it.
"""

from mlops_assets.testing.learner_conformance import check_learner
from mlops_assets.testing.object_store_conformance import check_object_store
from mlops_assets.testing.serving_target_conformance import check_serving_target

__all__ = ["check_learner", "check_object_store", "check_serving_target"]
