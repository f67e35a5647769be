"""All that is checked of the documents of one overlay, as a list of problems; an empty one is what the tests want."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import entry_points
import kuberay
import network
import pod_rules
import schemas
from manifests import ROOT, Manifests, containers_of, walk
from network import DNS, IMPOSTOR, INTERNET, METADATA, NEIGHBOUR, OPERATOR, STRANGER

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RAY = re.search(r"^ray\[?.*?==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.M)


def problems(manifests: Manifests, directory: Path) -> list[str]:
    """Returns all problems of the documents, but those of KubeRay's schemas, which are not part of the checkout."""
    refused = list(schemas.kubernetes_problems(manifests))
    if refused:
        return refused  # Nothing is made of such documents.
    pods = kuberay.pods(manifests)
    found = [
        *schemas.kubernetes_problems(schemas.expanded(pods)),
        *kuberay.refusals(manifests),
        *entry_points.problems(manifests, directory),
        *network.selector_problems(manifests),
        *_flow_problems(manifests),
        *_port_problems(manifests),
        *_version_problems(manifests),
        *_run_problems(manifests),
        *_namespace_problems(manifests),
        *_secret_problems(manifests),
    ]
    for pod in pods:
        found += pod_rules.security_problems(pod)
        found += pod_rules.resource_problems(pod)
        found += pod_rules.reference_problems(pod, manifests)
    return sorted(set(found))


def _flow_problems(manifests: Manifests) -> Iterator[str]:
    pods = network.peers(manifests)
    head, worker, board = pods.get("head"), pods.get("worker"), pods.get("tensorboard")
    wanted, unwanted = [], [(STRANGER, pod, 8265) for pod in pods.values()]
    for pod in pods.values():
        unwanted += [(pod, METADATA, 80), (pod, STRANGER, 443), (NEIGHBOUR, pod, 8265), (pod, INTERNET, 80)]
        if not network.allows(manifests, pod, DNS, 53, "UDP"):
            yield f"{pod.name}: cannot ask the cluster's DNS"
    if head and worker:
        wanted += [(worker, head, 6379), (head, worker, 40123), (worker, worker, 40123), (OPERATOR, head, 8265)]
        unwanted += [(IMPOSTOR, head, 8265), (OPERATOR, head, 6379), (OPERATOR, worker, 8265), (STRANGER, head, 6379)]
    if head and "submitter" in pods:
        wanted += [(pods["submitter"], head, 8265)]
        unwanted += [(pods["submitter"], head, 6379), (pods["submitter"], INTERNET, 443)]
    if board and head:
        unwanted += [(STRANGER, board, 6006), (NEIGHBOUR, board, 6006), (board, head, 8265), (head, board, 6006)]
    for source, target, port in wanted:
        if not network.allows(manifests, source, target, port):
            yield f"{source.name} cannot reach {target.name} on port {port}"
    for source, target, port in unwanted:
        if network.allows(manifests, source, target, port):
            yield f"{source.name} can reach {target.name} on port {port}"


def _port_problems(manifests: Manifests) -> Iterator[str]:
    wanted = {"head": {"gcs-server": 6379, "dashboard": 8265, "metrics": 8080}, "worker": {"metrics": 8080}}
    for pod in kuberay.pods(manifests):
        role = pod["metadata"]["name"].rsplit("/", 1)[1]
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0].get("ports", [])}
        for name, port in wanted.get(role, {}).items():
            if ports.get(name) != port:
                yield f"{pod['metadata']['name']}: port {name} is {ports.get(name)}, Ray's is {port}"
        for container in pod["spec"]["containers"]:
            command = container.get("command", [])
            if "--port" in command and "http" in ports and command[command.index("--port") + 1] != str(ports["http"]):
                yield f"{pod['metadata']['name']}: {command} serves on another port than {ports['http']}"


def _version_problems(manifests: Manifests) -> Iterator[str]:
    assert RAY is not None
    pinned = next(each for each in PROJECT["dependencies"] if each.startswith("ray"))
    for document in [*manifests.of("RayJob"), *manifests.of("RayCluster")]:
        spec = document["spec"].get("rayClusterSpec", document["spec"])
        version = spec.get("rayVersion", "")
        if version != RAY[1] or not version.startswith(pinned.split("==")[1].removesuffix("*")):
            yield f"{document['metadata']['name']}: rayVersion {version}, the lock file has {RAY[1]}"
    for pod in kuberay.pods(manifests):
        for container in containers_of(pod):
            image, _, tag = container["image"].partition(":")
            where = f"{pod['metadata']['name']} container {container['name']}"
            if image != "annlib" or tag.removesuffix("-gpu") != PROJECT["version"]:
                yield f"{where}: image {container['image']}, this is annlib:{PROJECT['version']}"
            if tag.endswith("-gpu") != ("nvidia.com/gpu" in container.get("resources", {}).get("limits", {})) and (
                container["name"] == "ray-worker"
            ):
                yield f"{where}: image {container['image']} and its GPUs do not go together"


def _run_problems(manifests: Manifests) -> Iterator[str]:
    for document in [*manifests.of("RayJob"), *manifests.of("RayCluster")]:
        spec, name = document["spec"], document["metadata"]["name"]
        cluster = spec.get("rayClusterSpec", spec)
        if cluster.get("authOptions", {}).get("mode") != "token":
            yield f"{name}: whoever reaches port 8265 runs code (authOptions)"
        if cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
            yield f"{name}: training may be placed on the head (num-cpus)"
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
            pod = group["template"]["spec"]
            shared = next((each for each in pod["volumes"] if each["name"] == "shared-memory"), {"emptyDir": {}})
            store = group["rayStartParams"].get("object-store-memory", "0")
            size = shared["emptyDir"].get("sizeLimit", "0")
            if not 0 < pod_rules.quantity(store) < pod_rules.quantity(size):
                yield f"{name}: an object store of {store} bytes in {size} of shared memory"
            hook = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["0"])
            # Starting Python takes seconds on a busy node, and the end of Ray comes after the hook.
            if not 0 < int(hook[-1]) <= pod.get("terminationGracePeriodSeconds", 30) - 15:
                yield f"{name}: preStop {hook} does not end within terminationGracePeriodSeconds"
        if document["kind"] == "RayJob":
            for field in ("activeDeadlineSeconds", "ttlSecondsAfterFinished", "backoffLimit"):
                if field not in spec:
                    yield f"{name}: has no {field}"
            for budget in manifests.of("PodDisruptionBudget"):
                if "minAvailable" not in budget["spec"]:
                    yield f"PodDisruptionBudget/{budget['metadata']['name']}: only minAvailable works for Ray's pods"


def _namespace_problems(manifests: Manifests) -> Iterator[str]:
    (namespace,) = manifests.of("Namespace")
    if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace does not enforce the restricted Pod Security level"
    for document in manifests:
        if document["kind"] not in ("Namespace", "PersistentVolume") and (
            document["metadata"].get("namespace") != namespace["metadata"]["name"]
        ):
            yield f"{document['kind']}/{document['metadata']['name']}: is not in the namespace"
    for pod in kuberay.pods(manifests):
        board = pod["metadata"]["name"].endswith("/tensorboard")
        for container in containers_of(pod):
            for mount in container.get("volumeMounts", []):
                if board and mount["name"] == "annlib" and not mount.get("readOnly"):
                    yield f"{pod['metadata']['name']}: may write to the volume"


def _secret_problems(manifests: Manifests) -> Iterator[str]:
    """No document holds a secret: neither a Secret nor something that looks like a key or a password."""
    for document in manifests:
        name = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] == "Secret":
            yield f"{name}: secrets are made by the operator or by people, not by a file"
        for path, value in walk(document):
            if isinstance(value, str) and re.search(r"(?i)(secret_access_key|password|auth_token)\W*[:=]\s*\S", value):
                yield f"{name}: {path} looks like a secret"
            is_variable = isinstance(value, dict) and isinstance(value.get("value"), str)
            if is_variable and re.search(r"(?i)key|token|password", str(value.get("name", ""))):
                yield f"{name}: {path} has a secret as its value"
