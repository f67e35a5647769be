"""Rules for every pod that the manifests lead to: the restricted Pod Security level, resources, what it refers to."""

from collections.abc import Iterator
from typing import Any

from manifests import Manifests, containers_of

# Volumes that the restricted level allows, https://kubernetes.io/docs/concepts/security/pod-security-standards/.
ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
# Made by people, or by Kubernetes in every namespace; each component that needs one says so.
OUTSIDE = {
    ("Secret", "annlib-s3"),
    ("Secret", "annlib-token"),
    ("ConfigMap", "kube-root-ca.crt"),
}
UNITS = {"": 1, "m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}


def quantity(text: str | int | float) -> float:
    """Returns a Kubernetes quantity such as 200m or 3Gi as a number."""
    number = str(text).rstrip("kKMGim")
    return float(number) * UNITS[str(text)[len(number) :]]


def security_problems(pod: dict[str, Any]) -> Iterator[str]:
    """Yields what the restricted level refuses, and a root file system that can be written."""
    name, spec = pod["metadata"]["name"], pod["spec"]
    of_pod = spec.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{name}: restricted forbids {field}"
    for volume in spec.get("volumes", []):
        for kind in set(volume) - {"name"} - ALLOWED_VOLUMES:
            yield f"{name}: restricted forbids volumes of type {kind}"
    for container in containers_of(pod):
        where = f"{name} container {container['name']}"
        of_container = container.get("securityContext", {})
        effective = {**of_pod, **of_container}
        if effective.get("runAsNonRoot") is not True:
            yield f"{where}: restricted wants runAsNonRoot: true"
        if effective.get("runAsUser", 1) == 0:
            yield f"{where}: restricted forbids user 0"
        if effective.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{where}: restricted wants the seccompProfile RuntimeDefault"
        if of_container.get("allowPrivilegeEscalation") is not False:
            yield f"{where}: restricted wants allowPrivilegeEscalation: false"
        capabilities = of_container.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []):
            yield f"{where}: restricted wants all capabilities dropped"
        if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{where}: restricted forbids adding capabilities"
        if of_container.get("privileged"):
            yield f"{where}: restricted forbids privileged"
        if of_container.get("readOnlyRootFilesystem") is not True:
            yield f"{where}: its root file system can be written"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{where}: restricted forbids hostPort"


def resource_problems(pod: dict[str, Any]) -> Iterator[str]:
    """Yields containers whose memory is not reserved as a whole, and shared memory that is larger than it."""
    name = pod["metadata"]["name"]
    memory_volumes = {
        volume["name"]: volume["emptyDir"].get("sizeLimit")
        for volume in pod["spec"].get("volumes", [])
        if "emptyDir" in volume and volume["emptyDir"].get("medium") == "Memory"
    }
    for container in containers_of(pod):
        where = f"{name} container {container['name']}"
        requests = container.get("resources", {}).get("requests", {})
        limits = container.get("resources", {}).get("limits", {})
        if "cpu" not in requests:
            yield f"{where}: has no request for cpu"
        if "memory" not in requests or requests["memory"] != limits.get("memory"):
            yield f"{where}: requests {requests.get('memory')} of memory, its limit is {limits.get('memory')}"
            continue
        # KubeRay's own init container has the Ray container's mounts, and writes to none of them.
        for mount in [] if container["name"] == "wait-gcs-ready" else container.get("volumeMounts", []):
            size = memory_volumes.get(mount["name"], "0")
            if size is None or quantity(size) >= quantity(limits["memory"]):
                yield f"{where}: {mount['mountPath']} takes {size} of {limits['memory']}"


def reference_problems(pod: dict[str, Any], manifests: Manifests) -> Iterator[str]:
    """Yields volumes, claims, maps, secrets and accounts that are named but not there, and those that nobody uses."""
    name, spec = pod["metadata"]["name"], pod["spec"]
    there = {(each["kind"], each["metadata"]["name"]) for each in manifests} | OUTSIDE
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    mounted: set[str] = set()
    for container in containers_of(pod):
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        for path in {path for path in paths if paths.count(path) > 1}:
            yield f"{name} container {container['name']}: mounts two volumes at {path}"
        for mount in container.get("volumeMounts", []):
            mounted.add(mount["name"])
            if mount["name"] not in volumes:
                yield f"{name} container {container['name']}: mounts {mount['name']}, which is no volume of the pod"
    for volume in sorted(volumes - mounted):
        yield f"{name}: nothing mounts the volume {volume}"
    for reference in _references(pod):
        if reference not in there:
            yield f"{name}: refers to {'/'.join(reference)}, which is not there"
    if spec.get("automountServiceAccountToken") is not False:
        yield f"{name}: gets a token for the API server (automountServiceAccountToken)"
    if spec.get("enableServiceLinks") is not False:
        yield f"{name}: gets variables of every Service (enableServiceLinks)"


def _references(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    spec = pod["spec"]
    yield "ServiceAccount", spec.get("serviceAccountName", "default")
    for volume in spec.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            if "configMap" in source:
                yield "ConfigMap", source["configMap"]["name"]
            if "secret" in source:
                yield "Secret", source["secret"].get("secretName", source["secret"].get("name"))
    for container in containers_of(pod):
        for source in container.get("envFrom", []):
            for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                if key in source:
                    yield kind, source[key]["name"]
        for variable in container.get("env", []):
            secret = variable.get("valueFrom", {}).get("secretKeyRef", {})
            # The token's Secret is made by the operator where no name is given.
            if secret and not secret.get("optional"):
                yield "Secret", secret["name"]


def requests_of(pod: dict[str, Any]) -> dict[str, float]:
    """Returns what the scheduler reserves: containers and sidecars, or an init container and the sidecars before it."""
    totals = {}
    for resource in ("cpu", "memory"):
        running = sum(_request(container, resource) for container in pod["spec"]["containers"])
        sidecars = starting = 0.0
        for container in pod["spec"].get("initContainers", []):
            if container.get("restartPolicy") == "Always":
                sidecars += _request(container, resource)
                starting = max(starting, sidecars)
            else:
                starting = max(starting, sidecars + _request(container, resource))
        totals[resource] = max(running + sidecars, starting)
    return totals


def _request(container: dict[str, Any], resource: str) -> float:
    return quantity(container.get("resources", {}).get("requests", {}).get(resource, 0))
