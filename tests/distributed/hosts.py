"""Hosts of their own on one machine, each with its address, name, processes, /tmp/ray and cable that a test can cut.

A host is the Linux namespaces of one process, which is the host's process 1. When it ends, or the tests end in whatever
way, the kernel ends all processes of the host and takes its network away: nothing has to be tidied up.
"""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from fault_runs import wait_for

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TOKEN = "test-token-5d41402abc4b2a76b9719d911017c592"
# No cable leads out of the switch, so that these may be in use elsewhere.
SUBNET = "10.77.0"
PORT, DASHBOARD_PORT = 6379, 8265
START_TIMEOUT_S = 90.0
# Dies with the tests, takes its processes with it, and collects the processes whose parents are gone.
_BOOT = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child"]
_BOOT += ["--mount-proc", "sh", "-c", 'trap "" CHLD; echo up; exec sleep infinity']


@functools.cache
def missing() -> str | None:
    """Returns why there can be no hosts here, None where there can."""
    if os.geteuid() != 0:
        return "hosts in namespaces need root"
    for program in ("ip", "unshare", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            return f"hosts in namespaces need the program {program}"
    try:
        with Switch() as switch:
            switch.add("probe")
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        return f"namespaces cannot be made here: {str(reason).strip()}"
    return None


class _Namespaces:
    """The namespaces of a process that waits."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(_BOOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        if self._process.stdout.readline() != "up\n":
            raise OSError(self._process.stderr.read())
        parent = self._process.pid
        self.pid = int(Path(f"/proc/{parent}/task/{parent}/children").read_text())

    def inside(self, *command: str) -> list[str]:
        """Returns the command line that runs a command inside, from the directory of the sources."""
        return ["nsenter", f"--target={self.pid}", "--net", "--uts", "--mount", "--pid", f"--wd={ROOT}", *command]

    def run(self, *command: str) -> str:
        done = subprocess.run(self.inside(*command), capture_output=True, text=True, check=True)
        return done.stdout

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> None:
        self._process.wait()
        # The kernel ends the rest a moment later.
        wait_for(lambda: not Path(f"/proc/{self.pid}").exists(), "the end of a host", timeout_s=30, every_s=0.02)


class Host(_Namespaces):
    """A host on a switch."""

    def __init__(self, switch: "Switch", name: str, number: int) -> None:
        super().__init__()
        self.name, self.address = name, f"{SUBNET}.{number}"
        self.temporary = switch.directory / name
        self.temporary.mkdir()
        self._switch, self._port = switch, f"port{number}"
        self.run("hostname", name)
        # Where Ray keeps sockets, logs, and the address of the cluster that runs on this machine.
        Path("/tmp/ray").mkdir(exist_ok=True)
        self.run("mount", "--bind", str(self.temporary), "/tmp/ray")
        self.run("ip", "link", "set", "lo", "up")
        ends = ["name", self._port, "netns", str(switch.namespaces.pid)]
        ends += ["type", "veth", "peer", "name", "eth0", "netns", str(self.pid)]
        subprocess.run(["ip", "link", "add", *ends], capture_output=True, text=True, check=True)
        switch.namespaces.run("ip", "link", "set", self._port, "master", "bridge", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def cut(self) -> None:
        """Cuts the cable: packets are lost, and nobody is told."""
        self._switch.namespaces.run("ip", "link", "set", self._port, "down")

    def mend(self) -> None:
        self._switch.namespaces.run("ip", "link", "set", self._port, "up")

    def hide(self, directory: Path) -> None:
        """Puts a file system of this host alone over a directory."""
        self.run("mount", "-t", "tmpfs", "none", str(directory))

    def start_ray(self, *flags: str, environment: Mapping[str, str]) -> None:
        with (self.temporary / "start.log").open("ab") as log:
            command = [str(BIN / "ray"), "start", "--disable-usage-stats", f"--node-ip-address={self.address}"]
            subprocess.run(
                self.inside(*command, "--object-store-memory=100000000", *flags),
                env={**environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=START_TIMEOUT_S,
                check=True,
            )


class Switch:
    """What hosts are connected to; ends them when it is left."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="annlib-hosts-"))
        self.hosts: list[Host] = []

    def __enter__(self) -> "Switch":
        self.namespaces = _Namespaces()
        self.namespaces.run("ip", "link", "add", "bridge", "type", "bridge")
        self.namespaces.run("ip", "link", "set", "bridge", "up")
        return self

    def __exit__(self, *_: object) -> None:
        ended = (*self.hosts, self.namespaces)
        for each in ended:
            each.kill()
        for each in ended:
            each.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def add(self, name: str) -> Host:
        self.hosts.append(Host(self, name, len(self.hosts) + 1))
        return self.hosts[-1]


class Cluster:
    """A head without CPUs, and hosts of one CPU, with Ray as `ray start` leaves it: with a token."""

    def __init__(self, switch: Switch, **environment: str) -> None:
        self._switch = switch
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            # As in the README: a node that is silent for 12 s is lost; by itself Ray waits a minute.
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "4",
            "CUDA_VISIBLE_DEVICES": "-1",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            **environment,
        }
        self.head = switch.add("head")
        self.address = f"{self.head.address}:{PORT}"
        self.url = f"http://{self.head.address}:{DASHBOARD_PORT}"
        flags = ["--head", f"--port={PORT}", "--num-cpus=0", f"--dashboard-host={self.head.address}"]
        self.head.start_ray(*flags, environment=self.environment)

    def add(self, name: str, *, hidden: Path | None = None) -> Host:
        """Adds a host of one CPU, for which something else is where `hidden` is elsewhere."""
        host = self._switch.add(name)
        if hidden is not None:
            host.hide(hidden)
        host.start_ray(f"--address={self.address}", "--num-cpus=1", environment=self.environment)
        return host

    def start(self, *command: str, **environment: str) -> "subprocess.Popen[str]":
        """Starts a command on the head."""
        return subprocess.Popen(
            self.head.inside(*command),
            env={**self.environment, "RAY_ADDRESS": self.address, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextlib.contextmanager
def cluster(**environment: str) -> Iterator[Cluster]:
    """Starts a cluster of a head alone; skips the test where there can be no hosts."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with Switch() as switch:
        yield Cluster(switch, **environment)
