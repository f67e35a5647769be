import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import annlib
from annlib.artifacts import RunDirectory
from annlib.errors import AnnlibError, CheckpointError, StorageError
from annlib.loading import load, open_run, read_config
from annlib.models.losses import PerceptronLoss, perceptron
from annlib.models.mlp import classification_mlp, regression_mlp
from annlib.models.targets import ClassificationTask
from annlib.models.wide_deep import wide_deep_two_inputs

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("keras", "h5")


@pytest.fixture(scope="module")
def samples() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    features = rng.normal(3, 5, (48, 8)).astype(np.float32)
    return features, features[:, 0] * 2, rng.integers(0, 17, (48, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def models(samples: tuple[Any, Any, Any]) -> dict[str, tuple[keras.Model, Any, Any]]:
    """Each model with its inputs and targets, after an epoch."""
    x, y, images = samples
    mean, variance = x.mean(0), x.var(0)
    keras.utils.set_random_seed(1)
    sigmoid = perceptron()
    sigmoid.compile("sgd", PerceptronLoss(), metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)])
    made = {
        "digits": (
            classification_mlp(
                (8, 8), ClassificationTask(kind="multiclass", num_classes=10, encoding="sparse"), max_value=16.0
            ),
            images,
            np.arange(48) % 10,
        ),
        "regression": (regression_mlp(8, moments=(mean, variance), optimizer="adam"), x, y),
        "two_inputs": (
            wide_deep_two_inputs(wide_moments=(mean[:5], variance[:5]), deep_moments=(mean[2:], variance[2:])),
            (x[:, :5], x[:, 2:]),
            y,
        ),
        "perceptron": (sigmoid, x[:, :2], (y > 6).astype(np.uint8)),
    }
    for model, inputs, targets in made.values():
        model.fit(inputs, targets, verbose=0)
    return made


@pytest.fixture(scope="module")
def saved(models: dict[str, tuple[keras.Model, Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    for name, (model, _, _) in models.items():
        for ending in FORMATS:
            model.save(directory / f"{name}.{ending}")
    return directory


@pytest.fixture
def unsafe_keras() -> Iterator[None]:
    """What a program does that trusts all of its other files."""
    from keras.src.backend.common import global_state

    keras.config.enable_unsafe_deserialization()
    yield
    global_state.set_global_attribute("safe_mode_saving", None)


def message_of(path: Any, kind: type[AnnlibError]) -> str:
    with pytest.raises(kind) as error:
        load(path)
    message = str(error.value)
    assert "\n" not in message
    assert "expected" in message
    assert "received" in message
    return message


IN_ANOTHER_PROCESS = """
import pathlib, sys
import numpy as np
import annlib
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.*")):
    if path.suffix == ".npz":
        continue
    arrays = np.load(path.with_suffix(".npz"))
    x = [arrays[f"x{i}"] for i in range(len(arrays.files) - 1)]
    found = annlib.load(path).predict(x[0] if len(x) == 1 else tuple(x), verbose=0)
    assert found.tobytes() == arrays["predicted"].tobytes(), path
    print(path.name)
"""


def test_predictions_in_a_new_process_are_equal_bit_for_bit(
    models: dict[str, tuple[keras.Model, Any, Any]], saved: Path
) -> None:
    for name, (model, inputs, _) in models.items():
        x = inputs if isinstance(inputs, tuple) else (inputs,)
        arrays = {f"x{i}": part for i, part in enumerate(x)}
        np.savez(saved / f"{name}.npz", predicted=model.predict(inputs, verbose=0), **arrays)
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(saved)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {f"{name}.{ending}" for name in models for ending in FORMATS}


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("name", ["digits", "regression", "two_inputs", "perceptron"])
def test_loss_metrics_and_optimizer_come_back(
    models: dict[str, tuple[keras.Model, Any, Any]], saved: Path, name: str, ending: str
) -> None:
    model, x, y = models[name]
    found = annlib.load(saved / f"{name}.{ending}")
    assert found.compiled
    before = model.evaluate(x, y, verbose=0, return_dict=True)
    assert found.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(before, rel=1e-6)
    assert [v.shape for v in found.optimizer.variables] == [v.shape for v in model.optimizer.variables]
    for after, variable in zip(found.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(after, variable)


@pytest.mark.parametrize("ending", FORMATS)
def test_training_goes_on_as_if_nothing_had_been_saved(tmp_path: Path, ending: str) -> None:
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    model = regression_mlp(8, optimizer="adam")
    model.fit(x, x[:, 0], verbose=0)
    model.save(tmp_path / f"m.{ending}")
    found = annlib.load(tmp_path / f"m.{ending}")
    for each in (model, found):
        each.fit(x, x[:, 0], verbose=0, shuffle=False)
    for after, weight in zip(found.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, weight)


def test_an_hdf5_file_without_state_of_the_optimizer_starts_it_afresh(
    saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(saved / "regression.h5", tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        del file["optimizer_weights"]
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path / "m.h5").optimizer.iterations == 0
    assert "holds no state that fits its optimizer" in caplog.text


def test_hdf5_files_load_without_a_word(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(saved / "regression.h5")
    assert caplog.text == ""


def test_without_compile_there_is_no_loss(saved: Path) -> None:
    assert not load(saved / "digits.keras", compile=False).compiled
    assert not load(saved / "digits.h5", compile=False).compiled


@pytest.mark.parametrize("ending", FORMATS)
def test_float64_stays_float64(tmp_path: Path, ending: str) -> None:
    model = keras.Sequential([keras.Input((2,), dtype="float64"), keras.layers.Dense(1, dtype="float64")])
    model.compile("sgd", "mse")
    model.save(tmp_path / f"m.{ending}")
    x = np.random.default_rng(0).normal(size=(4, 2))
    found = load(tmp_path / f"m.{ending}").predict(x, verbose=0)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, model.predict(x, verbose=0))


@pytest.mark.parametrize("ending", FORMATS)
def test_a_model_saved_uncompiled_comes_back_uncompiled_with_a_warning(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / f"m.{ending}")
    with caplog.at_level(logging.WARNING):
        assert not load(tmp_path / f"m.{ending}").compiled
    assert [record.getMessage() for record in caplog.records if record.name == "annlib.loading"] == [
        f"{tmp_path}/m.{ending} was saved uncompiled and stays so: call model.compile to train or evaluate it"
    ]


def test_custom_classes_are_found_by_name(tmp_path: Path) -> None:
    class Double(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 2 * x

    model = keras.Sequential([keras.Input((1,)), Double()])
    model.save(tmp_path / "m.keras")
    assert "Could not locate class 'Double'" in message_of(tmp_path / "m.keras", CheckpointError)
    found = load(tmp_path / "m.keras", compile=False, custom_objects={"Double": Double})
    assert found.predict(np.ones((1, 1)), verbose=0) == 2


# Directories


def test_a_run_gives_its_keras_file_before_its_hdf5_file(saved: Path, tmp_path: Path) -> None:
    shutil.copy(saved / "perceptron.h5", tmp_path / "model.h5")
    assert load(RunDirectory(tmp_path)).input_shape == (None, 2)
    shutil.copy(saved / "digits.keras", tmp_path / "model.keras")
    assert load(tmp_path).input_shape == (None, 8, 8)
    assert load(str(tmp_path)).input_shape == (None, 8, 8)


def test_a_checkpoint_gives_its_model(saved: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints/epoch-00012"
    checkpoint.mkdir(parents=True)
    shutil.copy(saved / "digits.keras", checkpoint / "model.keras")
    assert load(checkpoint).input_shape == (None, 8, 8)


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "holds no model: expected model.keras or model.h5" in message_of(tmp_path, StorageError)
    (tmp_path / "config.yaml").touch()
    assert "Finish the run, or give one of its checkpoints" in message_of(tmp_path, StorageError)


# Files that are no sound models


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "none.keras does not exist" in message_of(tmp_path / "none.keras", StorageError)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"1")
    assert "ends in .keras or .h5, received .pkl" in message_of(tmp_path / "model.pkl", CheckpointError)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda raw: b"", "an empty file"),
        (lambda raw: b"no model at all", "received: "),
        (lambda raw: raw[: len(raw) // 2], "received: "),
        (lambda raw: raw[:-1], "received: "),
    ],
    ids=["empty", "text", "half", "all but a byte"],
)
def test_a_damaged_file_is_refused(
    saved: Path, tmp_path: Path, ending: str, damage: Callable[[bytes], bytes], expected: str
) -> None:
    path = tmp_path / f"m.{ending}"
    path.write_bytes(damage((saved / f"digits.{ending}").read_bytes()))
    assert expected in message_of(path, CheckpointError)


def test_a_flipped_byte_of_the_weights_is_found(saved: Path, tmp_path: Path) -> None:
    raw = bytearray((saved / "digits.keras").read_bytes())
    weights = keras.saving.load_model(saved / "digits.keras").layers[-1].kernel.numpy().tobytes()
    raw[raw.index(weights)] ^= 1
    (tmp_path / "m.keras").write_bytes(raw)
    assert "a wrong checksum of model.weights.h5" in message_of(tmp_path / "m.keras", CheckpointError)


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"class_name": "Dense", "config": {"units": 1}}'])
def test_an_archive_of_something_else_is_refused(tmp_path: Path, config: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", config)
    assert f"{tmp_path}/m.keras" in message_of(tmp_path / "m.keras", CheckpointError)


def test_an_archive_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("readme", "")
    assert "no item named 'config.json'" in message_of(tmp_path / "m.keras", CheckpointError)


def test_weights_alone_are_refused(models: dict[str, tuple[keras.Model, Any, Any]], tmp_path: Path) -> None:
    models["digits"][0].save_weights(tmp_path / "m.weights.h5")
    assert "it may hold weights only" in message_of(tmp_path / "m.weights.h5", CheckpointError)


@pytest.mark.parametrize("text", ["{", "[1]", "null"])
def test_an_hdf5_file_with_another_configuration_is_refused(saved: Path, tmp_path: Path, text: str) -> None:
    shutil.copy(saved / "digits.h5", tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file.attrs["model_config"] = text
    assert f"{tmp_path}/m.h5" in message_of(tmp_path / "m.h5", CheckpointError)


def test_a_training_configuration_that_is_no_object_is_refused(saved: Path, tmp_path: Path) -> None:
    shutil.copy(saved / "digits.h5", tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file.attrs["training_config"] = "[1]"
    assert "training configuration that is no object" in message_of(tmp_path / "m.h5", CheckpointError)


# Code in files


def lambda_model(trace: Path) -> keras.Model:
    """A model whose layer leaves a file behind wherever it runs."""
    # The path stands in the code itself, because Keras does not read defaults back.
    layer = keras.layers.Lambda(eval(f"lambda x: (open({str(trace)!r}, 'w').close(), x)[1]"))
    model = keras.Sequential([keras.Input((2,)), layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("ending", FORMATS)
def test_a_lambda_layer_is_refused_and_not_run(tmp_path: Path, ending: str, unsafe_keras: None) -> None:
    trace = tmp_path / "trace"
    lambda_model(trace).save(tmp_path / f"m.{ending}")
    trace.unlink()
    assert "holds Python code that loading would run (__lambda__)" in message_of(
        tmp_path / f"m.{ending}", CheckpointError
    )
    assert not trace.exists()
    if ending == "keras":
        # Keras itself runs it in this state, so the test can fail.
        keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
        assert trace.exists()


@pytest.mark.parametrize("ending", FORMATS)
def test_keras_alone_refuses_a_lambda_layer_too(tmp_path: Path, ending: str) -> None:
    lambda_model(tmp_path / "trace").save(tmp_path / f"m.{ending}")
    with pytest.raises(ValueError, match="arbitrary code execution"):
        keras.saving.load_model(tmp_path / f"m.{ending}", safe_mode=True)


def test_a_lambda_layer_as_keras_2_wrote_it_is_refused(tmp_path: Path) -> None:
    lambda_model(tmp_path / "trace").save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        config = json.loads(file.attrs["model_config"])
        layer = config["config"]["layers"][1]["config"]
        code = layer["function"]["config"]
        layer["function"] = [code["code"], code["defaults"], code["closure"]]
        file.attrs["model_config"] = json.dumps(config)
    assert "(Lambda)" in message_of(tmp_path / "m.h5", CheckpointError)


def test_a_saved_model_inside_a_layer_is_refused(tmp_path: Path, saved: Path, unsafe_keras: None) -> None:
    config = {"class_name": "TFSMLayer", "module": "keras.layers", "config": {"filepath": str(tmp_path)}}
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": [config]}}))
    assert "(TFSMLayer)" in message_of(tmp_path / "m.keras", CheckpointError)


# Runs


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"is not a run: .* received no config.yaml in it"):
        open_run(tmp_path)
    with pytest.raises(StorageError, match="received no such directory"):
        open_run(tmp_path / "none")


def test_a_run_without_metrics_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "history.csv").write_text("epoch,loss\n1,2\n2,1\n")
    with pytest.raises(StorageError, match=r"is not finished: .* received 2 epochs"):
        open_run(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    assert open_run(tmp_path) == RunDirectory(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("workload: digits\n", "epochs: Field required"),
        ("workload: d\nepochs: 0\nglobal_batch_size: 1\nlearning_rate: 1\n", "epochs: Input should be greater"),
        ("workload: d\nepochs: 1\nglobal_batch_size: 1\nlearning_rate: 1\nepoch: 1\n", "epoch: Extra inputs"),
        ("[1", "expected ',' or ']'"),
        ("", "the file: "),
    ],
)
def test_a_damaged_configuration_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(StorageError) as error:
        read_config(RunDirectory(tmp_path))
    assert "config.yaml is damaged" in str(error.value)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_configuration_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"config.yaml is damaged: .*\(No such file"):
        read_config(RunDirectory(tmp_path))


@pytest.mark.parametrize("functional", [False, True])
def test_a_scaled_loss_stays_scaled(tmp_path: Path, functional: bool, recwarn: pytest.WarningsRecorder) -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1, dtype="float32")]
        model = keras.Sequential(layers)
        if functional:
            model = keras.Model(model.inputs, model.outputs)
        model.compile("adam", "mse")
    finally:
        keras.config.set_dtype_policy(policy)
    annlib.fit(model, np.ones((32, 3)), np.ones(32), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = load(tmp_path / "model.keras")
    assert not [str(warning.message) for warning in recwarn if "Skipping" in str(warning.message)]
    assert keras.config.dtype_policy() == policy
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
    for saved, restored in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        assert np.array_equal(saved.numpy(), restored.numpy())
