"""Placeholder until merged."""

from pathlib import Path


def is_remote(storage: str) -> bool:
    return storage.startswith(("s3://", "gs://"))


def check_storage(storage: str) -> str:
    if is_remote(storage):
        return storage.rstrip("/")
    return str(Path(storage).expanduser().absolute())


class Remote:
    def __init__(self, uri: str) -> None: ...
    def probe(self) -> None: ...


class Mirror:
    def __init__(self, directory: Path, remote: Remote, *, timeout_s: float) -> None: ...
    def __enter__(self) -> "Mirror":
        return self

    def __exit__(self, *args: object) -> None: ...
    def check(self) -> None: ...
    def flush(self) -> None: ...
    def pull(self, *, exclude: object) -> None: ...
