import gzip
import hashlib

import numpy as np
import pytest

from annlib.data.idx import IdxFormat
from annlib.data.verification import DamagedError

# Two images of 1 by 3 pixels, written by hand from the format's description.
CONTENT = bytes.fromhex("00000803 00000002 00000001 00000003") + bytes([0, 1, 2, 253, 254, 255])
IMAGES = IdxFormat(shape=(2, 1, 3), sha256=hashlib.sha256(CONTENT).hexdigest())
LABELS_CONTENT = bytes.fromhex("00000801 00000003") + bytes([0, 9, 10])


@pytest.mark.parametrize("raw", [CONTENT, *(gzip.compress(CONTENT, level, mtime=0) for level in (9, 1))])
def test_values_are_the_same_plain_and_compressed_at_any_level(raw):
    values = IMAGES.decode(raw)
    np.testing.assert_array_equal(values, np.array([[[0, 1, 2]], [[253, 254, 255]]], dtype=np.uint8), strict=True)


def test_values_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        IMAGES.decode(CONTENT)[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("raw", "received"),
    [
        (b"", "0 bytes that begin with nothing"),
        (b"<html>404</html>", "begin with 3c68746d6c"),
        (bytes.fromhex("00000801 00000006") + bytes(6), "begin with 00000801"),
        (bytes.fromhex("00000d03") + CONTENT[4:], "begin with 00000d03"),
        (CONTENT[:7] + b"\x03" + CONTENT[8:], "begin with 0000080300000003"),
        (CONTENT[:15], "15 bytes that begin with"),
    ],
    ids=["empty", "not IDX", "labels for images", "floats", "another number of images", "half a header"],
)
def test_wrong_header_is_shown(raw, received):
    with pytest.raises(DamagedError) as error:
        IMAGES.decode(raw)
    assert "shape (2, 1, 3)" in str(error.value)
    assert received in str(error.value)


def test_missing_bytes_are_counted():
    with pytest.raises(DamagedError, match="expected 22 bytes; received 21 bytes"):
        IMAGES.decode(CONTENT[:-1])


def test_bytes_too_many_are_counted():
    with pytest.raises(DamagedError, match="expected 22 bytes; received 23 bytes"):
        IMAGES.decode(CONTENT + b"\0")


def test_one_changed_pixel_is_found():
    with pytest.raises(DamagedError, match=f"expected SHA-256 {IMAGES.sha256}; received SHA-256 "):
        IMAGES.decode(CONTENT[:-1] + b"\0")


def test_label_out_of_range_is_found():
    labels = IdxFormat(shape=(3,), sha256=hashlib.sha256(LABELS_CONTENT).hexdigest(), maximum=9)
    with pytest.raises(DamagedError, match="expected values from 0 to 9; received a value of 10"):
        labels.decode(LABELS_CONTENT)
