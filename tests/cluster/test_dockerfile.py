"""What can be known of the image without building it."""

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(keyword: str) -> list[str]:
    """Returns the rest of each instruction of this kind, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(f"{keyword} ")]


def locked(name: str) -> dict[str, str]:
    """Returns the versions that a lock file pins."""
    return dict(re.findall(r"^([a-z][^=\s]*)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_default_base_image_has_a_python_that_annlib_takes() -> None:
    (image,) = (argument for argument in instructions("ARG") if argument.startswith("BASE_IMAGE="))
    version = re.fullmatch(r"BASE_IMAGE=python:(3\.\d+)-slim-bookworm", image)
    assert version is not None, image
    assert version[1] in SpecifierSet(PROJECT["requires-python"])


def test_the_context_holds_exactly_what_is_copied() -> None:
    copies = [shlex.split(copy) for copy in instructions("COPY")]
    copied = {source for copy in copies if not copy[0].startswith("--from=") for source in copy[:-1]}
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert [rule for rule in rules[1:] if not rule.startswith("!")] == ["**/__pycache__"]
    assert all((ROOT / source).exists() for source in copied)


def test_the_gpu_lock_adds_what_the_extra_asks_for_and_changes_no_version() -> None:
    gpu = locked("requirements-gpu.lock")
    base = locked("requirements.lock")
    assert not gpu.keys() & base.keys()
    assert PROJECT["optional-dependencies"]["gpu"] == ["tensorflow[and-cuda]==2.21.*"]
    assert importlib.metadata.version("tensorflow") == base["tensorflow"]
    requirements = [Requirement(line) for line in importlib.metadata.requires("tensorflow") or []]
    asked = [
        each
        for each in requirements
        if each.marker and each.marker.evaluate({"extra": "and-cuda"}) and not each.marker.evaluate({"extra": ""})
    ]
    assert len(asked) >= 10
    assert [str(each) for each in asked if gpu.get(each.name, "0") not in each.specifier] == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-gpu.lock", "requirements-dev.lock"])
def test_every_locked_package_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    blocks = re.split(r"^(?=[a-z][^=\s]*==)", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text


def test_packages_are_installed_from_the_locks_alone() -> None:
    installs = [run for run in instructions("RUN") if "pip install" in run]
    assert len(installs) == 2
    for run in installs:
        for flag in ("--require-hashes", "--only-binary=:all:", "--no-cache-dir"):
            assert flag in run
        assert re.search(r"-r \S*requirements(-gpu)?\.lock", run)


def test_labels_agree_with_the_project() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', " ".join(instructions("LABEL"))))
    assert labels["title"] == PROJECT["name"]
    assert labels["version"] == PROJECT["version"]
    assert labels["licenses"] == PROJECT["license"]


def test_no_address_is_written_down_and_no_index_in_the_last_stage() -> None:
    for name in ("Dockerfile", ".dockerignore", ".ci/build-image.sh"):
        assert "://" not in (ROOT / name).read_text(), name
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert "RUN" not in last
    assert "ARG" not in last
    assert instructions("USER") == ["1000:1000"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("EXTRA", "tpu", "EXTRA is wrong; expected cpu or gpu, received 'tpu'"),
        ("PIP_CONF", "/missing", "PIP_CONF is wrong; expected a file that can be read, received '/missing'"),
        ("CA_BUNDLE", "/missing", "CA_BUNDLE is wrong; expected a file that can be read, received '/missing'"),
    ],
)
def test_a_wrong_variable_is_one_line(variable: str, value: str, message: str) -> None:
    done = subprocess.run(
        [ROOT / ".ci/build-image.sh"],
        env={**os.environ, "ENGINE": "false", variable: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"image: error: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_without_an_engine_it_says_so(tmp_path: Path) -> None:
    for tool in ("bash", "env", "dirname", "sed"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    environment = {"PATH": str(tmp_path)}
    script = ROOT / ".ci/build-image.sh"
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no docker, podman or buildah answers here" in done.stderr


def test_the_flags_of_the_build_reach_the_engine(tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    engine.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    engine.chmod(0o755)
    secret = tmp_path / "pip.conf"
    secret.write_text("")
    given = {"EXTRA": "gpu", "PIP_CONF": str(secret), "BASE_IMAGE": "debian:12-slim", "ENGINE_FLAGS": "--network host"}
    done = subprocess.run(
        [ROOT / ".ci/build-image.sh"],
        env={"PATH": os.environ["PATH"], "ENGINE": str(engine), **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words[:5] == ["build", "--network", "host", "--tag", f"annlib:{PROJECT['version']}-gpu"]
    build_arguments = ["--build-arg", "EXTRA=gpu", "--build-arg", "BASE_IMAGE=debian:12-slim"]
    assert words[5:10] == [*build_arguments, f"--secret=id=pip_conf,src={secret}"]
    assert words[-2] == "."
