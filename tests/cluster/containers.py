"""Containers that may do what the pods of the manifests may do, and no more."""

import os
import resource
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VOLUME = "/mnt/annlib"
# Debian's crun refuses machines with cgroups of both versions; runc runs on all.
RUNTIME = ["--runtime", "runc"]


def podman(*words: object, check: bool = True, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["podman", *map(str, words)], capture_output=True, text=True, timeout=timeout_s, check=False)
    assert not check or done.returncode == 0, f"podman {' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
    return done


def why_not() -> str | None:
    """Returns why containers cannot be run on this machine, None where they can."""
    missing = [tool for tool in ("podman", "runc", "debootstrap", "iptables") if shutil.which(tool) is None]
    if missing:
        return f"no {', '.join(missing)} on this machine; `.ci/setup.sh --image-tools` installs them"
    if os.geteuid() != 0:
        return "containers with addresses of their own, limits and a debootstrap need root"
    info = podman("info", check=False)
    return None if info.returncode == 0 else f"podman does not work here: {info.stderr.strip()}"


def make_volume(path: Path) -> None:
    """Makes a directory as with fsGroup 1000: its files are the group's, whoever makes them."""
    path.mkdir()
    os.chown(path, 0, 1000)
    path.chmod(0o2775)


class Pod:
    """A container as the kubelet starts it under the restricted level: read-only root, no capabilities, no root.

    Only `/tmp`, `/dev/shm` and the volume can be written. The user's id need not be in /etc/passwd; the volume is the
    group's, as with fsGroup.
    """

    def __init__(
        self,
        image: str,
        *command: str,
        volume: Path,
        entrypoint: str | None = None,
        user: int = 1000,
        network: str = "none",
        memory: str = "4g",
        shared_memory: str = "2g",
        environment: Mapping[str, str] | None = None,
        restarts: int = 0,
    ) -> None:
        self._restarts = restarts
        self.name = f"annlib-test-{uuid.uuid4().hex[:8]}"
        flags = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        flags += [f"--user={user}:{user}", f"--group-add={volume.stat().st_gid}", "--passwd=false"]
        flags += ["--tmpfs=/tmp:rw,exec,mode=1777", f"--shm-size={shared_memory}", f"--volume={volume}:{VOLUME}"]
        # podman's own limits of files and processes are refused where they are more than this process's.
        for limit, kind, most in (("nofile", resource.RLIMIT_NOFILE, 2**20), ("nproc", resource.RLIMIT_NPROC, 2**15)):
            hard = resource.getrlimit(kind)[1]
            number = most if hard == resource.RLIM_INFINITY else min(hard, most)
            flags.append(f"--ulimit={limit}={number}:{number}")
        flags += [f"--memory={memory}", f"--network={network}", f"--hostname={self.name}"]
        flags += [f"--env={key}={value}" for key, value in (environment or {}).items()]
        # Ray gives a node 30 s to start. Where that is not enough, the kubelet starts the container again.
        flags += [f"--restart=on-failure:{restarts}"] if restarts else []
        flags += [] if entrypoint is None else [f"--entrypoint={entrypoint}"]
        podman(*RUNTIME, "run", "--detach", f"--name={self.name}", *flags, image, *command)

    def wait(self, *, timeout_s: float = 900) -> tuple[int, str]:
        """Returns the exit code and what was printed, once the container has ended."""
        try:
            code = int(podman("wait", self.name, timeout_s=timeout_s).stdout)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{self.name} has not ended after {timeout_s} s\n{self.log()}") from error
        return code, self.log()

    def wait_for(self, condition: Callable[[], bool], *, timeout_s: float = 600) -> None:
        """Waits until a condition holds; fails if the container ends before, or after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            state = podman("inspect", "--format={{.State.Running}} {{.RestartCount}}", self.name).stdout.split()
            assert state[0] == "true" or int(state[1]) < self._restarts, self.log()
            assert time.monotonic() < deadline, f"nothing after {timeout_s} s\n{self.log()}"
            time.sleep(0.5)

    def log(self) -> str:
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def address(self) -> str:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return podman("inspect", "--format", form, self.name).stdout.strip()

    def stop(self, *, grace_s: int) -> float:
        """Sends SIGTERM, and SIGKILL after `grace_s`; returns how many seconds it took to end."""
        started = time.monotonic()
        podman("stop", f"--time={grace_s}", self.name)
        return time.monotonic() - started

    def remove(self) -> None:
        """Ends all processes at once and frees the name and the address, as when the node is lost."""
        podman("rm", "--force", "--volumes", "--time=0", self.name, check=False)
