"""Which serving target an environment has: KServe or Seldon in a cluster, and a server of this machine elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import SpecError
from resources.lake.stores import scheme_of
from resources.serving.local_serving import LocalServing

if TYPE_CHECKING:
    from resources.environment import Environment
    from resources.lake.lake import Lake
    from resources.serving.service_settings import ServiceSettings
    from resources.serving.serving_target import ServingTarget


def serving_target(environment: Environment, lake: Lake) -> ServingTarget:
    """The target to deploy to."""
    if environment.predictor_image is None:
        return local_serving(environment)
    from resources.serving.kserve_serving import KServe
    from resources.serving.seldon_serving import Seldon

    operator = Seldon if environment.serving_operator == "seldon" else KServe
    return operator(
        lake=lake,
        image=environment.predictor_image,
        replicas=environment.predictor_replicas,
        public_url=environment.serving_url,
        prefix=environment.prefix,
        max_body_mib=environment.serving_max_body_mib,
        max_rows=environment.serving_max_rows,
        prometheus=environment.prometheus_url,
        gateway=environment.gateway,
    )


def check_service(service: ServiceSettings, environment: Environment, file: str) -> None:
    """Refuse what this environment cannot do for the service of a model, whose YAML is `file`.

    Raises:
        SpecError: it is not set up for something that the YAML asks for.
    """
    if not environment.production:
        return

    def refuse(field: str, what: str, remedy: str) -> None:
        raise SpecError(what, where=f"{file}: {field}", remedy=remedy)

    if service.looked_up and environment.features_database is None:
        what, remedy = "in production, feature views need a database", "set MLOPS_FEATURES_DATABASE to its address"
        refuse("features.from_store", what, remedy)
    if service.expose and environment.serving_operator == "seldon":
        refuse("deploy.expose", "models of Seldon Core are not exposed", "remove it, or serve models by KServe")
    if service.expose and environment.gateway is None:
        what, remedy = "no gateway is known", "set MLOPS_GATEWAY to namespace/name/listener of the cluster's Gateway"
        refuse("deploy.expose", what, remedy)
    if service.scale.metric == "concurrency" and environment.serving_operator == "seldon":
        what, remedy = "Seldon Core scales by cpu and memory alone", "choose one of them, or serve models by KServe"
        refuse("deploy.scale.metric", what, remedy)
    if service.scale.metric == "concurrency" and environment.prometheus_url is None:
        what = "KEDA asks Prometheus how many requests are being answered, and no address of it is known"
        refuse("deploy.scale.metric", what, "set MLOPS_PROMETHEUS_URL, or choose another metric")


def local_serving(environment: Environment) -> LocalServing:
    """The model server of this machine."""
    lake = environment.lake_uri
    return LocalServing(
        lake_uri=lake if scheme_of(lake) else str(Path(lake).absolute()),
        state=str(environment.home / "serving"),
        port=environment.serving_port,
        grpc_port=environment.serving_grpc_port,
        max_body_mib=environment.serving_max_body_mib,
        max_rows=environment.serving_max_rows,
    )
