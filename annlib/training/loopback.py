"""Keeps the servers of a process to its machine."""

import contextlib
import ipaddress
import json
import logging
import os
import socket
from collections.abc import Iterator

logger = logging.getLogger(__name__)


def is_on_loopback() -> bool:
    """Tells whether there are workers in TF_CONFIG, all reached by the loopback interface, so on this machine."""
    workers = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {}).get("worker", [])
    return bool(workers) and all(worker.startswith(("127.", "[::1]")) for worker in workers)


def keep_servers_to_loopback() -> None:
    """Lets the servers of this process that listen on all interfaces answer by the loopback interface alone.

    TensorFlow's server, by which the workers' collectives go, listens on all of them, whatever address it is given, and
    asks nobody for a token.
    """
    for server in _servers_on_all_interfaces():
        port = server.getsockname()[1]
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            logger.info("the server at port %d answers by the loopback interface alone", port)
        except (AttributeError, OSError) as error:
            # Linux before 5.7 lets root alone do so, other systems nobody.
            logger.warning("the server at port %d answers by all interfaces: %s", port, error)


def _servers_on_all_interfaces() -> Iterator[socket.socket]:
    for path in os.scandir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        # A file that was closed meanwhile.
        with contextlib.suppress(OSError):
            if not os.readlink(path).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(path.name))) as found:
                if found.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                is_server = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if is_server and ipaddress.ip_address(found.getsockname()[0]).is_unspecified:
                    yield found
