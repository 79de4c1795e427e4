"""The stages as Dagster runs them without being told otherwise."""

import dagster as dg

from bench.stages import stages

defs = dg.Definitions(assets=stages)
