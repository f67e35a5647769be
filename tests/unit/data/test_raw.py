import dataclasses
import os
from pathlib import Path

import pytest

from annlib.data.raw import CALIFORNIA_HOUSING, FASHION_MNIST
from annlib.data.verification import DamagedError


@pytest.fixture
def labels(small):
    return small.data.files["test_labels"]


def test_first_name_that_exists_is_taken(small, labels, tmp_path):
    small.write(tmp_path)
    assert labels.path_in(tmp_path) == tmp_path / "test_labels-idx.gz"
    (tmp_path / "test_labels-idx").touch()
    assert labels.path_in(tmp_path) == tmp_path / "test_labels-idx"


@pytest.mark.parametrize("directory", ["empty", "none", "file"])
def test_no_file_is_none(labels, tmp_path, directory):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert labels.path_in(tmp_path / directory) is None


def test_file_is_read(small, labels, tmp_path):
    small.write(tmp_path)
    assert (labels.read(tmp_path / "test_labels-idx.gz") == small.arrays["test_labels"]).all()


def test_directory_is_refused(labels, tmp_path):
    with pytest.raises(DamagedError, match="expected a regular file; received a directory"):
        labels.read(tmp_path)


def test_named_pipe_is_refused_without_waiting(labels, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DamagedError, match="expected a regular file; received prw"):
        labels.read(tmp_path / "pipe")


def test_huge_file_is_refused_without_being_read(labels, tmp_path):
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)  # a hole: takes no space
    with pytest.raises(DamagedError, match="a larger file"):
        labels.read(tmp_path / "huge")


def test_limit_lets_every_compression_pass(small):
    for data in (small.data, FASHION_MNIST):
        for file in data.files.values():
            # RFC 1951: stored blocks add 5 bytes for each 65,535; the gzip header and trailer are tiny.
            assert file.format.limit_bytes > file.format.num_bytes * (1 + 5 / 65_535) + 1_000


def test_names_hold_the_name_of_the_download():
    for data in (FASHION_MNIST, CALIFORNIA_HOUSING):
        for file in data.files.values():
            assert file.download_name in file.names


def test_addresses_are_those_of_keras_and_scikit_learn():
    from sklearn.datasets import _california_housing

    keras_base = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
    assert sorted(file.url for file in FASHION_MNIST.files.values()) == [
        keras_base + "t10k-images-idx3-ubyte.gz",
        keras_base + "t10k-labels-idx1-ubyte.gz",
        keras_base + "train-images-idx3-ubyte.gz",
        keras_base + "train-labels-idx1-ubyte.gz",
    ]
    archive = _california_housing.ARCHIVE
    file = CALIFORNIA_HOUSING.files["table"]
    assert (file.url, file.download_name) == (archive.url, archive.filename)


def test_descriptions_are_frozen(labels):
    with pytest.raises(dataclasses.FrozenInstanceError):
        labels.names = (Path("x"),)
