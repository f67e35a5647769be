"""Placeholder until merged."""

from pathlib import Path


def is_remote(storage: str) -> bool:
    return storage.startswith(("s3://", "gs://"))


def check_storage(storage: str) -> str:
    if is_remote(storage):
        return storage.rstrip("/")
    return str(Path(storage).expanduser().absolute())
