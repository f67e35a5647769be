import dataclasses
import gzip
import logging

import pytest

from annlib.data import sources

IMAGES = "train_images-idx.gz"
LABELS = "train_labels-idx.gz"


# The order of the places


def test_data_dir_comes_first(small, user_dir, cache_dir, server):
    (cache_dir / "small").mkdir(parents=True)
    (cache_dir / "small" / IMAGES).write_bytes(b"not looked at")
    small.assert_equal(sources.read(small.data, data_dir=user_dir))
    assert (cache_dir / "small" / IMAGES).exists()
    assert server.requests == []


def test_cache_comes_second(small, cache_dir, server):
    small.write(cache_dir / "small")
    small.write(small.data.system_dir)
    (small.data.system_dir / IMAGES).write_bytes(b"not looked at")
    small.assert_equal(sources.read(small.data))
    assert server.requests == []


def test_system_package_comes_third(small, server):
    small.write(small.data.system_dir)
    small.serve(server)
    small.assert_equal(sources.read(small.data))
    assert server.requests == []


def test_download_comes_last_and_is_cached(small, server, cache_dir):
    small.serve(server)
    small.assert_equal(sources.read(small.data))
    assert len(server.requests) == 4
    assert {path.name: path.read_bytes() for path in (cache_dir / "small").iterdir()} == small.contents
    small.assert_equal(sources.read(small.data))
    assert len(server.requests) == 4


@pytest.mark.parametrize("place", ["data_dir", "system"])
def test_only_downloads_are_copied_to_the_cache(small, user_dir, cache_dir, place):
    small.write(small.data.system_dir)
    sources.read(small.data, data_dir=user_dir if place == "data_dir" else None)
    assert not cache_dir.exists()


def test_only_what_the_cache_lacks_is_downloaded(small, server, cache_dir):
    small.write(cache_dir / "small")
    (cache_dir / "small" / LABELS).unlink()
    small.serve(server)
    small.assert_equal(sources.read(small.data))
    assert server.requests == [f"/{LABELS}"]


def test_empty_data_dir_is_told_and_other_places_are_tried(small, server, tmp_path, caplog):
    small.serve(server)
    (tmp_path / "mine").mkdir()
    with caplog.at_level(logging.INFO):
        small.assert_equal(sources.read(small.data, data_dir=tmp_path / "mine"))
    assert f"data_dir {tmp_path / 'mine'} holds no file of small" in caplog.text


def test_plain_and_recompressed_files_are_accepted(small, user_dir):
    content = gzip.decompress(small.contents[IMAGES])
    (user_dir / IMAGES).unlink()
    (user_dir / "train_images-idx").write_bytes(content)
    (user_dir / LABELS).write_bytes(gzip.compress(gzip.decompress(small.contents[LABELS]), compresslevel=1, mtime=1))
    assert (user_dir / LABELS).read_bytes() != small.contents[LABELS]
    small.assert_equal(sources.read(small.data, data_dir=user_dir))


# The system's package and the download


def test_damaged_system_file_is_passed_over_with_a_warning(small, server, caplog):
    small.write(small.data.system_dir)
    (small.data.system_dir / LABELS).write_bytes(b"damaged")
    small.serve(server)
    small.assert_equal(sources.read(small.data))
    assert f"{LABELS} of the system's package is not used" in caplog.text


def test_nothing_reachable_lists_every_place_and_the_ways_out(small, server, cache_dir, tmp_path, message_of):
    (tmp_path / "mine").mkdir()
    message = message_of(small.data, data_dir=tmp_path / "mine")
    assert "small was not found" in message
    assert f"data_dir {tmp_path / 'mine'}: holds none of the files" in message
    assert f"cache {cache_dir / 'small'}: no {IMAGES}" in message
    assert f"system package {small.data.system_dir}: no {IMAGES}" in message
    assert f"download {server.url}/{IMAGES}: HTTP Error 404" in message
    assert all(name in message for name in small.contents)
    assert "--data-dir DIR" in message
    assert "`apt-get install dataset-small`" in message


def test_reasons_of_a_damaged_cache_and_an_absent_data_dir_are_listed(small, cache_dir, message_of):
    small.write(cache_dir / "small")
    (cache_dir / "small" / LABELS).write_bytes(small.contents[LABELS][:20])
    message = message_of(small.data)
    assert "data_dir: not given" in message
    assert f"{LABELS}: expected a whole gzip stream; received one that is truncated after 20 bytes" in message


def test_no_advice_for_a_package_that_does_not_exist(small, message_of):
    data = dataclasses.replace(small.data, system_dir=None, system_install=None)
    message = message_of(data)
    assert "system package" not in message
    assert "install" not in message


def test_first_failed_download_is_the_last(small, server, message_of):
    message_of(small.data)
    assert len(server.requests) == 1


def test_interrupted_download_is_told_and_not_cached(small, server, cache_dir, message_of):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "40000")
        handler.end_headers()
        handler.wfile.write(small.contents[IMAGES][:400])

    server.answers[f"/{IMAGES}"] = answer
    assert "interrupted: expected 40,000 bytes, received 400" in message_of(small.data)
    assert not cache_dir.exists()
