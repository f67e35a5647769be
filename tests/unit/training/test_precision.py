from typing import Any

import keras
import numpy as np
import pytest

import annlib
from annlib.errors import ConfigError
from annlib.models.mlp import classification_mlp
from annlib.training import precision


@pytest.fixture(params=["mixed_bfloat16", "mixed_float16"])
def mixed(request: pytest.FixtureRequest) -> Any:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def test_a_processor_that_converts_each_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_processor_flags", lambda: {"fpu", "avx2", "avx"})
    with pytest.raises(ConfigError, match=r"expected a processor with AMX or AVX512-BF16, received avx, avx2\. Leave"):
        precision.check_precision("mixed_bfloat16")
    precision.check_precision("float32")
    precision.check_precision("float64")


@pytest.mark.parametrize("flag", ["amx_bf16", "avx512_bf16"])
def test_a_processor_that_multiplies_bfloat16_is_taken(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    monkeypatch.setattr(precision, "_processor_flags", lambda: {"avx2", flag})
    precision.check_precision("mixed_bfloat16")


def test_float16_is_for_gpus() -> None:
    with pytest.raises(
        ConfigError, match=r"mixed_float16 would be slower .* compute capability 7\.0 or more, received none"
    ):
        precision.check_precision("mixed_float16")


@pytest.mark.parametrize(
    ("kind", "older", "newer"), [("mixed_bfloat16", (7, 5), (8, 0)), ("mixed_float16", (6, 1), (7, 0))]
)
def test_an_old_gpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, kind: str, older: tuple[int, int], newer: tuple[int, int]
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    details: dict[str, Any] = {"compute_capability": older}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    expected = rf"compute capability {newer[0]}\.{newer[1]} or more, received {older[0]}\.{older[1]}"
    with pytest.raises(ConfigError, match=expected):
        precision.check_precision(kind)
    details["compute_capability"] = newer
    precision.check_precision(kind)


@pytest.mark.slow
def test_it_trains_to_the_accuracy_of_float32(mixed: str) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2000, 8)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int32") + (x[:, 2] > 0.5)

    def train() -> tuple[keras.Model, float]:
        keras.utils.set_random_seed(1)
        model = classification_mlp(8, y, hidden=(32,), optimizer="adam")
        annlib.fit(model, x, y, batch_size=256, epochs=60, seed=0, verbose=0)
        return model, annlib.evaluate(model, x, y, return_dict=True)["sparse_categorical_accuracy"]

    model, accuracy = train()
    assert model.layers[0].compute_dtype == mixed.removeprefix("mixed_")
    # Probabilities and weights keep all digits.
    assert model.layers[-1].compute_dtype == "float32"
    assert {weight.dtype for weight in model.weights} == {"float32"}
    keras.config.set_dtype_policy("float32")
    assert accuracy == pytest.approx(train()[1], abs=0.01)
