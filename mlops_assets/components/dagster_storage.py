"""Dagster's storage, for who reads what it has and launches nothing."""

from __future__ import annotations

import dagster as dg


def dagster_storage(home: str) -> dg.DagsterInstance:
    """The instance of a DAGSTER_HOME as far as it is read.

    Where runs are resumed Dagster makes their launcher at once, and in a cluster that one wants a token of Kubernetes,
    which who only reads does not have.
    """
    from resources.kubernetes.dagster_internals import InstanceRef

    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(home, overrides={"run_monitoring": {"enabled": False}}))
