"""checkov finds nothing in the documents and in the pods they lead to, but for what is explained here."""

import os
import shutil
import subprocess
from pathlib import Path

import kuberay
import pytest
import schemas
import yaml
from manifests import ROOT, build

EXCEPTIONS = {
    "CKV_K8S_8": "KubeRay 1.7 adds a liveness probe to each Ray container; the submitter is a job",
    "CKV_K8S_9": "KubeRay 1.7 adds a readiness probe to each Ray container; the submitter is a job",
    "CKV_K8S_11": "a CPU limit would slow workers down on a node with idle cores; the requests share it out",
    "CKV_K8S_15": "tags do not change here, and a node without a registry has the image loaded",
    "CKV_K8S_35": "KubeRay 1.7 hands its token out as a variable",
    "CKV_K8S_40": "the image has user 1000, and other users of a node are none of its containers",
    "CKV_K8S_43": "the digest is that of the reader's registry: each overlay has a place for it",
}


def checkov() -> str | None:
    """Returns the path of checkov, which has an environment of its own: its packages exclude some of ours."""
    return shutil.which("checkov", path=os.pathsep.join([str(ROOT / ".venv-checkov" / "bin"), os.environ["PATH"]]))


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_checkov_finds_nothing(overlay: str, tmp_path: Path) -> None:
    program = checkov()
    if program is None:
        pytest.skip("checkov is not installed: `.ci/setup.sh --test-tools` does it")
    documents = build(overlay)
    own = [document for document in documents if not document["apiVersion"].startswith("ray.io/")]
    # checkov does not know KubeRay's resources, but the pods that KubeRay makes of them.
    pods = schemas.expanded(kuberay.pods(documents))
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([*own, *pods]))
    command = [program, "--directory", str(tmp_path), "--framework", "kubernetes", "--skip-download", "--quiet"]
    command += ["--compact", "--skip-check", ",".join(EXCEPTIONS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_checkov_finds_a_mistake(tmp_path: Path) -> None:
    program = checkov()
    if program is None:
        pytest.skip("checkov is not installed: `.ci/setup.sh --test-tools` does it")
    pod = schemas.expanded(kuberay.pods(build("cpu")))[0]
    pod["spec"]["hostNetwork"] = True
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    command = [program, "--directory", str(tmp_path), "--framework", "kubernetes", "--skip-download", "--compact"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "CKV_K8S_19" in done.stdout
