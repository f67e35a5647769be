"""The IDX format of the MNIST family: a header of big-endian integers, then the values as unsigned bytes.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", file formats.
"""

import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annlib.data.verification import DamagedError, check_sha256, decompressed

# The third byte of the magic number is the type of the values, the fourth the number of dimensions.
UNSIGNED_BYTE = 0x08


@dataclass(frozen=True, kw_only=True)
class IdxFormat:
    """What one IDX file must hold.

    Args:
        shape: Shape of the array.
        sha256: SHA-256 of the whole decompressed file, header included.
        maximum: The largest value allowed, 0 to 255.
    """

    shape: tuple[int, ...]
    sha256: str
    maximum: int = 255

    @property
    def header(self) -> bytes:
        """The magic number and the dimensions as the file must begin with."""
        magic = UNSIGNED_BYTE << 8 | len(self.shape)
        return struct.pack(f">{1 + len(self.shape)}I", magic, *self.shape)

    @property
    def num_bytes(self) -> int:
        """Size of the decompressed file."""
        return len(self.header) + math.prod(self.shape)

    @property
    def limit_bytes(self) -> int:
        """No sound file is larger: data that gzip cannot compress grows by far less than the mebibyte given here."""
        return self.num_bytes + 2**20

    def decode(self, raw: bytes) -> npt.NDArray[np.uint8]:
        """Verify a whole file, gzip or plain, and return its values.

        Returns:
            uint8, of `shape`, values 0 to `maximum`. Read-only: the array is a view of the bytes, not a copy.

        Raises:
            DamagedError: The size, the header, the SHA-256 or a value is not the expected one.
        """
        content = decompressed(raw, limit_bytes=self.num_bytes)
        # The header is looked at first: "labels where images belong" says more than "another checksum".
        received = content[: len(self.header)]
        if received != self.header:
            raise DamagedError(
                f"an IDX file of uint8 values with shape {self.shape} (header {self.header.hex()})",
                f"{len(content):,} bytes that begin with {received.hex() or 'nothing'}",
            )
        if len(content) != self.num_bytes:
            raise DamagedError(f"{self.num_bytes:,} bytes", f"{len(content):,} bytes")
        check_sha256(content, self.sha256)
        values = np.frombuffer(content, dtype=np.uint8, offset=len(self.header)).reshape(self.shape)
        # 255 allows every byte, and the images are the 47 MB for which the pass would be noticed.
        if self.maximum < 255 and int(values.max()) > self.maximum:
            raise DamagedError(f"values from 0 to {self.maximum}", f"a value of {int(values.max())}")
        return values
