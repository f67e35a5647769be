import gzip
import io
import tarfile

import numpy as np
import pytest

from annlib.data.verification import DamagedError

VALUES = np.array([[1.5, 2.0], [3.0, -400.0], [5.0, 6.0]])
MEMBER = "Table/table.data"


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_line_ends_do_not_matter(table_format, table_text, newline, end):
    values = table_format.decode(table_text.replace(b"\r\n", newline) + end)
    np.testing.assert_array_equal(values, VALUES, strict=True)


def test_archive_gives_the_same_values(table_format, table_text, archive):
    np.testing.assert_array_equal(table_format.decode(archive(MEMBER, table_text)), VALUES, strict=True)


def test_values_are_read_only(table_format, table_text):
    assert not table_format.decode(table_text).flags.writeable


@pytest.mark.parametrize("raw", [b"", b" \r\n\n"])
def test_empty_text_is_refused(table_format, raw):
    with pytest.raises(DamagedError, match="received no text"):
        table_format.decode(raw)


@pytest.mark.parametrize("raw", [b"<html>", b"1,2\n3\n5,6", b"1,two", b"\xff\xfe,1"])
def test_text_that_is_no_table_is_refused(table_format, raw):
    with pytest.raises(DamagedError, match="expected numbers separated by commas"):
        table_format.decode(raw)


def test_missing_row_is_shown(table_format, table_text):
    with pytest.raises(DamagedError, match=r"expected a table of shape \(3, 2\); received shape \(2, 2\)"):
        table_format.decode(table_text.rsplit(b"\r\n", 1)[0])


@pytest.mark.parametrize("bad", [b"nan", b"inf", b"-inf"])
def test_value_that_is_not_finite_is_refused(table_format, table_text, bad):
    with pytest.raises(DamagedError, match="expected finite values; received 1 that are NaN or infinite"):
        table_format.decode(table_text.replace(b"1.5", bad))


def test_one_changed_value_is_found(table_format, table_text):
    with pytest.raises(DamagedError, match=f"expected SHA-256 {table_format.sha256}; received SHA-256 "):
        table_format.decode(table_text.replace(b"1.5", b"1.5000000000000002"))


def test_truncated_archive_is_refused(table_format, table_text, archive):
    with pytest.raises(DamagedError, match="truncated"):
        table_format.decode(archive(MEMBER, table_text)[:-20])


def test_archive_without_the_member_is_refused(table_format, table_text, archive):
    with pytest.raises(DamagedError, match=MEMBER):
        table_format.decode(archive("../table.data", table_text))


def test_gzip_that_is_no_archive_is_refused(table_format, table_text):
    with pytest.raises(DamagedError, match=f"tar archive that holds {MEMBER}"):
        table_format.decode(gzip.compress(table_text))


def test_directory_in_place_of_the_member_is_refused(table_format):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(MEMBER)
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    with pytest.raises(DamagedError, match="an entry of 0 bytes and tar type b'5'"):
        table_format.decode(buffer.getvalue())


def test_archive_that_unpacks_to_too_much_is_refused(table_format, archive):
    with pytest.raises(DamagedError, match="at most 20,000 bytes"):
        table_format.decode(archive(MEMBER, bytes(1_000_000)))


def test_sparse_entry_that_claims_too_much_is_refused(table_format):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo(MEMBER)
        entry.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "1000000"}
        archive.addfile(entry)
    with pytest.raises(DamagedError, match="at most 20,000 bytes in the archive; received an entry of 1,000,000 bytes"):
        table_format.decode(buffer.getvalue())
