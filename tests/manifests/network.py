"""Decides as a network plug-in does what the NetworkPolicies let through, and knows what they have to."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import kuberay
from manifests import Manifests

NAMESPACE = "annlib"


@dataclass(frozen=True)
class Peer:
    """A pod in a namespace, or an address outside of the cluster."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = NAMESPACE
    address: str | None = None


OPERATOR = Peer("operator", {"app.kubernetes.io/component": "kuberay-operator"}, "kuberay-system")
DNS = Peer("dns", {"k8s-app": "kube-dns"}, "kube-system")
STRANGER = Peer("a pod of another namespace", {"app": "stranger"}, "elsewhere")
IMPOSTOR = Peer("a pod labelled as the operator", dict(OPERATOR.labels), "elsewhere")
NEIGHBOUR = Peer("a pod of this namespace", {"app": "neighbour"})
PROMETHEUS = Peer("prometheus", {"app.kubernetes.io/name": "prometheus"}, "monitoring")
INTERNET = Peer("the internet", namespace="", address="203.0.113.7")
METADATA = Peer("the instance's metadata", namespace="", address="169.254.169.254")


def peers(manifests: Manifests) -> dict[str, Peer]:
    """Returns the pods by their role: head, worker, submitter, tensorboard, data-prep."""
    found = {}
    for pod in kuberay.pods(manifests):
        role = pod["metadata"]["name"].rsplit("/", 1)[1]
        found[role] = Peer(pod["metadata"]["name"], pod["metadata"].get("labels", {}))
    return found


def allows(manifests: Manifests, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Returns whether a connection gets out of its source and into its target."""
    policies = manifests.of("NetworkPolicy")
    return _passes(policies, "Egress", source, target, port, protocol) and _passes(
        policies, "Ingress", target, source, port, protocol
    )


def _passes(policies: list[dict[str, Any]], direction: str, pod: Peer, other: Peer, port: int, protocol: str) -> bool:
    if pod.namespace != NAMESPACE:
        return True  # Policies of other namespaces are not ours.
    selecting = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], pod.labels)
    ]
    peers_key = "to" if direction == "Egress" else "from"
    return not selecting or any(
        _has_port(rule.get("ports"), port, protocol) and _has_peer(rule.get(peers_key), other)
        for spec in selecting
        for rule in spec.get(direction.lower(), [])
    )


def _has_port(ports: list[dict[str, Any]] | None, port: int, protocol: str) -> bool:
    return not ports or any(
        each.get("port") in (None, port) and each.get("protocol", "TCP") == protocol for each in ports
    )


def _has_peer(candidates: list[dict[str, Any]] | None, peer: Peer) -> bool:
    return not candidates or any(_matches(candidate, peer) for candidate in candidates)


def _matches(candidate: dict[str, Any], peer: Peer) -> bool:
    if "ipBlock" in candidate:
        if peer.address is None:
            return False
        address = ipaddress.ip_address(peer.address)
        blocks = [candidate["ipBlock"]["cidr"], *candidate["ipBlock"].get("except", [])]
        inside, *excepted = [address in ipaddress.ip_network(block) for block in blocks]
        return inside and not any(excepted)
    if peer.address is not None:
        return False
    if "namespaceSelector" in candidate:
        if not _selects(candidate["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != NAMESPACE:
        return False
    return _selects(candidate.get("podSelector", {}), peer.labels)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        value, operator = labels.get(expression["key"]), expression["operator"]
        fits = {
            "In": value in expression.get("values", []),
            "NotIn": value not in expression.get("values", []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not fits[operator]:
            return False
    return True


def selector_problems(manifests: Manifests) -> Iterator[str]:
    """Yields selectors of Services and budgets that match no pod, and Service ports that their pods lack."""
    pods = kuberay.pods(manifests)
    for service in manifests.of("Service"):
        name = service["metadata"]["name"]
        labels = service["spec"]["selector"]
        chosen = [pod for pod in pods if _selects({"matchLabels": labels}, pod["metadata"].get("labels", {}))]
        if not chosen:
            yield f"Service/{name}: selects no pod"
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for pod in chosen:
                ports = [each for container in pod["spec"]["containers"] for each in container.get("ports", [])]
                if not any(target in (each.get("name"), each["containerPort"]) for each in ports):
                    yield f"Service/{name}: port {port['port']} leads to {target}, which no container has"
