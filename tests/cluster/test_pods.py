"""Head, workers and submitter as pods with addresses of their own, started by the commands that KubeRay gives them."""

import json
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from containers import ROOT, VOLUME, Pod, make_volume, podman

pytestmark = pytest.mark.image

TOKEN = "test-token-0123456789abcdef0123456789abcdef"
WRONG_TOKEN = "wrong-token-77aa"
AGENT_PORT, DASHBOARD_PORT, GCS_PORT = 52365, 8265, 6379
CLUSTER_SPEC = yaml.safe_load((ROOT / "k8s/base/rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
HEAD_GROUP, (WORKER_GROUP,) = CLUSTER_SPEC["headGroupSpec"], CLUSTER_SPEC["workerGroupSpecs"]
SUBMIT = """
until python -c "import urllib.request; r=urllib.request.urlopen('{url}/api/gcs_healthz', timeout=10); \
exit(0 if b'success' in r.read() else 1)" >/dev/null 2>&1; do echo waiting; sleep 2; done
if ! ray job status --address {url} {job} >/dev/null 2>&1; then
  ray job submit --address {url} --no-wait --submission-id {job} -- {entrypoint}; fi
ray job logs --address {url} --follow {job}
"""


def in_bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


def ray_start(group: dict[str, Any], *flags: str) -> str:
    """Puts Ray's command together from the parameters and limits of the manifest, as KubeRay 1.7 does."""
    (container,) = group["template"]["spec"]["containers"]
    parameters = {
        **group["rayStartParams"],
        "memory": in_bytes(container["resources"]["limits"]["memory"]),
        "metrics-export-port": 8080,
        "dashboard-agent-listen-port": AGENT_PORT,
    }
    words = [*flags, *(f"--{name}={value}" for name, value in sorted(parameters.items())), "--block"]
    return f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; ray start {' '.join(words)}"


def limits(group: dict[str, Any]) -> dict[str, str]:
    """Returns what a pod of the group may take, as arguments of `Pod`."""
    pod = group["template"]["spec"]
    (shared,) = [v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if v["name"] == "shared-memory"]
    memory = pod["containers"][0]["resources"]["limits"]["memory"]
    return {"memory": str(in_bytes(memory)), "shared_memory": str(in_bytes(shared))}


class Cluster(NamedTuple):
    image: str
    network: str
    volume: Path
    head: Pod
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://{self.head.name}:{DASHBOARD_PORT}"

    def pod(self, *command: str, token: str | None = TOKEN, **options: Any) -> Pod:
        """Starts one more pod on the cluster's network."""
        authentication = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
        environment = {**self.environment, **authentication}
        return Pod(self.image, *command, volume=self.volume, network=self.network, environment=environment, **options)

    def worker(self) -> Pod:
        """Starts a worker and waits until it is ready, as KubeRay's init container and the kubelet's probe do."""
        ready = self.pod("-c", "--", f"ray health-check --address {self.head.name}:{GCS_PORT}", **BASH, memory="256m")
        code, log = ready.wait()
        ready.remove()
        assert code == 0, log
        command = ray_start(WORKER_GROUP, f"--address={self.head.name}:{GCS_PORT}")
        worker = self.pod("-c", "--", command, **BASH, **limits(WORKER_GROUP), restarts=5)
        worker.wait_for(lambda: healthy(worker))
        return worker

    def ask(self, path: str, token: str | None = TOKEN) -> Any:
        """Returns what the dashboard answers to the operator, which reads the job's status there."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://{self.head.address()}:{DASHBOARD_PORT}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


BASH = {"entrypoint": "/bin/bash"}


def healthy(pod: Pod) -> bool:
    """Does what the kubelet's probe does: it has no token, and comes from the node."""
    try:
        url = f"http://{pod.address()}:{AGENT_PORT}/api/healthz"
        return bool(urllib.request.urlopen(url, timeout=5).status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def cluster(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    volume = tmp_path_factory.mktemp("cluster") / "volume"
    make_volume(volume)
    network = f"annlib-test-{uuid.uuid4().hex[:8]}"
    # Internal: nothing in it reaches the internet, so nothing is fetched at run time.
    podman("network", "create", "--internal", network)
    authentication = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_PORT": str(GCS_PORT)}
    head_environment = {**environment, **authentication, "RAY_ADDRESS": f"127.0.0.1:{GCS_PORT}"}
    head = None
    try:
        options = {"volume": volume, "network": network, "environment": head_environment, "restarts": 5, **BASH}
        command = ray_start(HEAD_GROUP, "--head", "--dashboard-host=0.0.0.0")
        head = Pod(image, "-c", "--", command, **options, **limits(HEAD_GROUP))
        head.wait_for(lambda: healthy(head))
        yield Cluster(image, network, volume, head, environment)
    finally:
        if head is not None:
            head.remove()
        podman("network", "rm", "--force", network)


@pytest.fixture(scope="module")
def workers(cluster: Cluster) -> Iterator[list[Pod]]:
    started = []
    try:
        started += [cluster.worker(), cluster.worker()]
        yield started
    finally:
        for worker in started:
            worker.remove()


@pytest.fixture
def pod(cluster: Cluster) -> Iterator[Callable[..., Pod]]:
    started: list[Pod] = []

    def start(*command: str, **options: Any) -> Pod:
        started.append(cluster.pod(*command, **options))
        return started[-1]

    yield start
    for each in started:
        each.remove()


def train(*flags: str, name: str, workload: str = "digits") -> str:
    return f"python jobs/train.py {workload} --num-workers 2 --storage {VOLUME}/runs --name {name} {' '.join(flags)}"


def test_a_job_as_kuberay_submits_it(cluster: Cluster, workers: list[Pod], pod: Callable[..., Pod]) -> None:
    entrypoint = train("--epochs", "2", name="kuberay")
    submitter = pod("-c", "--", SUBMIT.format(url=cluster.url, job="kuberay-1", entrypoint=entrypoint), **BASH)
    code, log = submitter.wait()
    assert code == 0, log
    assert "epoch 2/2" in log
    assert cluster.ask("/api/jobs/kuberay-1")["status"] == "SUCCEEDED"
    run = cluster.volume / "runs/kuberay"
    assert json.loads((run / "metrics.json").read_text())["restarts"] == []
    assert (run / "model.keras").stat().st_uid == 1000
    text = (run / "run.log").read_text()
    # One rank on each worker, none on the head.
    assert set(re.findall(r"rank \d node (\S+)", text)) == {worker.name for worker in workers}
    for path in run.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
    assert TOKEN not in log


def test_a_job_from_annlibs_submitter_as_another_user(
    cluster: Cluster, workers: list[Pod], pod: Callable[..., Pod]
) -> None:
    command = ["python", "jobs/submit.py", "--address", cluster.url, "--"]
    submitter = pod(*command, *train("--epochs", "3", name="own").split(), user=4242)
    code, log = submitter.wait()
    assert code == 0, log
    assert "succeeded, exit code 0" in log
    assert (cluster.volume / "runs/own/metrics.json").exists()
    bad = pod(*command, *train("--epochs", "-1", name="bad").split())
    code, log = bad.wait()
    assert code == 2, log
    assert "epochs from the command line is wrong" in log


@pytest.mark.parametrize("token", [WRONG_TOKEN, None])
def test_without_the_token_nothing_runs(cluster: Cluster, pod: Callable[..., Pod], token: str | None) -> None:
    command = ["python", "jobs/submit.py", "--address", cluster.url, "--", "true"]
    code, log = pod(*command, token=token).wait()
    assert code == 2, log
    assert "expected its token, received" in log
    assert WRONG_TOKEN not in log
    ray = ["ray", "job", "submit", "--address", cluster.url, "--submission-id", "refused", "--", "true"]
    code, log = pod(*ray, token=token).wait()
    assert code != 0, log
    with pytest.raises(urllib.error.HTTPError) as refused:
        cluster.ask("/api/jobs/", token=token)
    assert refused.value.code in (401, 403)
    assert "refused" not in {job["submission_id"] for job in cluster.ask("/api/jobs/")}
    # Nor does a node join.
    code, log = pod("ray", "start", f"--address={cluster.head.name}:{GCS_PORT}", token=token).wait()
    assert code != 0, log


def test_a_worker_that_is_killed_and_replaced_is_survived(
    cluster: Cluster, workers: list[Pod], pod: Callable[..., Pod]
) -> None:
    entrypoint = train("--epochs", "2", "--checkpoint-every-s", "2", name="killed", workload="fashion-mnist")
    submitter = pod("-c", "--", SUBMIT.format(url=cluster.url, job="killed", entrypoint=entrypoint), **BASH)
    run = cluster.volume / "runs/killed"
    submitter.wait_for(lambda: any((run / "checkpoints").glob("epoch-*")))
    workers.pop().remove()
    workers.append(cluster.worker())
    code, log = submitter.wait()
    assert code == 0, log
    assert cluster.ask("/api/jobs/killed")["status"] == "SUCCEEDED", log
    metrics = json.loads((run / "metrics.json").read_text())
    assert len(metrics["restarts"]) == 1
    rows = (run / "history.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["1", "2"]


def test_sigterm_ends_a_worker_within_its_grace_period(cluster: Cluster, workers: list[Pod]) -> None:
    worker = workers[-1]
    assert worker.stop(grace_s=60) < 60
    assert "SIGTERM" in worker.log()
