"""Messages between the driver, Ray Train's controller and the workers, through the cluster's key-value store.

They pass when the storage is away, they need no process of their own, and no directory that all nodes share.
"""

import dataclasses
import json
import time
import uuid
from typing import Any

from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_exists,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)


@dataclasses.dataclass(frozen=True)
class Mailbox:
    """The messages of one start of a run.

    Args:
        name: tells this start from all others on the cluster.
    """

    name: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def post(self, event: str, **values: Any) -> None:
        """Sends a message to the driver."""
        message = {"event": event, **values}
        _internal_kv_put(self._key(f"post/{time.time_ns():020d}-{uuid.uuid4().hex}"), json.dumps(message).encode())

    def take(self) -> list[dict[str, Any]]:
        """Returns the messages that have come since the last call, the oldest first."""
        messages = []
        for key in sorted(_internal_kv_list(self._key("post/"))):
            value = _internal_kv_get(key)
            if value is not None:
                messages.append(json.loads(value))
            _internal_kv_del(key)
        return messages

    def set(self, flag: str) -> None:
        """Sets a flag that all can see."""
        _internal_kv_put(self._key(f"flag/{flag}"), b"1")

    def is_set(self, flag: str) -> bool:
        """Tells whether a flag is set."""
        return bool(_internal_kv_exists(self._key(f"flag/{flag}")))

    def claim(self, name: str) -> bool:
        """Tells whether this process is the first to ask for it."""
        return not _internal_kv_put(self._key(f"claim/{name}"), b"1", overwrite=False)

    def put(self, name: str, value: dict[str, Any]) -> None:
        """Leaves a value that all can read."""
        _internal_kv_put(self._key(f"value/{name}"), json.dumps(value).encode())

    def get(self, name: str) -> dict[str, Any] | None:
        """Returns the value of that name; None where nobody has left one yet."""
        value = _internal_kv_get(self._key(f"value/{name}"))
        return None if value is None else dict(json.loads(value))

    def num_resizes(self) -> int:
        """Returns how often Ray Train has ended the workers to start more or fewer."""
        return int((self.get("resizes") or {"count": 0})["count"])

    def attempt(self, group: str) -> int:
        """Returns the number of a group of workers among those of this start, counted from 1."""
        _internal_kv_put(self._key(f"group/{group}"), b"1", overwrite=False)
        return len(_internal_kv_list(self._key("group/")))

    def clear(self) -> None:
        """Removes everything."""
        for key in _internal_kv_list(self._key("")):
            _internal_kv_del(key)

    def _key(self, name: str) -> bytes:
        return f"annlib/{self.name}/{name}".encode()
