"""The image, built here, and pods of it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from containers import ROOT, RUNTIME, Pod, make_volume, podman, why_not

BASE_IMAGE = "localhost/annlib-test-base:bookworm"


def make_base_image(directory: Path) -> None:
    """Makes a plain Debian 12 from its packages, where no registry may be reached."""
    root = directory / "root"
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(root)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no base image: debootstrap failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    subprocess.run(["chroot", root, "apt-get", "clean"], check=True)
    archive = directory / "root.tar"
    subprocess.run(["tar", "--directory", root, "--create", "--file", archive, "."], check=True)
    podman("import", archive, BASE_IMAGE)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of the image under test: ANNLIB_TEST_IMAGE, else the one that `make image` makes of this checkout.

    BASE_IMAGE, PIP_CONF, CA_BUNDLE and the like are taken as `make image` takes them. The layers stay, so that the
    next time only what has changed is built.
    """
    if reason := why_not():
        pytest.skip(reason)
    if given := os.environ.get("ANNLIB_TEST_IMAGE"):
        return given
    environment = dict(os.environ)
    if "BASE_IMAGE" not in environment:
        if podman("image", "exists", BASE_IMAGE, check=False).returncode != 0:
            make_base_image(tmp_path_factory.mktemp("base"))
        environment["BASE_IMAGE"] = BASE_IMAGE
    # pip in the build trusts what pip here trusts.
    if "CA_BUNDLE" not in environment and "PIP_CERT" in environment:
        environment["CA_BUNDLE"] = environment["PIP_CERT"]
    environment |= {"ENGINE": "podman", "ENGINE_FLAGS": " ".join([*RUNTIME, "--network", "host"])}
    environment |= {"EXTRA": "cpu", "IMAGE": "annlib:test"}
    build = subprocess.run(
        [ROOT / ".ci/build-image.sh"], env=environment, capture_output=True, text=True, timeout=3000, check=False
    )
    assert build.returncode == 0, build.stdout[-3000:] + build.stderr[-3000:]
    return "localhost/annlib:test"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    make_volume(path)
    return path


@pytest.fixture
def pods() -> Iterator[Callable[..., Pod]]:
    """Starts pods, and removes them at the end."""
    started: list[Pod] = []

    def start(*arguments: str, **options: object) -> Pod:
        started.append(Pod(*arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for pod in started:
        pod.remove()
