import gzip
from pathlib import Path

import pytest

from annlib.data import sources

IMAGES = "train_images-idx.gz"
LABELS = "train_labels-idx.gz"


@pytest.mark.parametrize(("make", "received"), [(None, "nothing"), (Path.touch, "a file")])
def test_data_dir_must_be_a_directory(small, server, tmp_path, make, received, message_of):
    small.serve(server)
    path = tmp_path / "wrong"
    if make:
        make(path)
    message = message_of(small.data, data_dir=path)
    assert str(path) in message
    assert f"received {received}" in message
    assert "--data-dir" in message
    assert server.requests == []


def test_missing_files_are_named(small, user_dir, message_of):
    (user_dir / LABELS).unlink()
    (user_dir / "test_images-idx.gz").unlink()
    message = message_of(small.data, data_dir=user_dir)
    assert str(user_dir) in message
    assert f"received all but {LABELS}, test_images-idx.gz; add these" in message


DAMAGES = {
    "truncated gzip": lambda content: content[:-100],
    "empty": lambda content: b"",
    "flipped bit": lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    "one pixel changed": lambda content: gzip.compress(gzip.decompress(content)[:-1] + b"\0"),
    "wrong magic": lambda content: gzip.compress(b"\0\0\x0d\x03" + gzip.decompress(content)[4:]),
    "truncated plain": lambda content: gzip.decompress(content)[:-100],
    "a web page": lambda content: b"<!DOCTYPE html>\n<title>Sign in</title>\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_an_error_and_stays(small, user_dir, server, damage, message_of):
    small.serve(server)
    path = user_dir / IMAGES
    content = DAMAGES[damage](small.contents[IMAGES])
    path.write_bytes(content)
    message = message_of(small.data, data_dir=user_dir)
    assert f"{path} is damaged; expected " in message
    assert f"replace it with the original, {server.url}/{IMAGES}" in message
    assert path.read_bytes() == content
    assert server.requests == []


def test_directory_in_place_of_a_file_is_an_error(small, user_dir, message_of):
    (user_dir / IMAGES).unlink()
    (user_dir / IMAGES).mkdir()
    message = message_of(small.data, data_dir=user_dir)
    assert f"{user_dir / IMAGES} is damaged; expected a regular file; received a directory; replace it" in message


@pytest.mark.parametrize("target", ["nowhere", IMAGES], ids=["broken", "loop"])
def test_link_to_nothing_is_an_error(small, user_dir, target, message_of):
    (user_dir / IMAGES).unlink()
    (user_dir / IMAGES).symlink_to(user_dir / target)
    message = message_of(small.data, data_dir=user_dir)
    assert f"{user_dir / IMAGES} cannot be read" in message
    assert "replace it" in message


def test_link_to_a_file_is_followed(small, user_dir, tmp_path):
    (user_dir / IMAGES).rename(tmp_path / "elsewhere")
    (user_dir / IMAGES).symlink_to(tmp_path / "elsewhere")
    small.assert_equal(sources.read(small.data, data_dir=user_dir))


def test_file_without_permission_is_an_error(small, unprivileged_dir, message_of):
    small.write(unprivileged_dir)
    (unprivileged_dir / LABELS).chmod(0)
    message = message_of(small.data, data_dir=unprivileged_dir)
    assert f"{unprivileged_dir / LABELS} cannot be read" in message
    assert "Permission denied" in message
    assert "make it readable" in message


def test_directory_without_permission_is_an_error(small, unprivileged_dir, message_of):
    small.write(unprivileged_dir / "sub")
    (unprivileged_dir / "sub").chmod(0)
    message = message_of(small.data, data_dir=unprivileged_dir / "sub")
    assert f"data_dir {unprivileged_dir / 'sub'} cannot be searched" in message
    assert "correct its path or its permissions" in message


def test_line_break_in_a_path_does_not_break_the_message(small, tmp_path, message_of):
    message_of(small.data, data_dir=tmp_path / "two\nlines")
