"""The stages with the executor of our code location."""

import dagster as dg

from bench.stages import stages
from mlops_assets.definitions import defs as location

defs = dg.Definitions(assets=stages, executor=location.executor)
