"""Validates documents against the schemas of Kubernetes and of KubeRay; unknown fields are refused."""

import copy
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import referencing
import referencing.jsonschema
from manifests import ROOT, Manifests

KUBERNETES = "1.37"
_SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
# Of Kueue and of the Prometheus operator, whose schemas no package holds: their few fields are in the reader's eye.
WITHOUT_SCHEMA = {"kueue.x-k8s.io/v1beta2", "monitoring.coreos.com/v1"}


def shared() -> Path | None:
    """Returns the directory of data beside the checkout, which is not part of it; None where there is none."""
    candidates = [os.environ.get("ANNLIB_TEST_SHARED"), ROOT.parent / "shared", ROOT.parents[1] / "shared"]
    return next((Path(path) for path in candidates if path and (Path(path) / "kuberay").is_dir()), None)


def kubernetes_problems(manifests: Manifests) -> Iterator[str]:
    """Yields what the API server of Kubernetes would refuse in its own kinds."""
    for document in manifests:
        if document["apiVersion"] in WITHOUT_SCHEMA or document["apiVersion"].startswith("ray.io/"):
            continue
        validator = _kubernetes_validator(document["apiVersion"], document["kind"])
        if validator is None:
            yield f"{_name(document)}: Kubernetes {KUBERNETES} has no {document['kind']} of {document['apiVersion']}"
            continue
        for error in validator.iter_errors(document):
            yield f"{_name(document)}: {'/'.join(map(str, error.path))}: {error.message}"


def kuberay_problems(manifests: Manifests, directory: Path) -> Iterator[str]:
    """Yields what the API server would refuse in KubeRay's kinds, by their schemas in `directory`."""
    for document in manifests:
        if document["apiVersion"].startswith("ray.io/"):
            validator = _kuberay_validator(directory / "kuberay" / f"{document['kind'].lower()}-v1.schema.json")
            for error in validator.iter_errors(document):
                yield f"{_name(document)}: {'/'.join(map(str, error.path))}: {error.message}"


def _name(document: dict[str, Any]) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


# What kubernetes_validate.validate does, but with each file read once: they are large.
@functools.cache
def _kubernetes_validator(api_version: str, kind: str) -> Any:
    group, _, version = api_version.rpartition("/")
    name = "-".join(filter(None, [kind.lower(), group.split(".")[0], version]))
    path = _SCHEMAS / f"{name}.json"
    if not path.is_file():
        return None
    return jsonschema.Draft202012Validator(json.loads(path.read_text()), registry=_kubernetes_definitions())


@functools.cache
def _kubernetes_definitions() -> Any:
    definitions = json.loads((_SCHEMAS / "_definitions.json").read_text())
    resource = referencing.Resource.from_contents(definitions, referencing.jsonschema.DRAFT202012)
    return referencing.Registry().with_resource("_definitions.json", resource).crawl()


@functools.cache
def _kuberay_validator(path: Path) -> Any:
    schema = json.loads(path.read_text())
    return jsonschema.Draft202012Validator(_strict({**schema, "$comment": "KubeRay 1.7"}))


def _strict(schema: Any) -> Any:
    """Returns an OpenAPI schema as JSON schema, in which objects have no other fields than those it lists."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    strict.pop("format", None)
    if strict.pop("x-kubernetes-int-or-string", False):
        strict.pop("type", None)
        strict["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    keeps_unknown = strict.pop("x-kubernetes-preserve-unknown-fields", False)
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not keeps_unknown:
        strict.setdefault("additionalProperties", False)
    return strict


def expanded(pods: list[dict[str, Any]]) -> Manifests:
    """Returns pods as documents with names that Kubernetes takes, each once."""
    documents = {}
    for pod in pods:
        document = copy.deepcopy(pod)
        document["metadata"]["name"] = pod["metadata"]["name"].lower().replace("/", "-")
        documents[document["metadata"]["name"]] = document
    return Manifests(documents.values())
