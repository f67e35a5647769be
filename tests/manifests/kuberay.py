"""The pods that Kubernetes and the KubeRay operator 1.7 make of manifests, and what that operator refuses.

Follows the operator's sources: ray-operator/controllers/ray/common/pod.go and job.go, utils/validation.go.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

from manifests import Manifests

# What the operator and DNS ask for on a cluster's node, beside ours: KubeRay's chart, and kubeadm's two replicas.
OPERATOR_REQUESTS = {"cpu": "100m", "memory": "512Mi"}
DNS_REQUESTS = {"cpu": "200m", "memory": "140Mi"}


def pods(manifests: Manifests) -> list[dict[str, Any]]:
    """Returns a Pod for each that a document asks for, named KIND/NAME/ROLE, as often as it has replicas."""
    made = []
    for document in manifests:
        kind, name = document["kind"], document["metadata"]["name"]
        spec = document.get("spec") or {}
        if kind in ("Deployment", "Job"):
            made += [_pod(spec["template"], f"{kind}/{name}", document)] * spec.get("replicas", 1)
        elif kind == "RayCluster":
            made += _ray_pods(spec, f"{kind}/{name}", name, document)
        elif kind == "RayJob":
            cluster = f"{name}-abcde"
            made += _ray_pods(spec["rayClusterSpec"], f"{kind}/{name}", cluster, document)
            made.append(_submitter(spec, name, cluster, document))
    return made


def _pod(template: dict[str, Any], name: str, document: dict[str, Any]) -> dict[str, Any]:
    metadata = {**template.get("metadata", {}), "name": name, "namespace": document["metadata"].get("namespace")}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(template["spec"])}


def _ray_pods(spec: dict[str, Any], name: str, cluster: str, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    head = _ray_pod(spec["headGroupSpec"]["template"], f"{name}/head", cluster, "head", document)
    if spec.get("enableInTreeAutoscaling"):
        _add_autoscaler(head, spec.get("autoscalerOptions", {}))
    _add_token(head, spec, cluster)
    yield head
    for group in spec.get("workerGroupSpecs", []):
        worker = _ray_pod(group["template"], f"{name}/{group['groupName']}", cluster, "worker", document)
        ray = worker["spec"]["containers"][0]
        # KubeRay waits for the head with the image, variables, mounts and security context of the Ray container.
        waiting = {
            key: copy.deepcopy(ray[key]) for key in ("image", "env", "volumeMounts", "securityContext") if key in ray
        }
        limits = {"cpu": "200m", "memory": "256Mi"}
        waiting |= {"name": "wait-gcs-ready", "resources": {"requests": limits, "limits": limits}}
        worker["spec"].setdefault("initContainers", []).append(waiting)
        _add_token(worker, spec, cluster)
        yield from [worker] * group["maxReplicas"]


def _ray_pod(
    template: dict[str, Any], name: str, cluster: str, node_type: str, document: dict[str, Any]
) -> dict[str, Any]:
    pod = _pod(template, name, document)
    pod["metadata"]["labels"] = {
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
        **pod["metadata"].get("labels", {}),
        "ray.io/is-ray-node": "yes",
        "ray.io/node-type": node_type,
        "ray.io/cluster": cluster,
    }
    ray = pod["spec"]["containers"][0]
    mounted = {mount["mountPath"] for mount in ray.get("volumeMounts", [])}
    if "/dev/shm" not in mounted:
        pod["spec"].setdefault("volumes", []).append({"name": "shared-mem", "emptyDir": {"medium": "Memory"}})
        ray.setdefault("volumeMounts", []).append({"name": "shared-mem", "mountPath": "/dev/shm"})
    return pod


def _add_autoscaler(head: dict[str, Any], options: dict[str, Any]) -> None:
    container = {
        "name": "autoscaler",
        "image": head["spec"]["containers"][0]["image"],
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}},
    }
    taken = ("resources", "securityContext", "env", "envFrom", "volumeMounts", "image", "imagePullPolicy")
    container |= {key: copy.deepcopy(options[key]) for key in taken if key in options}
    ray = head["spec"]["containers"][0]
    for each in (ray, container):
        mounts = each.setdefault("volumeMounts", [])
        if not any(mount["mountPath"] == "/tmp/ray" for mount in mounts):
            mounts.append({"name": "ray-logs", "mountPath": "/tmp/ray"})
    if not any(volume["name"] == "ray-logs" for volume in head["spec"].get("volumes", [])):
        head["spec"].setdefault("volumes", []).append({"name": "ray-logs", "emptyDir": {}})
    head["spec"]["containers"].append(container)


def _add_token(pod: dict[str, Any], cluster_spec: dict[str, Any], cluster: str) -> None:
    options = cluster_spec.get("authOptions", {})
    if options.get("mode") != "token":
        return
    reference = {"name": options.get("secretName") or cluster, "key": "auth_token"}
    generated = not options.get("secretName")
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
        if container["name"] in ("ray-head", "ray-worker", "submitter", "autoscaler", "wait-gcs-ready"):
            container.setdefault("env", []).extend(
                [
                    {"name": "RAY_AUTH_MODE", "value": "token"},
                    {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {**reference, "optional": generated}}},
                ]
            )


def _submitter(spec: dict[str, Any], name: str, cluster: str, document: dict[str, Any]) -> dict[str, Any]:
    default = {
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "ray-job-submitter",
                    "image": spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"],
                    "resources": {
                        "requests": {"cpu": "500m", "memory": "200Mi"},
                        "limits": {"cpu": "1", "memory": "1Gi"},
                    },
                }
            ],
        }
    }
    pod = _pod(spec.get("submitterPodTemplate", default), f"RayJob/{name}/submitter", document)
    pod["metadata"]["labels"] = {
        **pod["metadata"].get("labels", {}),
        "ray.io/originated-from-cr-name": name,
        "ray.io/originated-from-crd": "RayJob",
        "app.kubernetes.io/created-by": "kuberay-operator",
    }
    _add_token(pod, spec["rayClusterSpec"], cluster)
    return pod


def refusals(manifests: Manifests) -> Iterator[str]:
    """Yields what the operator's own validation would refuse, after the API server has taken it."""
    for document in [*manifests.of("RayJob"), *manifests.of("RayCluster")]:
        name = document["metadata"]["name"]
        if len(name) > 47 or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
            yield f"{name}: the operator takes names of up to 47 lower-case letters, digits and dashes"
        spec = document["spec"]
        if document["kind"] == "RayJob":
            yield from (f"{name}: {problem}" for problem in _job_refusals(spec))
            spec = spec["rayClusterSpec"]
        yield from (f"{name}: {problem}" for problem in _cluster_refusals(spec))


def _job_refusals(spec: dict[str, Any]) -> Iterator[str]:
    shuts_down = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("ttlSecondsAfterFinished", 0) and not shuts_down:
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if spec.get("suspend") and not shuts_down:
        yield "suspend needs shutdownAfterJobFinishes"
    if spec.get("deletionStrategy", {}).get("deletionRules") and shuts_down:
        yield "deletionRules and shutdownAfterJobFinishes exclude each other"
    if spec.get("clusterSelector") and spec.get("backoffLimit", 0):
        yield "clusterSelector excludes backoffLimit"
    if spec.get("activeDeadlineSeconds", 1) <= 0:
        yield "activeDeadlineSeconds has to be above 0"
    template = spec.get("submitterPodTemplate", {}).get("spec", {})
    if template and template.get("restartPolicy") not in ("Never", "OnFailure"):
        yield "the submitter is a Job: its restartPolicy has to be Never or OnFailure"


def _cluster_refusals(spec: dict[str, Any]) -> Iterator[str]:
    scales = spec.get("enableInTreeAutoscaling", False)
    version = tuple(int(part) for part in spec.get("rayVersion", "0").split("."))
    if spec.get("authOptions", {}).get("mode") == "token" and version < (2, 52, 0):
        yield "authOptions need a rayVersion of 2.52.0 or newer"
    groups = [("head", spec["headGroupSpec"])]
    groups += [(group["groupName"], group) for group in spec.get("workerGroupSpecs", [])]
    for group_name, group in groups:
        if "labels" in group.get("rayStartParams", {}):
            yield f"{group_name}: labels are no rayStartParams"
        if scales and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{group_name}: restartPolicy has to be Never with autoscaler v2"
    for group in spec.get("workerGroupSpecs", []):
        if not scales and not group.get("minReplicas", -1) <= group.get("replicas", 0) <= group.get("maxReplicas", -1):
            yield f"{group['groupName']}: expected minReplicas <= replicas <= maxReplicas"
