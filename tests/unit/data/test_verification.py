import gzip
import hashlib
import zlib

import pytest

from annlib.data.verification import DamagedError, check_sha256, decompressed

CONTENT = bytes(range(256)) * 40


def test_gzip_is_decompressed():
    assert decompressed(gzip.compress(CONTENT), limit_bytes=len(CONTENT)) == CONTENT


def test_other_bytes_are_returned_as_they_are():
    assert decompressed(CONTENT, limit_bytes=len(CONTENT)) is CONTENT


def test_several_members_and_zeros_at_the_end_are_one_content():
    raw = gzip.compress(CONTENT[:100]) + gzip.compress(CONTENT[100:]) + b"\0" * 512
    assert decompressed(raw, limit_bytes=len(CONTENT)) == CONTENT


@pytest.mark.parametrize("num_bytes", [3, 10, 30, -1])
def test_truncated_gzip_is_refused(num_bytes):
    with pytest.raises(DamagedError, match="truncated"):
        decompressed(gzip.compress(CONTENT)[:num_bytes], limit_bytes=len(CONTENT))


def test_flipped_bit_is_refused():
    raw = bytearray(gzip.compress(CONTENT))
    raw[-8] ^= 1  # the CRC-32
    with pytest.raises(DamagedError, match="incorrect data check"):
        decompressed(bytes(raw), limit_bytes=len(CONTENT))


def test_rubbish_after_the_stream_is_refused():
    with pytest.raises(DamagedError, match="zlib refuses"):
        decompressed(gzip.compress(CONTENT) + b"rubbish", limit_bytes=2 * len(CONTENT))


def test_bomb_is_refused_and_not_unpacked(monkeypatch):
    produced = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, wbits):
            self.inner = real(wbits=wbits)

        def decompress(self, data, max_length):
            part = self.inner.decompress(data, max_length)
            produced.append(len(part))
            return part

    bomb = gzip.compress(bytes(50_000_000))
    monkeypatch.setattr(zlib, "decompressobj", lambda wbits: Counting(wbits))
    with pytest.raises(DamagedError, match="at most 1,000 bytes"):
        decompressed(bomb, limit_bytes=1_000)
    assert sum(produced) == 1_001


def test_right_sha256_passes():
    check_sha256(b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")  # FIPS 180-2, B.1


def test_wrong_sha256_names_both():
    with pytest.raises(DamagedError) as error:
        check_sha256(b"abc", "0" * 64)
    assert "0" * 64 in str(error.value)
    assert hashlib.sha256(b"abc").hexdigest() in str(error.value)
    assert "3 bytes" in str(error.value)
