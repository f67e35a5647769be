"""A text table of numbers separated by commas, plain or inside a compressed tar archive."""

import io
import tarfile
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annlib.data.verification import GZIP_MAGIC, DamagedError, check_sha256, decompressed


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """What one table must hold.

    Args:
        shape: Rows and columns.
        sha256: SHA-256 of the values as float64, little-endian, row by row. Not of the text: copies of one table
            differ in line ends and in the newline at the end, and hold the same numbers.
        member: Path of the text inside the archive.
        limit_bytes: No sound file is larger, compressed or not.
    """

    shape: tuple[int, int]
    sha256: str
    member: str
    limit_bytes: int

    def decode(self, raw: bytes) -> npt.NDArray[np.float64]:
        """Verify a whole file, text or tar.gz, and return its values.

        Returns:
            float64, of `shape`, finite. Read-only.

        Raises:
            DamagedError: It cannot be read as a table, or the shape, a value or the SHA-256 is not the expected one.
        """
        content = self._member(raw) if raw.startswith(GZIP_MAGIC) else raw
        if not content.strip():
            raise DamagedError(f"a table of shape {self.shape}", "no text")
        try:
            values = np.loadtxt(io.BytesIO(content), dtype=np.float64, delimiter=",", ndmin=2)
        except ValueError as error:
            raise DamagedError("numbers separated by commas", f"text that NumPy refuses ({error})") from error
        if values.shape != self.shape:
            raise DamagedError(f"a table of shape {self.shape}", f"shape {values.shape} in {len(content):,} bytes")
        if not np.isfinite(values).all():
            raise DamagedError("finite values", f"{np.count_nonzero(~np.isfinite(values))} that are NaN or infinite")
        check_sha256(values.astype("<f8", copy=False).tobytes(), self.sha256)
        values.setflags(write=False)
        return values

    def _member(self, raw: bytes) -> bytes:
        # Decompressed first, with a limit, and read in memory: nothing of the archive decides what is written where.
        content = decompressed(raw, limit_bytes=self.limit_bytes)
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
                entry = archive.getmember(self.member)
                # A sparse entry can claim more than the archive holds.
                file = archive.extractfile(entry) if entry.size <= self.limit_bytes else None
                if file is not None:
                    return file.read()
        except (tarfile.TarError, KeyError) as error:
            raise DamagedError(f"a tar archive that holds {self.member}", f"another content ({error})") from error
        raise DamagedError(
            f"a file {self.member} of at most {self.limit_bytes:,} bytes in the archive",
            f"an entry of {entry.size:,} bytes and tar type {entry.type!r}",
        )
