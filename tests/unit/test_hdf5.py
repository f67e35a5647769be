import resource
from pathlib import Path

import keras
import numpy as np
import pytest

from annlib import hdf5
from annlib.loading import load
from annlib.models.mlp import regression_mlp


@pytest.fixture(scope="module")
def model() -> keras.Model:
    model = regression_mlp(8, optimizer="adam")
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    model.fit(x, x[:, 0], verbose=0)
    return model


def test_a_saved_model_comes_back_with_its_optimizer(model: keras.Model, tmp_path: Path) -> None:
    hdf5.save_model(model, tmp_path / "m.h5")
    found = load(tmp_path / "m.h5")
    assert found.compiled
    for after, before in zip(found.variables, model.variables, strict=True):
        np.testing.assert_array_equal(after, before)
    for after, before in zip(found.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(after, before)
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


def test_a_full_disk_is_an_error_and_leaves_nothing(model: keras.Model, tmp_path: Path) -> None:
    # HDF5 itself would end this process by SIGSEGV.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            hdf5.save_model(model, tmp_path / "m.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
