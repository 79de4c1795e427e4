"""Who talks to whom: the table of k8s/README.md, held against the policies of every overlay.

Each connection of the table is open, and no other one, both by Kubernetes' semantics and by those of Amazon's VPC CNI
for Services (tests/network_policies.py).
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from dagster_k8s.utils import get_common_labels

from mlops_assets.assets.pod_template import op_tags
from mlops_assets.serving.declaration import ServedVersion
from resources.kubernetes import labels
from resources.serving.kserve_manifest import inference_service
from resources.serving.service_settings import ServiceSettings
from tests.manifests import OVERLAYS, PROJECT, needs_kubectl, of_kind, rendered
from tests.network_policies import Address, Cluster, Pod, Service, reaches, reaches_service, selects
from tests.support import spec

pytestmark = needs_kubectl

ADDRESSES: dict[str, tuple[Address, ...]] = {
    "NodeLocal DNS": (Address("169.254.20.10"),),
    "Pod Identity agent": (Address("169.254.170.23"), Address("fd00:ec2::23")),
    "AWS": (Address("10.1.9.9"), Address("52.216.0.1"), Address("2600:1fa0:80::1")),
    "database of others": (Address("10.2.3.4"), Address("192.168.7.7")),
    "Aurora": (Address("10.1.200.5"),),
    "instance metadata": (Address("169.254.169.254"), Address("fd00:ec2::254")),
}
# Wherever the table says nothing
TCP_PORTS = (22, 53, 80, 443, 3000, 3001, 3030, 4180, 5000, 5432, 8080, 8081, 9105, 29500)
PORTS = ((53, "UDP"), *((port, "TCP") for port in TCP_PORTS))
WORKLOADS = {
    "dagster-webserver": "webserver",
    "dagster-webserver-read-only": "read-only webserver",
    "dagster-daemon": "daemon",
    "dagster-code": "code location",
    "exporter": "exporter",
    "mlflow": "MLflow",
    "postgres": "PostgreSQL",
    "moto": "moto",
}
EVERY_POD = "every pod"


def dagsters_pod(component: str) -> dict[str, str]:
    """Labels of the pods that Dagster's run launcher and our executor make."""
    config = yaml.safe_load((PROJECT / "k8s/base/dagster/dagster.yaml").read_text())["run_launcher"]["config"]
    return {**get_common_labels(), labels.COMPONENT: component, **config["labels"]}


def step(stage: str) -> dict[str, str]:
    metadata = op_tags(spec(), stage)["dagster-k8s/config"]["pod_template_spec_metadata"]
    return dagsters_pod(labels.STEP_WORKER) | metadata["labels"]


def worker() -> dict[str, str]:
    """As resources/kubernetes/training_jobs.py makes them, with what the Training Operator adds."""
    added = {"training.kubeflow.org/job-name": "train", "training.kubeflow.org/operator-name": "pytorchjob-controller"}
    return {labels.COMPONENT: labels.TRAINING_WORKER, labels.RUN_ID: "1", **added}


def predictor(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Labels of a predictor's pods, and the selector of its Service, as KServe 0.20 makes them (createDefaultSvc)."""
    return of_kserve(name, "predictor")


def of_kserve(name: str, component: str) -> tuple[dict[str, str], dict[str, str]]:
    """The same of either component; it has a transformer."""
    version, settings = ServedVersion(folder="1", version="1", sha256="0" * 64), ServiceSettings(looked_up=("temp",))
    made = inference_service(name, "iris", version, "s3://b/p", "image", size=1, replicas=1, service=settings)
    selector = {"app": f"isvc.{name}-{component}"}
    known = {"serving.kserve.io/inferenceservice": name, "component": component}
    return {**made["spec"][component]["labels"], **selector, **known}, selector


def ports_of(template: dict[str, Any]) -> tuple[tuple[str, int, str], ...]:
    return tuple(
        (port["name"], port["containerPort"], port.get("protocol", "TCP"))
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
    )


def service_of(item: dict[str, Any]) -> Service:
    ports = tuple(
        (port["port"], port.get("targetPort", port["port"]), port.get("protocol", "TCP"))
        for port in item["spec"]["ports"]
    )
    metadata, headless = item["metadata"], item["spec"].get("clusterIP") == "None"
    return Service(metadata["name"], metadata["namespace"], item["spec"]["selector"], ports, headless)


def proxy_labels() -> dict[str, str]:
    """Of the proxy as its values have it, which lets viewers in."""
    values = yaml.safe_load((PROJECT / "helm-values/oauth2-proxy.yaml").read_text())
    return {"app.kubernetes.io/name": "oauth2-proxy", **values["podLabels"]}


# The overlay where Dagster's Helm chart takes the place of base/dagster, as k8s/components/dagster-chart says
CHART = (
    ("  - ../../base/dagster\n", ""),
    ("components:\n", "components:\n  - ../../components/dagster-chart\n"),
)
RELEASE = {"app.kubernetes.io/instance": "dagster"}
WEBSERVER = {**RELEASE, "app.kubernetes.io/name": "dagster", "component": "dagster-webserver"}
READ_ONLY = WEBSERVER | {"component": "dagster-webserver-read-only"}
USER_CODE = {**RELEASE, "app.kubernetes.io/name": "dagster-user-deployments", "component": "user-deployments"}


def pods_of_dagsters_chart() -> dict[str, tuple[dict[str, str], tuple[tuple[str, int, str], ...]]]:
    """Labels and named ports as `helm template` makes them of helm-values/dagster.yaml (chart 1.13)."""
    values = yaml.safe_load((PROJECT / "helm-values/dagster.yaml").read_text())
    webserver, daemon = values["dagsterWebserver"], values["dagsterDaemon"]
    [code] = values["dagster-user-deployments"]["deployments"]
    http = (("http", webserver["service"]["port"], "TCP"),)
    return {
        "webserver": (WEBSERVER | webserver["labels"], http),
        "read-only webserver": (READ_ONLY | webserver["labels"], http),
        "daemon": (WEBSERVER | {"component": "dagster-daemon", "deployment": "daemon"} | daemon["labels"], ()),
        "code location": (USER_CODE | {"deployment": code["name"]} | code["labels"], ()),
    }


def services_of_dagsters_chart(namespace: str) -> list[Service]:
    """The ports have no target port, so it is their own number; the API server fills that in."""
    return [
        Service("dagster-webserver", namespace, WEBSERVER, ((3000, 3000, "TCP"),)),
        Service("dagster-webserver-read-only", namespace, READ_ONLY, ((3000, 3000, "TCP"),)),
        Service("mlops-assets", namespace, USER_CODE | {"deployment": "mlops-assets"}, ((3030, 3030, "TCP"),)),
    ]


class World:
    """An overlay in a cluster, with the pods that others make in its namespace and with its neighbours."""

    def __init__(self, objects: list[dict[str, Any]], with_chart: bool = False) -> None:
        [home] = of_kind(objects, "Namespace")
        self.home: str = home["metadata"]["name"]
        self.parties: dict[str, Pod] = {}
        for item in of_kind(objects, "Deployment", "StatefulSet"):
            template = item["spec"]["template"]
            self._add(WORKLOADS[item["metadata"]["name"]], template["metadata"]["labels"], ports_of(template))
        for party, (pod_labels, ports) in pods_of_dagsters_chart().items() if with_chart else ():
            self._add(party, pod_labels, ports)
        self._add("run pod", dagsters_pod("run_worker"))
        self._add("step pod", step("trained_model"))
        self._add("deployment step", step("deployment"))
        self._add("training worker", worker())
        pod, selector = predictor("iris-candidate")
        self._add("predictor", pod, (("http1", 8080, "TCP"), ("grpc", 8081, "TCP")))
        transformer, before_it = of_kserve("iris", "transformer")
        self._add("transformer", transformer, (("http", 8080, "TCP"), ("grpc", 8081, "TCP")))
        self._add("viewers' proxy", proxy_labels())
        self._add("operators' proxy", proxy_labels() | {"mlops.dev/authenticates": "operators"})
        dns = (("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"))
        self._add("cluster DNS", {"k8s-app": "kube-dns"}, dns, "kube-system")
        self._add("caller of models", {"app": "shop"}, (), "shop")
        if of_kind(objects, "PodMonitor"):
            self._add("Prometheus", {"app.kubernetes.io/name": "prometheus"}, (), "monitoring")
        self._add("pod elsewhere", {"app": "kafka"}, (), "kafka")
        names = {
            name: {"kubernetes.io/metadata.name": name}
            for name in ("kube-system", "shop", "kafka", "default", "monitoring")
        }
        names["shop"]["mlops.dev/calls-models"] = "true"
        self.services = [service_of(item) for item in of_kind(objects, "Service")]
        self.services += services_of_dagsters_chart(self.home) if with_chart else []
        self.services += [
            Service("iris-candidate-predictor", self.home, selector, ((80, 8080, "TCP"), (8081, 8081, "TCP"))),
            Service("iris-transformer", self.home, before_it, ((80, 8080, "TCP"), (8081, 8081, "TCP"))),
            Service("kube-dns", "kube-system", {"k8s-app": "kube-dns"}, ((53, "dns", "UDP"), (53, "dns-tcp", "TCP"))),
        ]
        self.api_server = Service("kubernetes", "default", {}, ((443, 443, "TCP"),))
        everybody = list(self.parties.values())
        policies = of_kind(objects, "NetworkPolicy")
        own = {self.home: {"kubernetes.io/metadata.name": self.home}}
        self.cluster = Cluster(names | own, everybody, [*self.services, self.api_server], policies)

    def _add(self, party: str, labels: dict[str, str], ports: Any = (), namespace: str = "") -> None:
        self.parties[party] = Pod(party, namespace or self.home, labels, ports)

    @property
    def at_home(self) -> list[str]:
        return [party for party, pod in self.parties.items() if pod.namespace == self.home]

    def services_before(self, party: str, port: int, protocol: str) -> list[tuple[Service, int]]:
        """Services that lead to a party's port, with the port they listen at."""
        pod = self.parties[party]
        numbers = {name: number for name, number, _ in pod.ports}
        return [
            (service, listens)
            for service in self.services
            if service.namespace == pod.namespace
            and service.selector
            and selects({"matchLabels": dict(service.selector)}, pod.labels)
            for listens, target, spoken in service.ports
            if spoken == protocol and numbers.get(str(target), target) == port
        ]


def table() -> list[tuple[str, str, list[tuple[int | None, str]]]]:
    """Rows of the README: from, to, and ports as (number or None for any, protocol)."""
    text = (PROJECT / "k8s" / "README.md").read_text().partition("## Who talks to whom")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    found: list[tuple[str, str, list[tuple[int | None, str]]]] = []
    for sources, destinations, ports, _ in rows[2:]:
        numbers = [
            (None if number == "any" else int(number), protocol or "TCP")
            for number, protocol in re.findall(r"(any|\d+)(?: (UDP|TCP))?", ports)
        ]
        assert numbers, f"no port in {ports!r}"
        found += [(source, to, numbers) for source in sources.split(", ") for to in destinations.split(", ")]
    return found


def allowed(world: World) -> set[tuple[str, str, int, str]]:
    """The table's connections between the parties of an overlay: from, to, port and protocol."""
    found: set[tuple[str, str, int, str]] = set()
    for source, to, ports in table():
        sources = [source]
        if source.startswith(EVERY_POD):
            without = source.removeprefix(EVERY_POD).removeprefix(" but ").split(" and ")
            sources = [party for party in world.at_home if party not in without]
        for number, protocol in ports:
            open_ports = PORTS if number is None else [(number, protocol)]
            found |= {(party, to, *port) for party in sources for port in open_ports}
    known = {*world.parties, *ADDRESSES, "API server"}
    if "PostgreSQL" in world.parties:
        known.remove("Aurora")
    return {row for row in found if row[0] in known and row[1] in known}


@pytest.fixture(scope="module", params=[*OVERLAYS, "production with Dagster's chart"])
def world(request: pytest.FixtureRequest) -> World:
    overlay, *chart = request.param.split(" ", 1)
    return World(rendered(overlay, *CHART), with_chart=True) if chart else World(rendered(overlay))


def test_the_table_names_parties_that_there_are(world: World) -> None:
    everywhere = (
        World(rendered("test")).parties.keys()
        | World(rendered("production")).parties.keys()
        | ADDRESSES.keys()
        | {"API server"}
    )
    for source, to, _ in table():
        assert source.startswith(EVERY_POD) or source in everywhere, source
        assert to in everywhere, to


def test_what_the_table_says_is_open_between_pods(world: World) -> None:
    """Also with a CNI for which address blocks mean no pods."""
    for source, to, port, protocol in sorted(allowed(world)):
        if to in world.parties:
            ends = world.parties[source], world.parties[to], port, protocol
            assert reaches(world.cluster, *ends, blocks_match_pods=False), (source, to, port, protocol)


def test_what_the_table_says_is_open_by_the_address_of_the_service_on_eks(world: World) -> None:
    through_services = 0
    for source, to, port, protocol in sorted(allowed(world)):
        for service, listens in world.services_before(to, port, protocol) if to in world.parties else []:
            pod = world.parties[source]
            assert reaches_service(world.cluster, pod, service, listens, protocol), (source, service.name, listens)
            through_services += 1
    assert through_services > 20


def test_what_the_table_says_is_open_beyond_the_cluster(world: World) -> None:
    for source, to, port, protocol in sorted(allowed(world)):
        for address in ADDRESSES.get(to, ()):
            assert reaches(world.cluster, world.parties[source], address, port, protocol), (source, address, port)
        if to == "API server":
            api = Address(world.cluster.ip(world.api_server))
            assert reaches(world.cluster, world.parties[source], api, port, protocol), source


def test_nothing_else_is_open_between_pods(world: World) -> None:
    expected = allowed(world)
    for source, pod in world.parties.items():
        for to in world.at_home:
            for port, protocol in PORTS:
                open_ = reaches(world.cluster, pod, world.parties[to], port, protocol)
                assert open_ <= ((source, to, port, protocol) in expected), (source, to, port, protocol)


def test_nothing_else_is_open_by_the_address_of_a_service_on_eks(world: World) -> None:
    expected = allowed(world)
    for source in world.at_home:
        for to in world.parties:
            for port, protocol in PORTS:
                for service, listens in world.services_before(to, port, protocol):
                    open_ = reaches_service(world.cluster, world.parties[source], service, listens, protocol)
                    assert open_ <= ((source, to, port, protocol) in expected), (source, service.name, listens)


def test_nothing_else_leaves_the_namespace(world: World) -> None:
    expected = allowed(world)
    for source in world.at_home:
        for to, addresses in ADDRESSES.items():
            for port, protocol in PORTS:
                for address in addresses:
                    open_ = reaches(world.cluster, world.parties[source], address, port, protocol)
                    # AWS's endpoints may be anywhere; the database is in the VPC, as some of them are
                    kin = {to, "AWS"} if to != "instance metadata" else {to}
                    kin |= {"Aurora"} if to == "AWS" else set()
                    told = any((source, other, port, protocol) in expected for other in kin)
                    assert open_ <= told, (source, to, port)
        for port in (80, 8080, 9092):
            assert not reaches(world.cluster, world.parties[source], world.parties["pod elsewhere"], port), source


def test_no_pod_reaches_the_nodes_credentials(world: World) -> None:
    for source in world.at_home:
        for address in ADDRESSES["instance metadata"]:
            for port, protocol in PORTS:
                assert not reaches(world.cluster, world.parties[source], address, port, protocol), source


def test_with_private_egress_https_stays_in_the_vpc() -> None:
    component = ("components:\n", "components:\n  - ../../components/private-egress\n")
    world = World(rendered("production", component))
    private, *public = ADDRESSES["AWS"]
    api = Address(world.cluster.ip(world.api_server))
    for party in world.at_home:
        pod = world.parties[party]
        assert reaches(world.cluster, pod, private, 443), party
        assert reaches(world.cluster, pod, api, 443), party
        assert not any(reaches(world.cluster, pod, address, 443) for address in public), party


CALLER = Pod("caller", "home", {"role": "caller"})
BACKEND = Pod("backend", "home", {"app": "shop", "tier": "web"}, (("http", 8080, "TCP"),))
BY_NUMBER = Service("by-number", "home", {"app": "shop"}, ((80, 8080, "TCP"),))
BY_NAME = Service("by-name", "home", {"app": "shop"}, ((81, "http", "TCP"),))
WEB = {"matchLabels": {"tier": "web"}}
SHOP = {"matchLabels": {"app": "shop"}}
HAS_APP = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}


@pytest.mark.parametrize(
    ("peer", "service", "port", "pod", "address"),
    [
        pytest.param({"podSelector": SHOP}, BY_NUMBER, 8080, True, True, id="the Service's own selector"),
        pytest.param({"podSelector": SHOP}, BY_NAME, 8080, True, True, id="a target port by name"),
        pytest.param({"podSelector": SHOP}, BY_NAME, "http", True, True, id="a policy's port by name"),
        pytest.param({"podSelector": HAS_APP}, BY_NUMBER, 8080, True, True, id="a label that both have"),
        pytest.param({"podSelector": WEB}, BY_NUMBER, 8080, True, False, id="labels of the pods alone"),
        pytest.param({"podSelector": {}}, BY_NUMBER, 8080, True, True, id="every pod"),
        pytest.param({"namespaceSelector": {}}, BY_NUMBER, 8080, True, True, id="every namespace"),
        pytest.param({"podSelector": SHOP}, BY_NUMBER, 80, False, False, id="the Service's port, not the pod's"),
        pytest.param({"ipBlock": {"cidr": "10.0.0.0/8"}}, BY_NUMBER, 8080, True, False, id="addresses of pods"),
        pytest.param({"ipBlock": {"cidr": "172.16.0.0/12"}}, BY_NUMBER, 80, False, True, id="addresses of Services"),
    ],
)
def test_the_vpc_cni_opens_services_by_their_selector(
    peer: dict[str, Any], service: Service, port: int | str, pod: bool, address: bool
) -> None:
    """As getMatchingServiceClusterIPs and its tests upstream have it."""
    rule = {"to": [peer], "ports": [{"port": port, "protocol": "TCP"}]}
    policy = {
        "metadata": {"namespace": "home"},
        "spec": {"podSelector": {"matchLabels": CALLER.labels}, "policyTypes": ["Egress"], "egress": [rule]},
    }
    cluster = Cluster({"home": {}}, [CALLER, BACKEND], [BY_NUMBER, BY_NAME], [policy])
    [(listens, _, _)] = service.ports

    assert reaches(cluster, CALLER, BACKEND, 8080) is pod
    assert reaches_service(cluster, CALLER, service, listens) is address
