"""TensorBoard over runs that are on an object store: a local copy of their event files, kept up to date."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from annlib.errors import StorageError
from annlib.storage import Remote, check_storage, is_remote, unreadable
from annlib.training.driver import EXIT_SIGNAL

# How often new events are fetched, in seconds.
FETCH_EVERY_S = 5.0


def serve(storage: str, *, port: int) -> int:
    """Serves TensorBoard on this machine alone, until Ctrl-C.

    Args:
        storage: directory of runs, or of one: a path or a URI such as s3://bucket/runs.
        port: port to serve on, 0 to 65535.

    Returns:
        TensorBoard's exit code; 0 after Ctrl-C.

    Raises:
        ConfigError: the storage is no path and no URI that annlib reads.
        StorageError: the directory does not exist, or the object store cannot be read.
    """
    location = check_storage(storage)
    if not is_remote(location):
        if not Path(location).is_dir():
            raise StorageError(f"{location} does not exist: expected a directory of runs. Correct the path.")
        with _tensorboard(location, port) as server:
            return int(server.wait())
    with tempfile.TemporaryDirectory(prefix="annlib-tensorboard-") as directory:
        events = _Events(Remote(location), Path(directory))
        try:
            events.fetch()
        except OSError as error:
            raise unreadable(location, error) from None
        if events.is_empty:
            print(  # noqa: T201
                f"{location} holds no TensorBoard events yet: the page is empty until a run writes some.", flush=True
            )
        with _tensorboard(directory, port) as server:
            while server.poll() is None:
                time.sleep(FETCH_EVERY_S)
                # An outage is over some time; TensorBoard shows what there is meanwhile.
                with contextlib.suppress(StorageError, OSError):
                    events.fetch()
            return int(server.returncode)


class _Events:
    """The event files of all runs below a directory of an object store, in a local one."""

    def __init__(self, remote: Remote, directory: Path) -> None:
        self._remote = remote
        self._directory = directory
        self._sizes: dict[str, int] = {}

    @property
    def is_empty(self) -> bool:
        """Nothing was fetched yet."""
        return not self._sizes

    def fetch(self) -> None:
        """Fetches what has come or grown; event files only grow."""
        for name, size in self._remote.list().items():
            if "tfevents" in name and self._sizes.get(name) != size:
                path = self._directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                fetched = self._directory / "fetched"
                self._remote.download(name, fetched)
                # TensorBoard keeps the file open, and would never look at another one of the same name.
                with path.open("ab") as local, fetched.open("rb") as source:
                    source.seek(local.tell())
                    shutil.copyfileobj(source, local)
                self._sizes[name] = size


@contextlib.contextmanager
def _tensorboard(logdir: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--logdir", logdir, "--reload_interval", "5"]
    # Without what TensorFlow says of GPUs and processors.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *arguments], env=environment)
    before = signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(EXIT_SIGNAL + signum))
    try:
        yield server
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()
        signal.signal(signal.SIGTERM, before)
