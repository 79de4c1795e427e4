"""What exposes a model, through a real gateway: made by the account of a deployment step, and asked from outside."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import DeploymentError
from resources.kubernetes.api import api_client
from resources.serving.cluster_services import ClusterServices
from resources.serving.expose import Expose
from resources.serving.exposure import ROUTE, SECURITY, exposure
from resources.serving.kserve_manifest import KSERVE
from tests.cluster.cluster import REGISTRY
from tests.cluster.environment_copy import GROUNDWORK, Copy, as_list
from tests.cluster.kubectl import kubectl
from tests.cluster.waiting import POD_START_S, SOON_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
GATEWAY = ("kserve", "kserve-ingress-gateway")
HOST, KEY = "iris.example.com", "a-key-of-alice"
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


def predictor() -> list[dict[str, Any]]:
    """A pod in the place of a model's, and its Service as KServe makes it."""
    resources = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
    container = {
        "name": "kserve-container",
        "image": f"{REGISTRY}/mlops-platform:test",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", ECHO],
        "resources": resources,
        "securityContext": SECURE,
    }
    metadata = {"name": "iris-predictor", "labels": {"app": "isvc.iris-predictor"}}
    pod = {"containers": [container], "automountServiceAccountToken": False, "restartPolicy": "Never"}
    ports = [{"port": 80, "targetPort": 8080}]
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "iris-predictor"},
            "spec": {"selector": metadata["labels"], "ports": ports},
        },
    ]


class World:
    """Who asks from outside, and the deployment step that lets them."""

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace, self.address = namespace, address
        self.services = ClusterServices(KSERVE, namespace)
        [uid] = [kubectl("get", "service", "iris-predictor", "-n", namespace, "-o", "jsonpath={.metadata.uid}")]
        self.owner = {"apiVersion": "v1", "kind": "Service", "name": "iris-predictor", "uid": uid}

    def expose(self, **fields: Any) -> None:
        """Have the model exposed so; not at all without fields."""
        expose = Expose.model_validate({"host": HOST, **fields}) if fields else None
        service = "iris-predictor"
        self.services.expose("iris", exposure("iris", "iris", expose, "/".join(GATEWAY), service, service, self.owner))

    def ask(self, path: str = PREDICT, method: str = "POST", **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and answer."""
        body = b"{}" if method == "POST" else None
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, body, {"Host": HOST} | named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, {}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A namespace with the rights and policies of an environment, and a model in it that nobody outside may ask yet."""
    from kubernetes import client, config

    if not kubectl("get", "crd", "securitypolicies.gateway.envoyproxy.io", "--ignore-not-found"):
        pytest.skip("the cluster lacks Envoy Gateway")
    place = ("get", "gateway", "-n", *GATEWAY, "-o", "jsonpath={.status.addresses[0].value}")
    copy = Copy("test")
    groundwork = as_list([item for item in copy.objects if item["kind"] in GROUNDWORK])
    untyped: Any = client
    before = untyped.Configuration.get_default_copy()
    try:
        kubectl("create", "-f", "-", stdin=groundwork)
        kubectl("create", "-n", copy.namespace, "-f", "-", stdin=as_list(predictor()))
        kubectl("create", "secret", "generic", "callers", "-n", copy.namespace, f"--from-literal=alice={KEY}")
        configuration = untyped.Configuration()
        config.load_kube_config(client_configuration=configuration)
        configuration.cert_file = configuration.key_file = None
        token = kubectl("create", "token", "dagster-deployer", "-n", copy.namespace).strip()
        configuration.api_key = {"authorization": f"Bearer {token}"}
        untyped.Configuration.set_default(configuration)
        api_client.cache_clear()
        ready = ("wait", "pod/iris-predictor", "-n", copy.namespace, "--for=condition=Ready")
        kubectl(*ready, f"--timeout={POD_START_S}s")
        address = wait_until(lambda: kubectl(*place), SOON_S, "the gateway has an address")
        yield World(copy.namespace, f"http://{address}")
    finally:
        untyped.Configuration.set_default(before)
        api_client.cache_clear()
        kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=groundwork)


def test_who_shows_a_key_is_let_in_and_nobody_else_at_any_moment(world: World) -> None:
    seen, ended = set[int](), threading.Event()

    def ask_on() -> None:
        while not ended.wait(0.02):
            seen.add(world.ask()[0])

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        world.expose(auth={"api_key": {"secret": "callers"}})
        wait_until(lambda: world.ask(x_api_key=KEY)[0] == 200, SOON_S, "who has the key is let in")
        time.sleep(2)
    finally:
        ended.set()
        asking.join()
    assert 401 in seen
    assert 200 not in seen
    assert world.ask(x_api_key="another")[0] == 401
    headers = world.ask(x_api_key=KEY)[1]["headers"]
    assert "x-api-key" not in headers, "the key came to the model"
    # Removed again, as by a YAML without `expose`
    world.expose()
    wait_until(lambda: world.ask(x_api_key=KEY)[0] == 404, SOON_S, "the route is gone")


def test_callers_come_to_this_model_and_to_nothing_else(world: World) -> None:
    world.expose(auth="none")
    wait_until(lambda: world.ask()[0] == 200, SOON_S, "everybody is let in")
    for method, path in (
        ("POST", "/v2/models/iris/infer"),
        ("GET", "/v2/models/iris/ready"),
        ("GET", "/v1/models/iris"),
    ):
        assert (world.ask(path, method)[0], path) == (200, path)
    closed = (
        *(("GET", "/metrics"), ("GET", "/v2/repository/index"), ("POST", "/v2/repository/index"), ("GET", "/docs")),
        *(("POST", "/v2/repository/models/iris/load"), ("GET", PREDICT), ("POST", "/v1/models/other:predict")),
        *(
            ("POST", f"{PREDICT}/../../../metrics"),
            ("GET", "/v2/models/iris/ready/%2e%2e/%2e%2e/%2e%2e/repository/index"),
        ),
        *(("GET", "//metrics"), ("GET", "/v2/models/iris%2f..%2f..%2fmetrics")),
    )
    for method, path in closed:
        assert (world.ask(path, method)[0], path) in ((404, path), (400, path))
    assert world.ask(Host="other.example.com")[0] == 404


def test_more_requests_than_a_minute_has_are_refused(world: World) -> None:
    world.expose(auth="none", requests_per_minute=20)
    wait_until(lambda: world.ask()[0] == 429, SOON_S, "the limit is reached", every_s=0.05)


def test_a_deployment_step_opens_no_other_door(world: World) -> None:
    made = exposure(
        "iris",
        "iris",
        Expose.model_validate({"host": HOST, "auth": {"api_key": {"secret": "callers"}}}),
        "/".join(GATEWAY),
        "iris-predictor",
        "iris-predictor",
        world.owner,
    )

    def refused(kind: Any, path: str, value: Any) -> str:
        item = json.loads(json.dumps(made[kind]))
        *way, last = path.split(".")
        place: Any = item
        for name in way:
            place = place[int(name)] if name.isdecimal() else place[name]
        place[last] = value
        with pytest.raises(DeploymentError) as found:
            world.services.expose("iris", {kind: item})
        return str(found.value)

    backend = "spec.rules.0.backendRefs"
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "dagster-webserver", "port": 80}}}
    for path, value in (
        (f"{backend}", [{"name": "dagster-webserver", "port": 80}]),
        (f"{backend}", [{"name": "iris-predictor", "port": 80, "namespace": "kserve"}]),
        (f"{backend}", [{"name": "iris-predictor", "group": "gateway.envoyproxy.io", "kind": "Backend", "port": 80}]),
        (f"{backend}", [{"name": "iris-predictor", "port": 80, "filters": [mirror]}]),
        ("spec.rules.0.filters", [mirror]),
        ("spec.hostnames", []),
    ):
        assert "makes routes to models alone" in refused(ROUTE, path, value), path
    gateway = [{"group": ROUTE[0], "kind": "Gateway", "name": GATEWAY[1]}]
    another = [{"group": ROUTE[0], "kind": "HTTPRoute", "name": "another"}]
    for path, value in (
        ("spec.targetRefs", gateway),
        ("spec.targetRefs", another),
        ("spec.cors", {"allowOrigins": ["*"]}),
        ("spec.extAuth", {"http": {"backendRefs": [{"name": "dagster-webserver", "port": 80}]}}),
    ):
        assert "says of its own routes alone who may ask" in refused(SECURITY, path, value), path
