"""The stages with the executor of our code location."""

import dagster as dg

from bench.stages import stages
from mlops_assets import definitions

defs = dg.Definitions(assets=stages, executor=definitions.defs.executor)
