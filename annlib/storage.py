"""Object stores: `--storage s3://bucket/prefix` and `gs://bucket/prefix`, through pyarrow's file systems.

Endpoint and credentials come from the standard environment variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL; GOOGLE_APPLICATION_CREDENTIALS, and
STORAGE_EMULATOR_HOST, which names a server that takes anybody.
"""

import contextlib
import datetime
import errno
import functools
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from annlib.artifacts import replacing
from annlib.errors import ConfigError, StorageError

if TYPE_CHECKING:
    import pyarrow.fs

# By scheme, what the environment says about endpoint and credentials.
_VARIABLES = {
    "s3": "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
SCHEMES = tuple(_VARIABLES)
# What an error of a store says, and what that means: a refusal stays one, the rest may pass.
_REFUSALS = {
    "INVALID_ACCESS_KEY_ID": "an unknown access key",
    "access key": "an unknown access key",
    "NO_SUCH_BUCKET": "no such bucket",
    "does not exist": "no such bucket",
    "ACCESS_DENIED": "access denied",
    "SIGNATURE_DOES_NOT_MATCH": "a wrong secret key",
    "SignatureDoesNotMatch": "a wrong secret key",
}
_FAILURES = {
    "NETWORK_CONNECTION": "no answer",
    "curlCode": "no answer",
    "OAuth2 access token": "no access token for these credentials",
    "CURL error": "no answer",
}
_REASONS = (*_REFUSALS.items(), *_FAILURES.items())
# Between two attempts, in seconds.
PROBE_EVERY_S = 1.0
# How long is waited for a store in the midst of work that has no patience of its own, in seconds.
PATIENCE_S = 60.0
# A request that takes longer is given up, and tried again by whoever made it, in seconds.
CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0


def is_remote(storage: str) -> bool:
    """Tells whether a storage is on an object store; a path or `file://` is not."""
    return storage.split("://", maxsplit=1)[0] in SCHEMES and "://" in storage


def check_storage(storage: str, *, name: str = "--storage") -> str:
    """Returns a storage in its one form: an absolute path, or a URI without a slash at its end.

    Args:
        storage: a path, which need not exist, or a URI.
        name: what messages call it.

    Raises:
        ConfigError: the scheme is unknown, there is no bucket, or the URI holds credentials, which are not repeated.
    """
    if not storage:
        raise ConfigError(f"{name} is empty: expected a directory or a URI. Give one, or leave it out.")
    if "://" not in storage:
        return str(Path(storage).expanduser().absolute())
    parts = urlsplit(storage, allow_fragments=False)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise ConfigError(
                f"{name} {storage} is no path of this machine: expected file:///directory, with three slashes. Correct "
                "it, or give the path alone."
            )
        return str(Path(unquote(parts.path)))
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"{name} has the scheme {parts.scheme}://: expected a path, or a URI with "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)} or file://. Correct it."
        )
    if "@" in parts.netloc or parts.query:
        raise ConfigError(
            f"{name} holds credentials or options: expected scheme://bucket/prefix alone. Put them into the "
            "standard environment variables, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL."
        )
    if not parts.netloc:
        raise ConfigError(f"{name} {storage} names no bucket: expected {parts.scheme}://bucket/prefix. Correct it.")
    path = parts.path.rstrip("/")
    if "//" in path:
        raise ConfigError(
            f"{name} {storage} has a part without a name: expected {parts.scheme}://bucket/prefix with single slashes. "
            "Correct it."
        )
    return f"{parts.scheme}://{parts.netloc}{path}"


class Remote:
    """A directory on an object store.

    Args:
        uri: as `check_storage` returns it.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._files, self._path = open_filesystem(uri)

    def probe(self, *, timeout_s: float = 0.0) -> None:
        """Writes, reads and deletes a small file.

        Args:
            timeout_s: seconds to try again for where the store does not answer, or fails by itself.

        Raises:
            StorageError: the store cannot be reached, has no such bucket, or denies it.
        """
        try:
            insist(self._write_and_read, timeout_s=timeout_s)
        except OSError as error:
            raise StorageError(
                f"{self.uri} cannot be written: expected a bucket that these credentials may write, received "
                f"{describe(error)}. Correct --storage, or {_VARIABLES[urlsplit(self.uri).scheme]} in the environment."
            ) from None

    def _write_and_read(self) -> None:
        # Driver and workers may do this at the same time.
        path = f"{self._path}/.probe.{uuid.uuid4().hex}"
        with self._files.open_output_stream(path) as stream:
            stream.write(b"probe")
        with self._files.open_input_stream(path) as stream:
            stream.read()
        self._files.delete_file(path)

    def list(self) -> dict[str, int]:
        """Returns the size of each file below the directory, in bytes, by its path from there."""
        return {name: info.size for name, info in self._infos()}

    def versions(self) -> dict[str, tuple[int, str]]:
        """Returns as `list` does the size of each file, and what tells its content from an earlier one."""
        return {name: (info.size, f"{info.size} bytes of {info.mtime_ns}") for name, info in self._infos()}

    def _infos(self) -> "Iterator[tuple[str, pyarrow.fs.FileInfo]]":
        from pyarrow.fs import FileSelector, FileType

        for info in self._files.get_file_info(FileSelector(self._path, allow_not_found=True, recursive=True)):
            if info.type == FileType.File:
                yield info.path[len(self._path) + 1 :], info

    def open(self, name: str) -> "pyarrow.NativeFile":
        """Opens a file to read any part of it."""
        return self._files.open_input_file(f"{self._path}/{name}")

    def upload(self, local: Path, name: str) -> None:
        """Copies a file as it is now; a reader sees the old content or the new one, and none after an error."""
        path = f"{self._path}/{name}"
        with local.open("rb") as source:
            # Only what is there now: a log goes on growing.
            left = os.fstat(source.fileno()).st_size
            target = self._files.open_output_stream(path)
            try:
                while left and (block := source.read(min(left, 2**20))):
                    target.write(block)
                    left -= len(block)
            except BaseException:
                # Arrow cannot give an object up: once closed, here or when it is collected, it passes for a whole one.
                with contextlib.suppress(OSError):
                    target.close()
                    self._files.delete_file(path)
                raise
            target.close()

    def download(self, name: str, local: Path) -> None:
        """Copies a file here."""
        local.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(local) as temporary,
            self._files.open_input_stream(f"{self._path}/{name}") as source,
            temporary.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, 2**20)

    def delete(self, name: str) -> None:
        """Removes a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._files.delete_file(f"{self._path}/{name}")


def insist(action: Callable[[], None], *, timeout_s: float | None = None) -> None:
    """Does something with a store, again where that does not answer or fails by itself; PATIENCE_S long by default.

    Raises:
        OSError: the last error; the first one where the store refuses, or has no such file.
    """
    deadline = time.monotonic() + (PATIENCE_S if timeout_s is None else timeout_s)
    while True:
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as error:
            if describe(error) in _REFUSALS.values() or time.monotonic() >= deadline:
                raise
        time.sleep(PROBE_EVERY_S)


def unreadable(location: str, error: OSError) -> StorageError:
    """Returns the error of an object store that a user named and that cannot be read."""
    return StorageError(
        f"{location} cannot be read: expected an object store that answers, received {describe(error)}. Correct the "
        "URI, or endpoint and credentials in the environment."
    )


def describe(error: OSError) -> str:
    """Returns the reason in an object store's error, in one line."""
    text = " ".join(str(error).split())
    return next((reason for sign, reason in _REASONS if sign in text), text[:300])


def open_filesystem(location: str) -> "tuple[pyarrow.fs.FileSystem, str]":
    """Returns the file system of a location that `check_storage` returned, and the path on it."""
    from pyarrow import fs

    if not is_remote(location):
        return fs.LocalFileSystem(), location
    scheme, _, path = location.partition("://")
    return _filesystem(scheme, bucket=path.partition("/")[0]), path


def exists(location: str) -> bool:
    """Tells whether there is a file at a location that `check_storage` returned.

    Raises:
        OSError: the object store does not answer, or denies it.
    """
    if not is_remote(location):
        return Path(location).exists()
    from pyarrow.fs import FileType

    files, path = open_filesystem(location)
    return bool(files.get_file_info(path).type == FileType.File)


def read_text(location: str) -> str:
    """Returns the content of a file at a location that `check_storage` returned.

    Raises:
        OSError: it is not there, or cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    if not is_remote(location):
        return Path(location).read_text(encoding="utf-8")
    files, path = open_filesystem(location)
    try:
        with files.open_input_stream(path) as stream:
            return str(stream.read(), encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location) from None


def _filesystem(scheme: str, bucket: str) -> "pyarrow.fs.FileSystem":
    from pyarrow import fs

    if scheme == "gs":
        emulator = urlsplit(os.environ.get("STORAGE_EMULATOR_HOST", ""))
        return fs.GcsFileSystem(
            anonymous=bool(emulator.netloc),
            endpoint_override=emulator.netloc or None,
            scheme=emulator.scheme or "https",
            # Waiting longer, and telling about it, is up to the caller.
            retry_time_limit=datetime.timedelta(seconds=REQUEST_TIMEOUT_S),
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    parts = urlsplit(endpoint or "https://")
    if parts.scheme not in ("http", "https") or (endpoint and not parts.netloc) or parts.path.strip("/"):
        raise ConfigError(
            "the endpoint of the object store is wrong: expected http://HOST:PORT or https://HOST:PORT, received "
            f"{(endpoint or '').rpartition('@')[2]!r}. Correct AWS_ENDPOINT_URL in the environment."
        )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or (endpoint and "us-east-1")
    if not region:
        # Arrow would take us-east-1. Where Amazon does not answer, whoever opens a file tells.
        with contextlib.suppress(OSError):
            region = _region_of(bucket)
    return fs.S3FileSystem(
        endpoint_override=parts.netloc or None,
        scheme=parts.scheme,
        # Stores other than Amazon's do not care.
        region=region,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        # Waiting longer, and telling about it, is up to the caller.
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
        allow_bucket_creation=False,
        background_writes=False,
    )


@functools.cache
def _region_of(bucket: str) -> str:
    """Returns where Amazon has a bucket; raises OSError where it does not say."""
    from pyarrow import fs

    return str(fs.resolve_s3_region(bucket))
