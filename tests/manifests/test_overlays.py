"""Every overlay, and every component on one, is what Kubernetes, the KubeRay operator and the image take."""

from pathlib import Path

import kuberay
import network
import pod_rules
import pytest
import rules
import schemas
from manifests import COMPONENTS, K8S, OVERLAYS, VARIANTS, Manifests, build, build_with

GIB = 2**30


@pytest.fixture(params=[*OVERLAYS, *VARIANTS], name="documents")
def _documents(request: pytest.FixtureRequest) -> Manifests:
    if request.param in OVERLAYS:
        return build(request.param)
    overlay, components = VARIANTS[request.param]
    return build_with(overlay, *components)


def test_nothing_is_wrong(documents: Manifests, tmp_path: Path) -> None:
    assert rules.problems(documents, tmp_path) == []


def test_kuberay_takes_its_resources(documents: Manifests, kuberay_schemas: Path) -> None:
    assert list(schemas.kuberay_problems(documents, kuberay_schemas)) == []


def test_every_component_is_tried() -> None:
    in_variants = {component for _, components in VARIANTS.values() for component in components}
    in_overlays = {
        component for component in COMPONENTS for overlay in OVERLAYS if f"components/{component}" in _text(overlay)
    }
    assert set(COMPONENTS) == in_variants | in_overlays


def _text(overlay: str) -> str:
    return (K8S / "overlays" / overlay / "kustomization.yaml").read_text()


@pytest.mark.parametrize("overlay", ["cpu", "local", "dev"])
def test_it_fits_on_a_node_of_two_cpus_and_16_gib_beside_operator_and_dns(overlay: str) -> None:
    requests = [pod_rules.requests_of(pod) for pod in kuberay.pods(build(overlay))]
    for beside in (kuberay.OPERATOR_REQUESTS, kuberay.DNS_REQUESTS):
        requests.append({name: pod_rules.quantity(amount) for name, amount in beside.items()})
    # kind runs its control plane, which asks for 750m of CPU, on the same node.
    assert sum(each["cpu"] for each in requests) <= 2 - 0.75
    assert sum(each["memory"] for each in requests) <= 12 * GIB


def test_the_quota_lets_a_run_and_one_more_job_in() -> None:
    documents = build_with("cpu", "quota")
    hard = {key: pod_rules.quantity(value) for key, value in documents.one("ResourceQuota")["spec"]["hard"].items()}
    pods = kuberay.pods(documents)
    requests = [pod_rules.requests_of(pod) for pod in pods]
    assert sum(each["cpu"] for each in requests) <= hard["requests.cpu"]
    assert sum(each["memory"] for each in requests) <= hard["requests.memory"]
    assert len(pods) + 3 <= hard["pods"]


def test_only_the_autoscaler_gets_a_token_and_the_way_to_the_api_server() -> None:
    documents = build_with("cpu", "autoscaling")
    pods = {pod["metadata"]["name"].rsplit("/", 1)[1]: pod for pod in kuberay.pods(documents)}
    with_token = {
        container["name"]
        for pod in pods.values()
        for container in pod["spec"]["containers"]
        for mount in container["volumeMounts"]
        if mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    }
    assert with_token == {"autoscaler"}
    peers = network.peers(documents)
    reaches = {role for role, peer in peers.items() if network.allows(documents, peer, network.INTERNET, 443)}
    assert reaches == {"head"}


@pytest.mark.parametrize(
    ("component", "source", "target", "port"),
    [
        ("s3", "head", network.INTERNET, 443),
        ("s3", "worker", network.INTERNET, 443),
        ("s3", "tensorboard", network.INTERNET, 443),
        ("data-prep", "data-prep", network.INTERNET, 443),
        ("monitoring", network.PROMETHEUS, "worker", 8080),
        ("monitoring", network.PROMETHEUS, "head", 8080),
    ],
)
def test_a_component_opens_the_way_it_needs(
    component: str, source: str | network.Peer, target: str | network.Peer, port: int
) -> None:
    def reaches(documents: Manifests) -> bool:
        peers = network.peers(documents)
        ends = [peers[end] if isinstance(end, str) else end for end in (source, target)]
        return network.allows(documents, *ends, port)

    opened = build_with("cpu", component)
    assert reaches(opened)
    opened[:] = [each for each in opened if each not in _added_policies(opened)]
    assert not reaches(opened)


def _added_policies(documents: Manifests) -> list[dict[str, object]]:
    names = {each["metadata"]["name"] for each in build("cpu").of("NetworkPolicy")}
    return [each for each in documents.of("NetworkPolicy") if each["metadata"]["name"] not in names]
