"""Get one file over HTTP, with limits on time and size."""

import http.client
import time
import urllib.request

# A server that sends nothing for this long is given up.
IDLE_TIMEOUT_S = 20.0
# A server that sends, but too slowly for the largest file (26 MB) to arrive within this, is given up too.
TOTAL_TIMEOUT_S = 600.0
CHUNK_BYTES = 2**20


def download(url: str, *, limit_bytes: int) -> bytes:
    """Return the whole body of `url`.

    Args:
        url: Address of the file. Proxies are taken from the environment, as urllib does.
        limit_bytes: A longer body is refused.

    Raises:
        OSError: It could not be reached, answered with an error, broke off, was too slow or too long.
    """
    deadline = time.monotonic() + TOTAL_TIMEOUT_S
    body = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=IDLE_TIMEOUT_S) as response:
            while chunk := response.read1(CHUNK_BYTES):
                body += chunk
                if len(body) > limit_bytes:
                    raise OSError(f"the answer is longer than {limit_bytes:,} bytes")
                if time.monotonic() > deadline:
                    raise OSError(f"too slow: {len(body):,} bytes in {TOTAL_TIMEOUT_S:g} s")
            promised = response.headers.get("Content-Length")
    except TimeoutError as error:
        # The socket's own message ("timed out") does not say how long it waited.
        raise OSError(f"timed out: no byte for {IDLE_TIMEOUT_S:g} s") from error
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {type(error).__name__}: {error}") from error
    # A body that ends early is not an error to `read1`.
    if promised is not None and promised.isdigit() and len(body) != int(promised):
        raise OSError(f"interrupted: expected {int(promised):,} bytes, received {len(body):,}")
    return bytes(body)
