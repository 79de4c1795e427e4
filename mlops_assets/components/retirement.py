"""Models that no YAML defines any more: which they are, and how one is taken out of service.

A model whose YAML was deleted or renamed goes on answering, with its aliases, until it is retired: its endpoint goes
down, its aliases are taken off, its feature views go from the online store, and the ledger says why. Its versions stay
in MLflow, and the lake's retention frees what nothing needs.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.champion import CHAMPION, LOCK_WAIT_S
from mlops_assets.assets.stage import as_dagster_failure
from mlops_assets.components.defined_models import defined_models
from mlops_assets.ml.errors import MlopsError, SpecError
from mlops_assets.ml.values import Value, did_you_mean
from mlops_assets.spec.model_spec import RETIREMENT_JOB
from resources.features.online_store import OnlineStore
from resources.lake.lake import Lake
from resources.serving.serving_target import ServingTarget
from resources.tracking.alias_ledger import actor
from resources.tracking.mlflow_tracking import Tracking

JOB = RETIREMENT_JOB
ALIASES = (CHAMPION, "challenger")
# The step pod's account may change what KServe serves
DEPLOYER: dict[str, Any] = {
    "dagster-k8s/config": {
        "pod_spec_config": {"service_account_name": "dagster-deployer", "automount_service_account_token": True}
    }
}


class ModelState(Value):
    """What there is of a model."""

    name: str
    file: str | None
    """The YAML that defines it; None of an orphan."""
    served: str | None
    """The version that its endpoint answers with."""
    aliases: dict[str, int]
    versions: int

    @property
    def state(self) -> str:
        """In a word: orphaned, served or defined."""
        return "orphaned" if self.file is None else "served" if self.served else "defined"


def model_states(
    serving: ServingTarget, tracking: Tracking, lake: Lake, defined: Mapping[str, str]
) -> list[ModelState]:
    """Every model that a YAML defines, or that is served or has versions of this platform in the lake's space."""
    served, registered = set(lake.models_of(serving.served())), tracking.models()
    return [
        ModelState(
            name=name,
            file=defined.get(name),
            served=_served_version(serving, lake.name_of(name)) if name in served else None,
            aliases={alias: one.version for one in versions for alias in one.aliases},
            versions=len(versions),
        )
        for name in sorted({*defined, *served, *registered})
        for versions in [registered.get(name, [])]
    ]


def _served_version(serving: ServingTarget, name: str) -> str:
    try:
        served = serving.current(name)
    except MlopsError as error:
        return f"unknown ({error.what})"
    return served.version if served else "a candidate only"


def retire(
    name: str,
    reason: str,
    by: str,
    serving: ServingTarget,
    tracking: Tracking,
    lake: Lake,
    online_store: OnlineStore,
    *,
    defined: Mapping[str, str],
    even_if_defined: bool = False,
) -> list[str]:
    """Take a model's endpoint down, its aliases off and its feature views out of the online store, and write that to
    its ledger; what was done, a line each.

    What was killed half way is completed by calling it again.

    Raises:
        SpecError: there is no such model, no reason is given, or a YAML still defines it.
    """
    if not reason.strip():
        raise SpecError("A retirement needs a reason", remedy="give one; it goes to the ledger")
    if name in defined and not even_if_defined:
        what = f"{name} is defined in {defined[name]}, and its next run would deploy it again"
        raise SpecError(what, remedy="delete or rename that YAML first, or say that you mean it (--yes)")
    known = {*lake.models_of(serving.served()), *tracking.models()}
    if name not in known:
        place = f" in the space {lake.space}" if lake.space else ""
        what = f"There is no model {name}{did_you_mean(name, known)}: none is served or has versions in MLflow{place}"
        raise SpecError(what, remedy="mlops-assets models lists those that are")
    with lake.lock(name, wait_s=LOCK_WAIT_S) as held:
        version = serving.retire(lake.name_of(name))
        held.check()
        off = {alias: number for alias in ALIASES if (number := tracking.remove_alias(name, alias, reason, by))}
        if version and not off:
            tracking.write_removal(name, CHAMPION, reason, by, previous=None)
        with lake.lock(f"{name}/online_features", wait_s=LOCK_WAIT_S):  # no run writes there meanwhile
            views = online_store.remove(lake.name_of(name))
    served = f"version {version.version} is not served any more" if version else "it was not served"
    return [
        f"{name}: {served}",
        *(f"{name}: version {number} is {alias} no more" for alias, number in off.items()),
        *(f"{name}: the feature view {view} is in the online store no more" for view in views),
    ]


class RetirementConfig(dg.Config):
    """Which model `retire_model` takes out of service."""

    model: str = Field(description="The model's name")
    reason: str = Field(description="Why; it goes to the ledger")
    even_if_defined: bool = Field(
        default=False, description="Also when a YAML defines it; its next run deploys it again"
    )


@dg.op(
    # The IO manager keeps handles of assets alone
    out=dg.Out(dg.Nothing),
    description="Takes a model's endpoint down, its aliases off and its feature views out; its versions stay in MLflow",
    tags=DEPLOYER,
)
def take_out_of_service(
    context: dg.OpExecutionContext,
    config: RetirementConfig,
    serving: ServingTarget,
    tracking: Tracking,
    lake: Lake,
    online_store: dg.ResourceParam[OnlineStore],
) -> None:
    """Tell in the log what was done."""
    with as_dagster_failure():
        done = retire(
            config.model,
            config.reason,
            actor(context.run),
            serving,
            tracking,
            lake,
            online_store,
            defined=defined_models(),
            even_if_defined=config.even_if_defined,
        )
    for line in done:
        context.log.info(line)
    context.add_output_metadata({"done": dg.MetadataValue.json(done)})


@dg.job(name=JOB, description="Takes a model that no YAML defines any more out of service")
def retire_model() -> None:
    take_out_of_service()
