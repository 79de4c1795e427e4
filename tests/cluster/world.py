"""A model behind a real gateway: who asks it from outside, and the deployment step that lets them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from resources.kubernetes.api import api_client
from resources.serving.cluster_services import ClusterServices
from resources.serving.expose import Expose
from resources.serving.exposure import exposure
from resources.serving.kserve_manifest import KSERVE
from tests.cluster.cluster import REGISTRY
from tests.cluster.environment_copy import GROUNDWORK, Copy, as_list
from tests.cluster.kubectl import kubectl
from tests.cluster.waiting import POD_START_S, SOON_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

GATEWAY = ("kserve", "kserve-ingress-gateway")
HOST = "iris.example.com"
PREDICT = "/v1/models/iris:predict"
# Answers with what it was asked, as a model does not
ECHO = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def answer(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path, "headers": dict(self.headers)}).lower().encode())
    do_GET = do_POST = answer
ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
SECURE = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def python_server(name: str, program: str, port: int, secret: str | None = None) -> list[dict[str, Any]]:
    """A pod that runs a program which listens at 8080, and its Service; a Secret is found in /secret."""
    container = {
        "name": "server",
        "image": f"{REGISTRY}/mlops-platform:test",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", program],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": SECURE,
        "volumeMounts": [{"name": "secret", "mountPath": "/secret"}] if secret else [],
    }
    volumes = [{"name": "secret", "secret": {"secretName": secret}}] if secret else []
    pod = {"containers": [container], "volumes": volumes, "restartPolicy": "Never"}
    pod |= {"automountServiceAccountToken": False, "securityContext": {"fsGroup": 10001}}
    labels = {"app": f"isvc.{name}"}
    ports = [{"port": port, "targetPort": 8080}]
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": ports},
        },
    ]


def run_servers(namespace: str, servers: list[dict[str, Any]]) -> None:
    """Make them, and wait until they are ready."""
    kubectl("create", "-n", namespace, "-f", "-", stdin=as_list(servers))
    pods = [f"pod/{item['metadata']['name']}" for item in servers if item["kind"] == "Pod"]
    kubectl("wait", *pods, "-n", namespace, "--for=condition=Ready", f"--timeout={POD_START_S}s")


class World:
    """Who asks from outside at a Gateway, and the deployment step that lets them; it answers once there is one."""

    def __init__(self, namespace: str, gateway: tuple[str, str] = GATEWAY) -> None:
        self.namespace, self.gateway = namespace, gateway
        self.services = ClusterServices(KSERVE, namespace)
        uid = kubectl("get", "service", "iris-predictor", "-n", namespace, "-o", "jsonpath={.metadata.uid}")
        self.owner = {"apiVersion": "v1", "kind": "Service", "name": "iris-predictor", "uid": uid}
        place = ("get", "gateway", "-n", *gateway, "-o", "jsonpath={.status.addresses[0].value}")
        self.address = f"http://{wait_until(lambda: kubectl(*place), SOON_S, 'the gateway has an address')}"

    def expose(self, **fields: Any) -> None:
        """Have the model exposed so; not at all without fields."""
        expose = Expose.model_validate({"host": HOST, **fields}) if fields else None
        service, gateway = "iris-predictor", "/".join(self.gateway)
        self.services.expose("iris", exposure("iris", "iris", expose, gateway, service, service, self.owner))

    def ask(self, path: str = PREDICT, method: str = "POST", **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and answer; 0 where nobody is at the address yet."""
        body = b"{}" if method == "POST" else None
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, body, {"Host": HOST} | named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, {}
        except OSError:
            return 0, {}


@contextmanager
def exposable_model() -> Iterator[str]:
    """A namespace with the rights and policies of an environment, as the account of its deployment step, with a pod in
    the place of a model's that nobody outside may ask yet, and its Service as KServe makes it.
    """
    from kubernetes import client, config

    if not kubectl("get", "crd", "securitypolicies.gateway.envoyproxy.io", "--ignore-not-found"):
        pytest.skip("the cluster lacks Envoy Gateway")
    copy = Copy("test")
    groundwork = as_list([item for item in copy.objects if item["kind"] in GROUNDWORK])
    untyped: Any = client
    before = untyped.Configuration.get_default_copy()
    try:
        kubectl("create", "-f", "-", stdin=groundwork)
        run_servers(copy.namespace, python_server("iris-predictor", ECHO, 80))
        configuration = untyped.Configuration()
        config.load_kube_config(client_configuration=configuration)
        configuration.cert_file = configuration.key_file = None
        token = kubectl("create", "token", "dagster-deployer", "-n", copy.namespace).strip()
        configuration.api_key = {"authorization": f"Bearer {token}"}
        untyped.Configuration.set_default(configuration)
        api_client.cache_clear()
        yield copy.namespace
    finally:
        untyped.Configuration.set_default(before)
        api_client.cache_clear()
        kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=groundwork)
