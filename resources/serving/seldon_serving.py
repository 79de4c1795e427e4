"""The serving target of a cluster with Seldon Core: a SeldonDeployment for each model."""

from __future__ import annotations

from typing import Any

from resources.kubernetes.api import in_cluster
from resources.serving.cluster_services import ClusterServices
from resources.serving.kserve_serving import KServe
from resources.serving.predictor_pod import HTTP
from resources.serving.seldon_manifest import SELDON, predictor_service, seldon_deployment


class Seldon(KServe):
    """Deploys as on KServe, with the same proofs and the same pods, to SeldonDeployments of this pod's namespace."""

    @property
    def services(self) -> ClusterServices:
        """The SeldonDeployments beside this pod."""
        return ClusterServices(SELDON, in_cluster())

    def _object(self, *arguments: Any, **settings: Any) -> dict[str, Any]:
        return seldon_deployment(*arguments, **settings)

    def _expose(self, model: str, manifest: dict[str, Any] | None) -> None:
        """Nothing exposes them: `check_service` refuses that."""

    def _service(self, name: str) -> tuple[str, int]:
        return predictor_service(name), HTTP
