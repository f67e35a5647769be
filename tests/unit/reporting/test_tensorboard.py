"""The event files, read record by record as TensorFlow's format says; the browser's tests show them to TensorBoard."""

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from annlib.errors import ConfigError, StorageError
from annlib.reporting.tensorboard import write_hparams, write_pictures


def events(directory: Path) -> list[Any]:
    (path,) = directory.iterdir()
    assert path.name.startswith("events.out.tfevents.")
    content = path.read_bytes()
    found = []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    assert found[0].file_version == "brain.Event:2"
    return found[1:]


def values(directory: Path) -> dict[str, Any]:
    found = [value for event in events(directory) for value in event.summary.value]
    assert len({value.tag for value in found}) == len(found)
    return {value.tag: value for value in found}


def save(path: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# Pictures


def test_a_picture_is_an_image_summary_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 30, 20)
    write_pictures(tmp_path / "out" / "pictures", {"confusion_matrix": path, "samples": path})
    found = values(tmp_path / "out" / "pictures")
    assert list(found) == ["confusion_matrix", "samples"]
    for value in found.values():
        assert value.metadata.plugin_data.plugin_name == "images"
        assert list(value.tensor.string_val) == [b"30", b"20", path.read_bytes()]
    assert {event.step for event in events(tmp_path / "out" / "pictures")} == {0}


def test_a_wide_picture_is_scaled_down_to_1400_pixels(tmp_path: Path) -> None:
    write_pictures(tmp_path / "out", {"a": save(tmp_path / "a.png", 2800, 100)})
    width, height, content = values(tmp_path / "out")["a"].tensor.string_val
    assert (width, height) == (b"1400", b"50")
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("PNG", (1400, 50))


def test_without_pictures_nothing_is_written(tmp_path: Path) -> None:
    write_pictures(tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_pictures_written_again_come_later(tmp_path: Path) -> None:
    for _ in range(3):
        write_pictures(tmp_path / "out", {"a": save(tmp_path / "a.png", 3, 2)})
    paths = sorted((tmp_path / "out").iterdir())
    assert len(paths) == 3
    assert [path.stat().st_mtime_ns for path in paths] == sorted(path.stat().st_mtime_ns for path in paths)


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_picture_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        write_pictures(tmp_path / "out", {"a": path})
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert f"picture {path} cannot be read: expected a whole PNG file, received" in message
    assert not (tmp_path / "out").exists()


# Hyperparameters


def test_a_run_is_a_session_of_its_name_with_typed_values(tmp_path: Path) -> None:
    hparams = {"learning_rate": 0.01, "epochs": 3, "use_gpu": True, "precision": "float32"}
    write_hparams(tmp_path / "out", hparams=hparams, metrics={}, run_name="first")
    found = values(tmp_path / "out")
    content = {tag: value.metadata.plugin_data.content for tag, value in found.items()}
    start = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info
    end = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_end_info"]).session_end_info
    assert start.group_name == "first"
    kinds = {
        name: (value.WhichOneof("kind"), getattr(value, value.WhichOneof("kind")))
        for name, value in start.hparams.items()
    }
    assert kinds == {
        "learning_rate": ("number_value", 0.01),
        "epochs": ("number_value", 3.0),
        "use_gpu": ("bool_value", True),
        "precision": ("string_value", "float32"),
    }
    assert end.status == api_pb2.STATUS_SUCCESS
    assert {value.metadata.plugin_data.plugin_name for value in found.values()} == {"hparams"}


def status(directory: Path) -> Any:
    value = values(directory)["_hparams_/session_end_info"]
    return plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content).session_end_info.status


def test_a_run_that_failed_is_a_row_that_says_so(tmp_path: Path) -> None:
    write_hparams(tmp_path / "good", hparams={"a": 1}, metrics={}, run_name="good")
    write_hparams(tmp_path / "bad", hparams={"a": 1}, metrics={}, run_name="bad", has_failed=True)
    assert status(tmp_path / "good") == api_pb2.STATUS_SUCCESS
    assert status(tmp_path / "bad") == api_pb2.STATUS_FAILURE


def test_the_final_metrics_are_scalars(tmp_path: Path) -> None:
    write_hparams(tmp_path / "out", hparams={}, metrics={"test_loss": 0.25, "test_mae": float("nan")}, run_name="first")
    found = values(tmp_path / "out")
    assert found["test_loss"].metadata.plugin_data.plugin_name == "scalars"
    assert found["test_loss"].tensor.float_val == [0.25]
    assert np.isnan(found["test_mae"].tensor.float_val[0])


@pytest.mark.parametrize("value", [None, Path("x"), [1]])
def test_a_value_that_tensorboard_cannot_show_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        write_hparams(tmp_path / "out", hparams={"data_dir": value}, metrics={}, run_name="first")
    assert str(caught.value) == (
        "hyperparameter 'data_dir' cannot be shown by TensorBoard: expected bool, int, float or str, received "
        f"{type(value).__name__}. Convert it or leave it out."
    )
    assert not (tmp_path / "out").exists()


def test_tensorflow_is_not_imported(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 3, 2)
    program = (
        "import sys; from pathlib import Path; from annlib.reporting.tensorboard import *;"
        f"write_pictures(Path({str(tmp_path)!r}), {{'a': Path({str(path)!r})}});"
        f"write_hparams(Path({str(tmp_path)!r}), hparams={{'a': 1}}, metrics={{'b': 2.0}}, run_name='c');"
        "print(sorted({'tensorflow', 'keras', 'matplotlib', 'ray'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert printed.stdout == "[]\n"
