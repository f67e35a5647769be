"""The forms of `--storage`; what is wrong is one line without a secret."""

import gc
import io
from pathlib import Path

import pytest
from pyarrow import fs

from annlib import storage
from annlib.errors import ConfigError, StorageError
from annlib.storage import check_storage, describe, insist, is_remote


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket", "gs://bucket"),
        ("file:///tmp/with%20space", "/tmp/with space"),
        ("/tmp/runs", "/tmp/runs"),
        ("runs", str(Path.cwd() / "runs")),
        ("~/runs", str(Path.home() / "runs")),
    ],
)
def test_a_storage_has_one_form(given: str, expected: str) -> None:
    assert check_storage(given) == expected
    assert check_storage(expected) == expected
    assert is_remote(expected) == expected.startswith(("s3:", "gs:"))


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("http://host/runs", "scheme http://"),
        ("s3://", "names no bucket"),
        ("s3:///runs", "names no bucket"),
        ("s3://bucket//runs", "single slashes"),
        ("s3://bucket/a//b", "single slashes"),
        ("file://runs/x", "three slashes"),
        ("file://", "three slashes"),
        ("s3://key:hush-77@bucket/runs", "AWS_ACCESS_KEY_ID"),
        ("s3://bucket/runs?secret_key=hush-77", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_wrong_storage_is_one_line_without_its_secret(given: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_storage(given)
    message = str(caught.value)
    assert part in message
    assert "hush-77" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("AWS Error ACCESS_DENIED during PutObject: Access Denied.", "access denied"),
        ("AWS Error NO_SUCH_BUCKET during PutObject: it does not exist", "no such bucket"),
        ("AWS Error UNKNOWN: The access key ID you provided does not exist in our records", "an unknown access key"),
        ("AWS Error NETWORK_CONNECTION: curlCode: 7, Couldn't connect to server", "no answer"),
        ("something\n else", "something else"),
    ],
)
def test_an_error_of_the_store_has_a_plain_reason(text: str, reason: str) -> None:
    assert describe(OSError(text)) == reason


class FlakyFiles:
    """A file system whose first calls fail."""

    def __init__(self, *failures: str) -> None:
        self.failures = list(failures)
        self.paths: list[str] = []

    def open_output_stream(self, path: str) -> io.BytesIO:
        self.paths.append(path)
        if self.failures:
            raise OSError(self.failures.pop(0))
        return io.BytesIO()

    def open_input_stream(self, path: str) -> io.BytesIO:
        return io.BytesIO()

    def delete_file(self, path: str) -> None:
        pass


def probe(files: FlakyFiles, timeout_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_filesystem", lambda scheme, bucket: files)
    monkeypatch.setattr(storage, "PROBE_EVERY_S", 0.01)
    storage.Remote("s3://bucket/runs").probe(timeout_s=timeout_s)


def test_a_probe_waits_for_a_store_that_fails_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    files = FlakyFiles("AWS Error INTERNAL_FAILURE", "AWS Error NETWORK_CONNECTION")
    probe(files, 5.0, monkeypatch)
    assert len(set(files.paths)) == 3


def test_a_probe_gives_up_at_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="received no answer"):
        probe(FlakyFiles(*["AWS Error NETWORK_CONNECTION"] * 1000), 0.05, monkeypatch)


def test_a_probe_does_not_wait_where_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = FlakyFiles("AWS Error ACCESS_DENIED")
    with pytest.raises(StorageError, match="received access denied"):
        probe(files, 60.0, monkeypatch)
    assert len(files.paths) == 1


class Objects:
    """An object store: what a stream has got becomes the object when it is closed."""

    def __init__(self, *, num_blocks: int = 1000) -> None:
        self.objects: dict[str, bytes] = {}
        self.num_blocks = num_blocks

    def open_output_stream(self, path: str) -> io.BytesIO:
        store = self

        class Stream(io.BytesIO):
            def write(self, block: object) -> int:
                if not store.num_blocks:
                    raise KeyboardInterrupt
                store.num_blocks -= 1
                return super().write(block)  # type: ignore[arg-type]

            def close(self) -> None:
                if not self.closed:
                    store.objects[path] = self.getvalue()
                super().close()

        return Stream()

    def delete_file(self, path: str) -> None:
        del self.objects[path]


def test_an_upload_that_is_broken_off_leaves_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(content := bytes(3 * 2**20 + 1))
    files = Objects(num_blocks=2)
    monkeypatch.setattr(storage, "_filesystem", lambda scheme, bucket: files)
    remote = storage.Remote("s3://bucket/runs")
    with pytest.raises(KeyboardInterrupt):
        remote.upload(tmp_path / "file", "a/b")
    gc.collect()
    assert files.objects == {}
    files.num_blocks = 1000
    remote.upload(tmp_path / "file", "a/b")
    assert files.objects == {"bucket/runs/a/b": content}


def test_a_store_is_waited_for_unless_it_refuses_or_has_no_such_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PROBE_EVERY_S", 0.01)
    errors: list[OSError] = []
    calls = []

    def act() -> None:
        calls.append(1)
        if errors:
            raise errors.pop(0)

    errors += [OSError("AWS Error NETWORK_CONNECTION"), OSError("AWS Error SLOW_DOWN")]
    insist(act)
    assert len(calls) == 3
    for error in (OSError("AWS Error ACCESS_DENIED"), FileNotFoundError(2, "Path does not exist")):
        errors[:], calls[:] = [error] * 10, []
        with pytest.raises(type(error)):
            insist(act)
        assert len(calls) == 1
    errors[:] = [OSError("AWS Error NETWORK_CONNECTION")] * 1000
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        insist(act, timeout_s=0.05)


def test_an_empty_storage_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--storage is empty: expected a directory or a URI"):
        check_storage("")


@pytest.mark.parametrize("location", ["s3://bucket/sales#2024/x.csv", "gs://bucket/a#1"])
def test_a_number_sign_is_part_of_a_name(location: str) -> None:
    assert check_storage(location) == location
    assert check_storage("file:///data/a#1/x.csv") == "/data/a#1/x.csv"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "eu-north-1"),
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}, "us-east-1"),
    ],
)
def test_a_bucket_of_amazon_is_opened_where_it_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(fs, "resolve_s3_region", {"north": "eu-north-1"}.__getitem__)
    files, path = storage.open_filesystem("s3://north/runs")
    assert (files.region, path) == (expected, "north/runs")


def test_where_amazon_does_not_tell_the_region_it_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    answers = iter([OSError("curlCode: 6"), "eu-south-1"])

    def resolve(bucket: str) -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(fs, "resolve_s3_region", resolve)
    storage.open_filesystem("s3://south/runs")
    assert [storage.open_filesystem("s3://south/runs")[0].region for _ in range(2)] == ["eu-south-1"] * 2
