"""Who reaches whom under NetworkPolicies: as Kubernetes defines it, and as Amazon's VPC CNI does for Services.

Kubernetes judges a connection between pods, after kube-proxy has put a pod's address in the place of a Service's.
The VPC CNI filters at the pod's own interface, where the destination is still the ClusterIP. Its controller opens a
ClusterIP only where a policy's pod selector matches the selector of the Service, taken as labels
(aws/amazon-network-policy-controller-k8s v1.1.7, pkg/resolvers/endpoints.go, getMatchingServiceClusterIPs).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VPC = ipaddress.ip_network("10.1.0.0/16")
SERVICES = ipaddress.ip_network("172.20.0.0/16")


@dataclass(frozen=True)
class Pod:
    """A pod; `ports` are its named ones, as (name, number, protocol)."""

    name: str
    namespace: str
    labels: Mapping[str, str] = field(hash=False)
    ports: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True)
class Address:
    """An address that no pod of the cluster has."""

    ip: str


@dataclass(frozen=True)
class Service:
    """A Service; `ports` are (port, target port, protocol), and a target port may be a name."""

    name: str
    namespace: str
    selector: Mapping[str, str] = field(hash=False)
    ports: tuple[tuple[int, int | str, str], ...]
    headless: bool = False


@dataclass
class Cluster:
    """Namespaces by name with their labels, and what is in them."""

    namespaces: dict[str, dict[str, str]]
    pods: list[Pod]
    services: list[Service]
    policies: list[dict[str, Any]]

    def ip(self, party: Pod | Address | Service) -> str:
        """The address: of a pod in the VPC, as on EKS, of a Service in the range of ClusterIPs."""
        if isinstance(party, Address):
            return party.ip
        if isinstance(party, Pod):
            return str(VPC[10 + self.pods.index(party)])
        return str(SERVICES[10 + self.services.index(party)])


def reaches(
    cluster: Cluster,
    source: Pod,
    destination: Pod | Address,
    port: int,
    protocol: str = "TCP",
    *,
    blocks_match_pods: bool = True,
) -> bool:
    """Whether a connection is allowed by Kubernetes' own semantics, at both of its ends.

    CNIs differ in whether an address block of a policy means pods too: on EKS it does, with Cilium it does not.
    """
    return _egress(cluster, source, destination, port, protocol, blocks_match_pods) and (
        isinstance(destination, Address) or _ingress(cluster, source, destination, port, protocol, blocks_match_pods)
    )


def reaches_service(cluster: Cluster, source: Pod, service: Service, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection to a Service's own port arrives where the VPC CNI enforces the policies."""
    backends = [pod for pod in cluster.pods if _behind(service, pod)]
    [target] = [target for listens, target, spoken in service.ports if (listens, spoken) == (port, protocol)]
    if service.headless:
        return any(
            reaches(cluster, source, pod, number, protocol)
            for pod in backends
            if (number := _number(pod, target, protocol)) is not None
        )
    own = _policies_of(cluster, source, "Egress")
    rules = [rule for policy in own for rule in policy["spec"].get("egress") or []]
    opened = not own or any(_opens(cluster, source, rule, service, port, protocol) for rule in rules)
    return opened and any(
        _ingress(cluster, source, pod, number, protocol, True)
        for pod in backends
        if (number := _number(pod, target, protocol)) is not None
    )


def selects(selector: dict[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one and none at all match everything.

    Raises:
        ValueError: an operator that Kubernetes does not know.
    """
    selector = selector or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], expression.get("values", [])
        match expression["operator"]:
            case "In":
                matches = labels.get(key) in values
            case "NotIn":
                matches = labels.get(key) not in values
            case "Exists":
                matches = key in labels
            case "DoesNotExist":
                matches = key not in labels
            case operator:
                raise ValueError(f"{operator} is no operator of a label selector")
        if not matches:
            return False
    return True


def _policies_of(cluster: Cluster, pod: Pod, direction: str) -> list[dict[str, Any]]:
    return [
        policy
        for policy in cluster.policies
        if policy["metadata"]["namespace"] == pod.namespace
        and direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], pod.labels)
    ]


def _egress(
    cluster: Cluster, source: Pod, destination: Pod | Address, port: int, protocol: str, blocks_match_pods: bool
) -> bool:
    own = _policies_of(cluster, source, "Egress")
    target = destination if isinstance(destination, Pod) else None
    return not own or any(
        _port_matches(rule, target, port, protocol)
        and _peer_matches(cluster, source.namespace, rule.get("to"), destination, blocks_match_pods)
        for policy in own
        for rule in policy["spec"].get("egress") or []
    )


def _ingress(
    cluster: Cluster, source: Pod, destination: Pod, port: int, protocol: str, blocks_match_pods: bool
) -> bool:
    own = _policies_of(cluster, destination, "Ingress")
    return not own or any(
        _port_matches(rule, destination, port, protocol)
        and _peer_matches(cluster, destination.namespace, rule.get("from"), source, blocks_match_pods)
        for policy in own
        for rule in policy["spec"].get("ingress") or []
    )


def _peer_matches(
    cluster: Cluster,
    home: str,
    peers: list[dict[str, Any]] | None,
    party: Pod | Address,
    blocks_match_pods: bool,
) -> bool:
    for peer in peers or []:
        if "ipBlock" in peer:
            if (isinstance(party, Address) or blocks_match_pods) and _in_block(cluster.ip(party), peer["ipBlock"]):
                return True
        elif (
            isinstance(party, Pod)
            and party.namespace in _namespaces(cluster, home, peer)
            and selects(peer.get("podSelector"), party.labels)
        ):
            return True
    return not peers


def _namespaces(cluster: Cluster, home: str, peer: dict[str, Any]) -> list[str]:
    if "namespaceSelector" not in peer:
        return [home]
    return [name for name, labels in cluster.namespaces.items() if selects(peer["namespaceSelector"], labels)]


def _in_block(ip: str, block: dict[str, Any]) -> bool:
    address = ipaddress.ip_address(ip)
    outside = [ipaddress.ip_network(cidr) for cidr in block.get("except", [])]
    return address in ipaddress.ip_network(block["cidr"]) and not any(address in network for network in outside)


def _port_matches(rule: dict[str, Any], destination: Pod | None, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return not ports or any(_one_port_matches(given, destination, port, protocol) for given in ports)


def _one_port_matches(given: dict[str, Any], destination: Pod | None, port: int, protocol: str) -> bool:
    if given.get("protocol", "TCP") != protocol:
        return False
    if "port" not in given:
        return True
    if isinstance(given["port"], str):
        return destination is not None and _number(destination, given["port"], protocol) == port
    return given["port"] <= port <= given.get("endPort", given["port"])


def _number(pod: Pod, port: int | str, protocol: str) -> int | None:
    """A port of a pod, which may be given by name."""
    if isinstance(port, int):
        return port
    return next((number for name, number, spoken in pod.ports if (name, spoken) == (port, protocol)), None)


# ---- what the VPC CNI's controller makes of an egress rule ----


def _behind(service: Service, pod: Pod) -> bool:
    labels = service.selector.items()
    return pod.namespace == service.namespace and bool(labels) and labels <= dict(pod.labels).items()


def _opens(cluster: Cluster, source: Pod, rule: dict[str, Any], service: Service, port: int, protocol: str) -> bool:
    """Whether a rule opens a Service's ClusterIP at a port."""
    ports = rule.get("ports") or []
    if not rule.get("to"):
        return _port_matches(rule, None, port, protocol)
    for peer in rule["to"]:
        if "ipBlock" in peer:
            if _in_block(cluster.ip(service), peer["ipBlock"]) and _port_matches(rule, None, port, protocol):
                return True
        # The Service's selector stands for the labels of its pods
        elif (
            service.namespace in _namespaces(cluster, source.namespace, peer)
            and selects(peer.get("podSelector"), service.selector)
            and (not ports or (port, protocol) in _opened_ports(cluster, service, ports))
        ):
            return True
    return False


def _opened_ports(cluster: Cluster, service: Service, ports: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """The Service's ports that lead to the policy's ports."""
    backends = [pod for pod in cluster.pods if _behind(service, pod)]
    for given in ports:
        protocol = given.get("protocol", "TCP")
        same = [(listens, target) for listens, target, spoken in service.ports if spoken == protocol]
        if "port" not in given:
            yield from ((listens, protocol) for listens, _ in same)
            continue
        wanted = given["port"]
        listens = next((listens for listens, target in same if target == wanted), None)
        if listens is None:
            listens = next(
                (
                    listens
                    for pod in backends
                    for listens, target in same
                    if (number := _number(pod, wanted, protocol)) is not None
                    and number == _number(pod, target, protocol)
                ),
                None,
            )
        named = isinstance(wanted, str)
        if listens is not None and (named or not _leads_elsewhere(backends, dict(same)[listens], protocol, ports)):
            yield listens, protocol


def _leads_elsewhere(backends: list[Pod], target: int | str, protocol: str, ports: list[dict[str, Any]]) -> bool:
    """Whether a named target port is, in one of the pods, a port that the policy does not open."""
    numbers = [_number(pod, target, protocol) for pod in backends] if isinstance(target, str) else []
    return any(
        not any(_one_port_matches(given, None, number, protocol) for given in ports)
        for number in numbers
        if number is not None
    )
