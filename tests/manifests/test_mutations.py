"""Deliberate mistakes, each of which the rules have to find: a check that finds nothing checks nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rules
import schemas
from manifests import Manifests, build

Change = Callable[[Manifests], object]


def spec(documents: Manifests) -> Any:
    return documents.one("RayJob")["spec"]


def head(documents: Manifests) -> Any:
    return spec(documents)["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]


def group(documents: Manifests) -> Any:
    return spec(documents)["rayClusterSpec"]["workerGroupSpecs"][0]


def worker(documents: Manifests) -> Any:
    return group(documents)["template"]["spec"]


def ray(pod: Any) -> Any:
    return pod["containers"][0]


def board(documents: Manifests) -> Any:
    return documents.one("Deployment", "tensorboard")["spec"]["template"]["spec"]


def submitter(documents: Manifests) -> Any:
    return spec(documents)["submitterPodTemplate"]


def policy(documents: Manifests, name: str) -> Any:
    return documents.one("NetworkPolicy", name)["spec"]


def edit_config(documents: Manifests, old: str, new: str) -> None:
    data = documents.one("ConfigMap", "annlib-config")["data"]
    assert old in data["run.yaml"]
    data["run.yaml"] = data["run.yaml"].replace(old, new)


# What is changed, and words of the problem that has to be found.
MISTAKES: dict[str, tuple[Change, str]] = {
    "root user": (lambda d: ray(worker(d))["securityContext"].update(runAsUser=0), "forbids user 0"),
    "no non-root": (lambda d: board(d)["securityContext"].pop("runAsNonRoot"), "wants runAsNonRoot"),
    "no seccomp": (lambda d: head(d)["securityContext"].pop("seccompProfile"), "wants the seccompProfile"),
    "escalation": (lambda d: ray(head(d))["securityContext"].pop("allowPrivilegeEscalation"), "PrivilegeEscalation"),
    "capabilities": (lambda d: ray(worker(d))["securityContext"].pop("capabilities"), "capabilities dropped"),
    "added capability": (
        lambda d: ray(worker(d))["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
        "forbids adding capabilities",
    ),
    "init container": (lambda d: head(d)["initContainers"][1].pop("securityContext"), "keep-logs: restricted"),
    "writable root": (
        lambda d: ray(submitter(d)["spec"])["securityContext"].update(readOnlyRootFilesystem=False),
        "root file system can be written",
    ),
    "host path": (
        lambda d: worker(d)["volumes"].__setitem__(-1, {"name": "annlib", "hostPath": {"path": "/mnt"}}),
        "volumes of type hostPath",
    ),
    "host network": (lambda d: worker(d).update(hostNetwork=True), "forbids hostNetwork"),
    "host port": (lambda d: ray(head(d))["ports"][1].update(hostPort=8265), "forbids hostPort"),
    "no pod security": (lambda d: d.one("Namespace")["metadata"].pop("labels"), "does not enforce the restricted"),
    "API token": (lambda d: worker(d).pop("automountServiceAccountToken"), "gets a token for the API server"),
    "service links": (lambda d: head(d).pop("enableServiceLinks"), "variables of every Service"),
    "memory request": (lambda d: ray(worker(d))["resources"]["requests"].update(memory="1Gi"), "its limit is 3Gi"),
    "no memory limit": (lambda d: ray(head(d))["resources"].pop("limits"), "its limit is None"),
    "shared memory": (
        lambda d: worker(d)["volumes"][2]["emptyDir"].update(sizeLimit="4Gi"),
        "/dev/shm takes 4Gi of 3Gi",
    ),
    "object store": (
        lambda d: group(d)["rayStartParams"].update({"object-store-memory": "900000000"}),
        "an object store of 900000000",
    ),
    "volume name": (lambda d: ray(worker(d))["volumeMounts"][0].update(name="temp"), "temp, which is no volume"),
    "unused volume": (lambda d: board(d)["volumes"].append({"name": "more", "emptyDir": {}}), "mounts the volume more"),
    "claim name": (
        lambda d: worker(d)["volumes"][-1]["persistentVolumeClaim"].update(claimName="data"),
        "PersistentVolumeClaim/data, which is not there",
    ),
    "map name": (
        lambda d: head(d)["volumes"][3]["configMap"].update(name="config"),
        "ConfigMap/config, which is not there",
    ),
    "account": (lambda d: board(d).update(serviceAccountName="board"), "ServiceAccount/board, which is not there"),
    "writing board": (lambda d: ray(board(d))["volumeMounts"][1].pop("readOnly"), "may write to the volume"),
    "service port": (
        lambda d: d.one("Service")["spec"]["ports"][0].update(targetPort=6007),
        "leads to 6007, which no container has",
    ),
    "service selector": (
        lambda d: d.one("Service")["spec"]["selector"].update({"app.kubernetes.io/component": "board"}),
        "selects no pod",
    ),
    "board port": (lambda d: ray(board(d))["ports"][0].update(containerPort=6007), "serves on another port"),
    "dashboard port": (lambda d: ray(head(d))["ports"][1].update(containerPort=8266), "port dashboard is 8266"),
    "policy port": (
        lambda d: policy(d, "ray-head")["ingress"][0]["ports"][0].update(port=8266),
        "operator cannot reach",
    ),
    "submitter label": (
        lambda d: submitter(d)["metadata"]["labels"].pop("app.kubernetes.io/component"),
        "submitter cannot reach",
    ),
    "no DNS": (lambda d: d.remove(d.one("NetworkPolicy", "dns")), "cannot ask the cluster's DNS"),
    "one port among workers": (
        lambda d: policy(d, "ray-cluster")["ingress"][0].update(ports=[{"port": 6379}]),
        "cannot reach RayJob/fashion-mnist/worker on port 40123",
    ),
    "no default deny": (lambda d: d.remove(d.one("NetworkPolicy", "default-deny")), "can reach"),
    "any operator": (
        lambda d: policy(d, "ray-head")["ingress"][0]["from"][1].update(namespaceSelector={}),
        "a pod labelled as the operator can reach",
    ),
    "unknown field": (lambda d: board(d).update(restartpolicy="Always"), "'restartpolicy' was unexpected"),
    "string for number": (lambda d: d.one("Deployment")["spec"].update(replicas="1"), "'1' is not of type 'integer'"),
    "unknown kind": (lambda d: d.one("Service").update(apiVersion="v2"), "has no Service of v2"),
    "namespace": (lambda d: d.one("Service")["metadata"].update(namespace="default"), "is not in the namespace"),
    "Ray version": (lambda d: spec(d)["rayClusterSpec"].update(rayVersion="2.59.0"), "rayVersion 2.59.0"),
    "latest image": (lambda d: ray(head(d)).update(image="annlib:latest"), "image annlib:latest"),
    "image without tag": (lambda d: head(d)["initContainers"][0].update(image="annlib"), "image annlib,"),
    "no token": (lambda d: spec(d)["rayClusterSpec"].pop("authOptions"), "reaches port 8265 runs code"),
    "training on the head": (
        lambda d: spec(d)["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].pop("num-cpus"),
        "may be placed on the head",
    ),
    "short grace": (lambda d: worker(d).update(terminationGracePeriodSeconds=30), "does not end within"),
    "no deadline": (lambda d: spec(d).pop("activeDeadlineSeconds"), "has no activeDeadlineSeconds"),
    "TTL without shutdown": (lambda d: spec(d).pop("shutdownAfterJobFinishes"), "needs shutdownAfterJobFinishes"),
    "both clean-ups": (
        lambda d: spec(d).update(deletionStrategy={"deletionRules": [{"policy": "DeleteSelf"}]}),
        "exclude each other",
    ),
    "submitter restarts": (lambda d: submitter(d)["spec"].pop("restartPolicy"), "restartPolicy has to be"),
    "replicas": (lambda d: group(d).update(replicas=3), "minReplicas <= replicas <= maxReplicas"),
    "long name": (lambda d: d.one("RayJob")["metadata"].update(name="a" * 48), "names of up to 47"),
    "budget": (
        lambda d: (
            d.one("PodDisruptionBudget", "ray-worker")["spec"].update({"minAvailable": 0, "maxUnavailable": 1})
            or d.one("PodDisruptionBudget", "ray-worker")["spec"].pop("minAvailable")
        ),
        "only minAvailable works",
    ),
    "entry point": (
        lambda d: spec(d).update(entrypoint="python jobs/trian.py fashion-mnist --config /etc/annlib/run.yaml"),
        "jobs/trian.py is no file of the image",
    ),
    "unknown flag": (
        lambda d: spec(d).update(entrypoint=spec(d)["entrypoint"] + " --workers 2"),
        "refuses its arguments: error: unrecognized arguments: --workers",
    ),
    "hook": (
        lambda d: ray(worker(d))["lifecycle"]["preStop"]["exec"]["command"].__setitem__(2, "--deadline"),
        "refuses its arguments",
    ),
    "script": (
        lambda d: head(d)["initContainers"][0].update(command=["/bin/bash", "/etc/annlib/prepare.sh"]),
        "prepare.sh is no file of the ConfigMap",
    ),
    "configuration": (lambda d: edit_config(d, "num_workers: 2", "num_worker: 2"), "num_worker"),
    "configuration value": (lambda d: edit_config(d, "cpus_per_worker: 1", "cpus_per_worker: one"), "cpus_per_worker"),
    "too few pods": (lambda d: edit_config(d, "num_workers: 2", "num_workers: 3"), "(3, 3) workers on 2 to 2 pods"),
    "no CPUs": (lambda d: edit_config(d, "cpus_per_worker: 1", "cpus_per_worker: 2"), "a worker needs 2"),
    "no GPUs": (lambda d: edit_config(d, "num_workers: 2", "num_workers: 2\nuse_gpu: true"), "use_gpu is True"),
    "no name": (lambda d: edit_config(d, "name: fashion-mnist", "seed: 1"), "without a stable name"),
    "storage": (lambda d: edit_config(d, "/mnt/annlib/runs", "/tmp/runs"), "is not on the volume"),
    "unknown variable": (
        lambda d: ray(head(d))["env"].append({"name": "ANNLIB_EPOCH", "value": "1"}),
        "ANNLIB_EPOCH is unknown",
    ),
    "secret in the file": (
        lambda d: ray(head(d))["env"].append({"name": "AWS_SECRET_ACCESS_KEY", "value": "abc"}),
        "has a secret as its value",
    ),
    "secret document": (
        lambda d: d.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "annlib"}}),
        "not by a file",
    ),
}

# Only the schemas of KubeRay's resources find these.
KUBERAY_MISTAKES: dict[str, tuple[Change, str]] = {
    "unknown field": (lambda d: spec(d).update(backOffLimit=2), "'backOffLimit' was unexpected"),
    "unknown field of a pod": (lambda d: ray(worker(d)).update(imagePull="Always"), "'imagePull' was unexpected"),
    "string for number": (lambda d: group(d).update(replicas="2"), "'2' is not of type 'integer'"),
    "number for string": (lambda d: group(d)["rayStartParams"].update({"num-cpus": 1}), "1 is not of type 'string'"),
    "unknown mode": (
        lambda d: spec(d)["rayClusterSpec"]["authOptions"].update(mode="tokens"),
        "'tokens' is not one of",
    ),
    "missing field": (lambda d: group(d).pop("groupName"), "'groupName' is a required property"),
}


def test_what_the_mistakes_are_made_in_is_sound(tmp_path: Path) -> None:
    assert rules.problems(build("cpu"), tmp_path) == []


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name: str, tmp_path: Path) -> None:
    change, words = MISTAKES[name]
    documents = build("cpu")
    change(documents)
    problems = rules.problems(documents, tmp_path)
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("--num-trials", "--num-trails", "refuses its arguments"),
        ("--name fashion-mnist-tune", "--name other", "without a stable name no retry resumes"),
        ("/mnt/annlib/runs", "/tmp/runs", "is not on the volume"),
        ("--concurrency 2", "--concurrency 3", "3 trials at a time on 2 pods"),
    ],
)
def test_a_mistake_in_a_search_is_found(old: str, new: str, words: str, tmp_path: Path) -> None:
    documents = build("tune")
    entrypoint = spec(documents)["entrypoint"]
    assert old in entrypoint
    spec(documents)["entrypoint"] = entrypoint.replace(old, new)
    problems = rules.problems(documents, tmp_path)
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize("name", KUBERAY_MISTAKES)
def test_a_mistake_in_a_resource_of_kuberay_is_found(name: str, kuberay_schemas: Path) -> None:
    change, words = KUBERAY_MISTAKES[name]
    documents = build("cpu")
    change(documents)
    problems = list(schemas.kuberay_problems(documents, kuberay_schemas))
    assert any(words in problem for problem in problems), problems
