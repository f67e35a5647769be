"""Checks commands of containers and RayJobs with the parsers that will read them, and runs with `load_config`."""

import contextlib
import importlib.util
import io
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import kuberay
from manifests import ROOT, Manifests, containers_of

from annlib.config import load_config
from annlib.errors import AnnlibError
from annlib.workloads import WORKLOADS

# Where the image has the code.
APP = "/opt/annlib/app"
CONFIG_MOUNT = "/etc/annlib"


def problems(manifests: Manifests, directory: Path) -> Iterator[str]:
    """Yields commands that do not exist or do not parse, and runs whose configuration is refused.

    Args:
        manifests: documents of one overlay.
        directory: an empty directory, for the files of the ConfigMap.
    """
    for where, command, working_dir in _commands(manifests):
        yield from (f"{where}: {problem}" for problem in _command_problems(manifests, command, working_dir))
    for job in manifests.of("RayJob"):
        words = shlex.split(job["spec"]["entrypoint"])
        if words[1:2] == ["jobs/train.py"]:
            where = f"RayJob/{job['metadata']['name']}"
            yield from (f"{where}: {problem}" for problem in _run_problems(manifests, job, words, directory))
        if words[1:2] == ["jobs/tune.py"]:
            where = f"RayJob/{job['metadata']['name']}"
            yield from (f"{where}: {problem}" for problem in _search_problems(job, words))


def _commands(manifests: Manifests) -> Iterator[tuple[str, list[str], str]]:
    for pod in kuberay.pods(manifests):
        for container in containers_of(pod):
            where = f"{pod['metadata']['name']} container {container['name']}"
            hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
            for command in (container.get("command"), hook):
                if command:
                    yield where, command, container.get("workingDir", "")
    for job in manifests.of("RayJob"):
        head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
        where = f"RayJob/{job['metadata']['name']} entrypoint"
        yield where, shlex.split(job["spec"]["entrypoint"]), head.get("workingDir", "")


def _command_problems(manifests: Manifests, command: Sequence[str], working_dir: str) -> Iterator[str]:
    script = next((word for word in command if word.endswith((".py", ".sh"))), None)
    if script is None:
        if command[0] not in ("tensorboard", "sleep"):
            yield f"{shlex.join(command)} is no command of the image that this test knows"
        return
    arguments = command[command.index(script) + 1 :]
    if script.endswith(".sh"):
        files = manifests.one("ConfigMap", "annlib-config")["data"]
        if script.removeprefix(f"{CONFIG_MOUNT}/") not in files:
            yield f"{script} is no file of the ConfigMap"
        return
    path = script if script.startswith("/") else f"{working_dir}/{script}"
    local = ROOT / path.removeprefix(f"{APP}/")
    if not path.startswith(f"{APP}/jobs/") or not local.is_file():
        yield f"{path} is no file of the image"
    else:
        yield from _argument_problems(local, arguments)


@contextlib.contextmanager
def _stopped_after_parsing(module: Any) -> Iterator[None]:
    if not hasattr(module, "parse_workload"):
        with mock.patch.object(module, "run_command", return_value=0):
            yield
        return
    # It parses inside of the command, for its flags depend on the workload.
    with contextlib.ExitStack() as stack:
        for name in ("read_config", "define"):
            if hasattr(module, name):
                stack.enter_context(mock.patch.object(module, name))
        for function in ("annlib.run.train", "annlib.tuning.search.tune"):
            stack.enter_context(mock.patch(function, return_value=0))
        yield


def _argument_problems(script: Path, arguments: Sequence[str]) -> Iterator[str]:
    """Runs the entry point up to the command itself, which is the point where its arguments are parsed."""
    specification = importlib.util.spec_from_file_location(f"entry_point_{script.stem}", script)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    errors = io.StringIO()
    path = list(sys.path)
    try:
        specification.loader.exec_module(module)
        with (
            _stopped_after_parsing(module),
            mock.patch.object(sys, "argv", [str(script), *arguments]),
            contextlib.redirect_stderr(errors),
        ):
            module.main()
    except SystemExit:
        yield f"jobs/{script.name} refuses its arguments: {errors.getvalue().strip()}"
    finally:
        sys.path[:] = path


def _run_problems(manifests: Manifests, job: Mapping[str, Any], words: Sequence[str], directory: Path) -> Iterator[str]:
    spec = job["spec"]["rayClusterSpec"]
    head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    file = Path(words[words.index("--config") + 1])
    content = manifests.one("ConfigMap", "annlib-config")["data"].get(file.name)
    if file.parent != Path(CONFIG_MOUNT) or content is None:
        yield f"{file} is no file of the ConfigMap"
        return
    (directory / file.name).write_text(content)
    environment = {variable["name"]: variable["value"] for variable in head["env"] if "value" in variable}
    try:
        config = load_config(
            {"workload": words[2]},
            defaults=WORKLOADS[words[2]].defaults,
            config_file=directory / file.name,
            environment=environment,
        )
    except AnnlibError as error:
        yield str(error)
        return
    if config.name != words[2]:
        yield f"the run is named {config.name}: without a stable name no retry resumes"
    if "://" not in config.storage and not config.storage.startswith("/mnt/annlib/"):
        yield f"storage {config.storage} is not on the volume"
    yield from _size_problems(spec["workerGroupSpecs"][0], config)


def _search_problems(job: Mapping[str, Any], words: Sequence[str]) -> Iterator[str]:
    flags = dict(zip(words[3::2], words[4::2], strict=False))
    if flags.get("--name") != job["metadata"]["name"]:
        yield f"the search is named {flags.get('--name')}: without a stable name no retry resumes"
    if not flags.get("--storage", "").startswith("/mnt/annlib/"):
        yield f"storage {flags.get('--storage')} is not on the volume"
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    if flags.get("--concurrency") != str(group["replicas"]):
        yield f"{flags.get('--concurrency')} trials at a time on {group['replicas']} pods"


def _size_problems(group: Mapping[str, Any], config: Any) -> Iterator[str]:
    cpus = int(group["rayStartParams"]["num-cpus"])
    resources = group["template"]["spec"]["containers"][0]["resources"]
    if cpus < config.cpus_per_worker:
        yield f"a pod has {cpus} CPUs for Ray, a worker needs {config.cpus_per_worker}"
    if config.use_gpu != ("nvidia.com/gpu" in resources.get("limits", {})):
        yield f"use_gpu is {config.use_gpu}, the pod's limits are {resources.get('limits')}"
    if (config.num_workers[0], config.num_workers[1]) != (group["minReplicas"], group["maxReplicas"]):
        yield f"{config.num_workers} workers on {group['minReplicas']} to {group['maxReplicas']} pods"
