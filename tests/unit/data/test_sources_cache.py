import concurrent.futures
import logging
import multiprocessing
import threading

from annlib.data import cache, sources

IMAGES = "train_images-idx.gz"
LABELS = "train_labels-idx.gz"


def test_damaged_cache_file_is_replaced(small, server, cache_dir, caplog):
    small.write(cache_dir / "small")
    path = cache_dir / "small" / IMAGES
    path.write_bytes(path.read_bytes()[:-100])
    small.serve(server)
    small.assert_equal(sources.read(small.data))
    assert path.read_bytes() == small.contents[IMAGES]
    assert server.requests == [f"/{IMAGES}"]
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert str(path) in record.getMessage()
    assert "truncated" in record.getMessage()


def test_damaged_cache_file_is_removed_when_another_place_has_the_data(small, cache_dir):
    small.write(small.data.system_dir)
    small.write(cache_dir / "small")
    (cache_dir / "small" / IMAGES).write_bytes(b"damaged")
    small.assert_equal(sources.read(small.data))
    assert not (cache_dir / "small" / IMAGES).exists()


def test_damaged_download_is_not_cached(small, server, cache_dir, message_of):
    small.serve(server)
    server.answers[f"/{IMAGES}"] = b"<html>Sign in to the network</html>"
    message = message_of(small.data)
    assert f"download {server.url}/{IMAGES}: expected an IDX file" in message
    assert not cache_dir.exists()


def test_cache_that_cannot_be_made_is_a_warning(small, server, cache_dir, caplog):
    cache_dir.touch()  # a file where the directory should be
    small.serve(server)
    small.assert_equal(sources.read(small.data))
    assert "is not cached" in caplog.text
    assert "ANNLIB_CACHE_DIR" in caplog.text


def test_cache_without_write_permission_is_a_warning(small, server, unprivileged_dir, monkeypatch, caplog):
    monkeypatch.setenv("ANNLIB_CACHE_DIR", str(unprivileged_dir))
    unprivileged_dir.chmod(0o500)
    small.serve(server)
    small.assert_equal(sources.read(small.data))
    assert "Permission denied" in caplog.text


def test_no_home_directory_is_a_warning(small, server, monkeypatch, caplog):
    def no_home():
        raise FileNotFoundError("no home directory; set ANNLIB_CACHE_DIR")

    monkeypatch.setattr(cache, "cache_directory", no_home)
    small.serve(server)
    small.assert_equal(sources.read(small.data))
    assert "no home directory" in caplog.text


def test_four_processes_may_fill_one_empty_cache_at_once(small, server, cache_dir):
    small.serve(server)
    # Nobody gets the first file before all four have asked for it.
    all_asked = threading.Barrier(4, timeout=30)
    content = small.contents[IMAGES]

    def answer(handler):
        all_asked.wait()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    server.answers[f"/{IMAGES}"] = answer
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(4, mp_context=context) as pool:
        futures = [pool.submit(sources.read, small.data) for _ in range(4)]
        for future in futures:
            small.assert_equal(future.result(timeout=60))
    assert server.requests.count(f"/{IMAGES}") == 4
    assert {path.name: path.read_bytes() for path in (cache_dir / "small").iterdir()} == small.contents
