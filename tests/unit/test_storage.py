"""The forms of `--storage`; what is wrong is one line without a secret."""

from pathlib import Path

import pytest

from annlib.errors import ConfigError
from annlib.storage import check_storage, describe, is_remote


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
