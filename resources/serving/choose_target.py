"""Which serving target an environment has: KServe or Seldon in a cluster, and a server of this machine elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resources.lake.stores import scheme_of
from resources.serving.local_serving import LocalServing

if TYPE_CHECKING:
    from resources.environment import Environment
    from resources.lake.lake import Lake
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
    )


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
