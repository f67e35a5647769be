"""The image by itself: what is in it, what is not, and that it works as any user on a read-only root."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from containers import ROOT, VOLUME, Pod, podman

pytestmark = pytest.mark.image
Pods = Callable[..., Pod]

# Prints the modules below the given directories whose bytecode is missing or of another source.
STALE_BYTECODE = """
import importlib.util, pathlib, struct, sys
for directory in sys.argv[1:]:
    for source in pathlib.Path(directory).rglob("*.py"):
        cached = pathlib.Path(importlib.util.cache_from_source(str(source)))
        if not cached.exists():
            print(source)
            continue
        magic, _, modified, size = struct.unpack("<4sIII", cached.read_bytes()[:16])
        status = source.stat()
        if (magic, modified, size) != (importlib.util.MAGIC_NUMBER, int(status.st_mtime), status.st_size):
            print(source)
"""


def run(pods: Pods, image: str, volume: Path, *command: str, **options: object) -> str:
    """Returns what a pod of the image prints; fails unless it ends with exit code 0."""
    code, log = pods(image, *command, volume=volume, **options).wait()
    assert code == 0, log
    return log


def test_it_has_what_ray_and_kuberay_call(image: str, pods: Pods, volume: Path) -> None:
    script = "command -v python ray tensorboard wget dot bash; python -V; ray --version"
    plain = run(pods, image, volume, "-c", script, entrypoint="/bin/bash")
    login = run(pods, image, volume, "-lc", script, entrypoint="/bin/bash")
    assert plain == login
    bin_directory = "/opt/annlib/venv/bin"
    assert plain.splitlines()[:3] == [f"{bin_directory}/{name}" for name in ("python", "ray", "tensorboard")]
    (ray,) = re.findall(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert f"version {ray}" in plain


def test_it_has_the_locked_packages_and_no_other(image: str, pods: Pods, volume: Path) -> None:
    listed = run(pods, image, volume, "python", "-m", "pip", "list", "--format=freeze")
    installed = {
        name.lower().replace("_", "-").replace(".", "-"): version
        for name, version in (line.split("==") for line in listed.splitlines() if "==" in line)
    }
    locked = dict(re.findall(r"^([a-z][^=\s]*)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    locked = {name.replace(".", "-"): version for name, version in locked.items()}
    assert {name: version for name, version in installed.items() if locked.get(name) != version}.keys() <= {"pip"}
    assert installed["tensorflow"] == locked["tensorflow"]
    assert len(installed) > 90


def test_it_has_no_compiler_no_cache_and_no_secret(image: str, pods: Pods, volume: Path) -> None:
    caches = "/root/.cache /var/lib/apt/lists/* /var/cache/apt/archives/*.deb"
    script = (
        "for tool in gcc cc c++ clang make ld git; do command -v $tool; done; "
        f"ls -d {caches} /etc/pip.conf /run/secrets/* /build 2>/dev/null; "
        # What the user that runs it could change, if the root file system could be written.
        "find /opt/annlib -xdev ! -user root; find /opt/annlib -xdev -perm -0002 ! -type l; true"
    )
    assert run(pods, image, volume, "-c", script, entrypoint="/bin/bash") == ""


def test_bytecode_is_there_and_of_the_source_that_is_there(image: str, pods: Pods, volume: Path) -> None:
    site = "/opt/annlib/venv/lib/python3.11/site-packages"
    directories = ["/opt/annlib/app", *(f"{site}/{name}" for name in ("keras", "ray", "tensorflow", "pandas"))]
    assert run(pods, image, volume, "python", "-c", STALE_BYTECODE, *directories) == ""


def test_its_configuration_is_that_of_a_user_and_names_no_index(image: str) -> None:
    (inspected,) = json.loads(podman("image", "inspect", image).stdout)
    assert inspected["Config"]["User"] == "1000:1000"
    assert inspected["Config"]["WorkingDir"] == "/opt/annlib/app"
    assert inspected["Config"]["Labels"]["org.opencontainers.image.title"] == "annlib"
    known = json.dumps([inspected["Config"], inspected.get("History")])
    assert not re.search(r"PIP_|://|ca_bundle|pip_conf", known)


def test_a_code_change_makes_a_small_layer(image: str) -> None:
    history = json.loads(podman("history", "--format=json", image).stdout)
    sizes = [int(layer["size"]) for layer in history if int(layer["size"]) > 0]
    code, largest = sizes[0], max(sizes)
    assert code < 10e6
    assert largest > 100 * code


def test_only_the_three_places_can_be_written(image: str, pods: Pods, volume: Path) -> None:
    places = f"/ /home/annlib /opt/annlib/app /etc /var/tmp /tmp /dev/shm {VOLUME}"
    script = f'for place in {places}; do touch "$place/probe" 2>/dev/null && echo "$place"; done; true'
    for user in (1000, 4242):
        written = run(pods, image, volume, "-c", script, entrypoint="/bin/bash", user=user)
        assert written.split() == ["/tmp", "/dev/shm", VOLUME]
        (volume / "probe").unlink()


@pytest.mark.parametrize("user", [1000, 4242])
def test_it_trains_as_any_user(image: str, pods: Pods, volume: Path, user: int) -> None:
    storage = f"{VOLUME}/runs"
    digits = ["python", "jobs/train.py", "digits", "--epochs", "2", "--storage", storage, "--name", "digits"]
    run(pods, image, volume, *digits, user=user)
    fashion = ["python", "jobs/train.py", "fashion-mnist", "--epochs", "1", "--num-workers", "2"]
    fashion += ["--storage", storage, "--name", "fashion"]
    log = run(pods, image, volume, *fashion, user=user)
    assert f"{storage}/fashion" in log
    for name in ("digits", "fashion"):
        run_directory = volume / "runs" / name
        metrics = json.loads((run_directory / "metrics.json").read_text())
        assert metrics["versions"]["python"].startswith("3.11")
        assert (run_directory / "model.keras").stat().st_uid == user
        assert (run_directory / "model.keras").stat().st_gid == 1000
    # graphviz is there, so the diagram of the layers is too.
    assert list((volume / "runs/digits/pictures").glob("model*"))


def test_the_default_command_shows_what_there_is_to_train(image: str, pods: Pods, volume: Path) -> None:
    assert "fashion-mnist" in run(pods, image, volume)


def test_bad_input_is_one_line_and_exit_code_2(image: str, pods: Pods, volume: Path) -> None:
    code, log = pods(image, "python", "jobs/train.py", "digits", "--epochs", "-1", volume=volume).wait()
    assert code == 2
    assert len(log.splitlines()) == 1, log
    assert "epochs from the command line is wrong" in log


def test_sigterm_leaves_a_checkpoint_and_143(image: str, pods: Pods, volume: Path) -> None:
    command = [
        "python",
        "jobs/train.py",
        "digits",
        "--epochs",
        "100000",
        "--storage",
        f"{VOLUME}/runs",
        "--name",
        "long",
    ]
    pod = pods(image, *command, volume=volume)
    pod.wait_for(lambda: (volume / "runs/long/history.csv").exists())
    took_s = pod.stop(grace_s=60)
    code, log = pod.wait()
    assert code == 143, log
    assert took_s < 60
    assert list((volume / "runs/long/checkpoints").glob("epoch-*"))
