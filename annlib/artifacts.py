"""The run directory `<storage>/<name>/`: its paths, and writing so that a reader sees a whole file or none."""

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from annlib.errors import StorageError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """The files of one run.

    Args:
        path: the directory, absolute.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def history(self) -> Path:
        """A row for each epoch."""
        return self.path / "history.csv"

    @property
    def metrics(self) -> Path:
        """Final metrics; a run that has them is finished."""
        return self.path / "metrics.json"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.path / "model.keras"

    @property
    def signature(self) -> Path:
        """What the trained model takes and gives."""
        return self.path / "signature.json"

    @property
    def checkpoints(self) -> Path:
        """One directory for each checkpoint."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def learning_curves(self) -> Path:
        """Picture of the history."""
        return self.path / "learning_curves.png"

    @property
    def pictures(self) -> Path:
        """Directory of the other pictures: samples, mistakes, residuals and so on."""
        return self.path / "pictures"

    @property
    def model_summary(self) -> Path:
        """The layers of the model, as text."""
        return self.path / "model_summary.txt"

    @property
    def predictions(self) -> Path:
        """What the model gives for the test split, a NumPy array."""
        return self.path / "test_predictions.npy"

    @property
    def report(self) -> Path:
        """The page that shows the run to a person."""
        return self.path / "report.html"

    @property
    def trial(self) -> Path:
        """The record of a trial of a search; an ordinary run has none."""
        return self.path / "trial.json"

    @property
    def search(self) -> Path:
        """What is searched; a search is a directory of runs, not a run."""
        return self.path / "search.yaml"

    @property
    def attempts(self) -> Path:
        """Starts of the workers and what ended them, a JSON object a line."""
        return self.path / "attempts.jsonl"

    @property
    def log(self) -> Path:
        """Log lines of the driver and the workers, and what TensorFlow and Ray print."""
        return self.path / "run.log"

    @property
    def logs(self) -> Path:
        """Log files of the Ray workers of a run on an object store; elsewhere they write to `log`."""
        return self.path / "logs"

    @property
    def shared_probe(self) -> Path:
        """Written by the driver, for workers on other nodes to see whether they share the storage."""
        return self.path / ".shared"

    def create(self) -> None:
        """Makes the directory and checks that it can be written.

        Raises:
            StorageError: it cannot; nothing is left behind.
        """
        existed = self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / ".probe", b"probe")
            (self.path / ".probe").unlink()
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            if not existed:
                with contextlib.suppress(OSError):
                    self.path.rmdir()
            raise StorageError(
                f"the run directory {self.path} cannot be written: expected a writable directory, received "
                f"{error.strerror or error}. Give another --storage, or its permissions or space."
            ) from None

    @contextlib.contextmanager
    def claim(self, location: str) -> Iterator[None]:
        """Keeps other processes of this machine from training the run meanwhile.

        Args:
            location: where the run is kept, a path or a URI.

        Raises:
            StorageError: one of them does.
        """
        # A network file system may not lock directories, and an object store has no locks; containers that share a
        # directory may have a /tmp each.
        places = (self.path, _lock_of(location))
        with contextlib.ExitStack() as stack:
            for place in places:
                try:
                    stack.enter_context(locked(place))
                except BlockingIOError:
                    raise StorageError(
                        f"the run {location} is in use: expected no other process that trains it, received one that "
                        "does. Wait until it has ended, or give another --name."
                    ) from None
                except OSError as error:
                    logger.info("%s cannot be locked: %s", place, error)
            yield

    def remove_leftovers(self) -> None:
        """Removes what processes that were killed had half written; for when nobody writes."""
        for left in [*self.path.glob(".*.tmp*"), *self.checkpoints.glob(".*.tmp*")]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def read_metrics(self) -> dict[str, Any] | None:
        """Returns the final metrics, or None while the run is not finished."""
        try:
            metrics: dict[str, Any] = json.loads(self.metrics.read_text())
            if not isinstance(metrics, dict):
                raise ValueError(f"a {type(metrics).__name__}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{self.metrics} cannot be read: expected a JSON object, received {error}. Remove it to finish the run "
                "again."
            ) from None
        return metrics

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes all rows; the columns are those of the last one, then those that only earlier ones have."""
        columns = list(dict.fromkeys(name for row in reversed(rows) for name in row)) if rows else ["epoch"]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.history, text.getvalue().encode())

    def read_history(self) -> list[dict[str, str]]:
        """Returns the rows written so far, as text."""
        try:
            # A crash or a failing disk may leave bytes that are no text.
            with self.history.open(newline="", errors="replace") as file:
                return list(csv.DictReader(file))
        except FileNotFoundError:
            return []


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Locks a file or a directory; raises BlockingIOError where another process has, another OSError where none can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _lock_of(location: str) -> Path:
    """Returns a file of this machine that stands for a location."""
    locks = Path(tempfile.gettempdir()) / f"annlib-locks-{os.getuid()}"
    path = locks / hashlib.sha256(location.encode()).hexdigest()
    with contextlib.suppress(OSError):
        locks.mkdir(exist_ok=True, mode=0o700)
        path.touch()
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Writes to a temporary name beside `path`, then renames: a reader sees the old content or the new one."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path` to write to, which then becomes `path`; nothing is left after an error."""
    # Keras looks at the end of the name.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Returns when a file's content is on the disk, so that a name that it gets then survives a loss of power."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def check_can_be_written(path: Path) -> None:
    """Raises StorageError where a file cannot be made; to be called before the work that fills it."""
    parent = path.absolute().parent
    if not parent.is_dir():
        reason = f"a file in {parent}, which is no directory. Make the directory"
    elif path.is_dir():
        reason = "a directory. Give the name of a file"
    elif not os.access(parent, os.W_OK):
        reason = f"a file in {parent}, which is read-only. Give another directory"
    else:
        return
    raise StorageError(f"{path} cannot be written: expected a file in a writable directory, received {reason}.")
