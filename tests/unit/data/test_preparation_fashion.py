import gzip

import numpy as np
import pytest

from annlib.data import load
from annlib.data.raw import FASHION_MNIST

pytestmark = pytest.mark.skipif(
    not FASHION_MNIST.system_dir.exists(), reason="Debian's package dataset-fashion-mnist is not installed"
)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANNLIB_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield load("fashion-mnist")


def test_fashion_has_the_books_sizes_and_types(fashion):
    for part, num in ((fashion.train, 55_000), (fashion.validation, 5_000), (fashion.test, 10_000)):
        assert (part.x.shape, part.x.dtype) == ((num, 28, 28), np.uint8)
        assert (part.y.shape, part.y.dtype) == ((num,), np.uint8)


def test_fashion_classes_are_balanced(fashion):
    labels = np.concatenate([fashion.validation.y, fashion.train.y])
    assert np.bincount(labels).tolist() == [6_000] * 10
    assert np.bincount(fashion.test.y).tolist() == [1_000] * 10


def test_fashion_begins_as_in_the_book(fashion):
    # Chapter 10 prints the class of the first training image: 'Coat'. Image 0 of the 60,000 is an ankle boot.
    assert fashion.class_names[fashion.train.y[0]] == "Coat"
    assert fashion.class_names[fashion.validation.y[0]] == "Ankle boot"


def test_fashion_images_have_the_published_mean_and_deviation(fashion):
    # 0.2860 and 0.3530 are the constants with which PyTorch's users normalise the 60,000 images.
    pixels = np.concatenate([fashion.validation.x, fashion.train.x]).ravel()
    counts = np.bincount(pixels, minlength=256) / pixels.size
    levels = np.arange(256) / 255
    mean = counts @ levels
    assert mean == pytest.approx(0.2860, abs=5e-5)
    assert np.sqrt(counts @ (levels - mean) ** 2) == pytest.approx(0.3530, abs=5e-5)


def test_fashion_equals_what_numpy_reads_from_the_files(fashion):
    content = gzip.decompress((FASHION_MNIST.system_dir / "train-images-idx3-ubyte.gz").read_bytes())
    images = np.array(bytearray(content[16:]), dtype=np.uint8).reshape(60_000, 28, 28)
    np.testing.assert_array_equal(fashion.validation.x, images[:5_000])
    np.testing.assert_array_equal(fashion.train.x, images[5_000:])
