"""Workloads of the user's own: found by file or module, and one line for what is wrong with them."""

import pickle
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import annlib
from annlib.config import load_config
from annlib.errors import ConfigError, DataError
from annlib.training.own_code import Origin
from annlib.training.workload import Workload, import_workload
from annlib.workloads import find

GOOD = """
import keras
import numpy as np
from annlib import Dataset, Workload

def load_data(config):
    return Dataset.from_arrays(np.arange(40, dtype="float32").reshape(20, 2), np.arange(20) % 2, class_names=("a", "b"))

def build_model(data, config):
    model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    return model

workload = Workload(load_data=load_data, build_model=build_model)
"""


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    find.cache_clear()
    yield
    for name in set(sys.modules) - known:
        if name.startswith(("annlib_own_", "my_")):
            del sys.modules[name]


def write(code: str, name: str = "own.py") -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(textwrap.dedent(code))


def config_for(workload: Workload, **values: Any) -> Any:
    return load_config({"workload": workload.name, **values}, defaults=workload.defaults, environment={})


def message_of(reference: str) -> str:
    with pytest.raises(ConfigError) as caught:
        find(reference)
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message or "failed" in message
    return message


@pytest.mark.parametrize(
    ("file", "reference"),
    [
        ("own.py", "own.py:workload"),
        ("my code/own.py", "my code/own.py:workload"),
        ("my_package/inner.py", "my_package.inner:workload"),
    ],
)
def test_a_workload_is_found_by_file_or_module(file: str, reference: str) -> None:
    write(GOOD, file)
    workload = find(reference)
    assert isinstance(workload, annlib.Workload)
    config = config_for(workload)
    assert (workload.name, config.epochs, config.workload) == (reference, 20, reference)
    data = workload.load(config)
    model = workload.build(data, config)
    assert workload.signature(data, model).output == "sigmoid"


def test_an_absolute_path_and_files_beside_it(tmp_path: Path) -> None:
    write("NUMBER = 3", "deep/my_beside.py")
    write(GOOD + "from my_beside import NUMBER\n", "deep/own.py")
    assert find(f"{tmp_path}/deep/own.py:workload").name


def test_a_worker_elsewhere_imports_it_from_the_drivers_directory(tmp_path: Path, monkeypatch: Any) -> None:
    write(GOOD)
    workload = find("own.py:workload")
    assert workload.origin == Origin(reference="own.py:workload", directory=str(tmp_path))
    origin = pickle.loads(pickle.dumps(workload.origin))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert import_workload(origin).build_model is not workload.build_model
    # A copy of the files, as Ray makes of --working-dir, comes first.
    write(GOOD.replace("workload = Workload(", "workload = Workload(description='copy', "))
    assert import_workload(origin).description == "copy"


@pytest.mark.parametrize(
    ("code", "reference", "parts"),
    [
        (GOOD, "none.py:workload", ["none.py does not exist", "a Python file"]),
        (GOOD, "own.py:", ["no reference", "path/to/file.py:name"]),
        (GOOD, ":workload", ["no file or module"]),
        (GOOD, "own.py:work", ["expected an annlib.Workload, received no 'work'", "Give own.py:workload"]),
        (GOOD, "own.py:np", ["received a module", "Give own.py:workload"]),
        ("x = 1\n", "own.py:x", ["received a int", "x = annlib.Workload(...)"]),
        ("a = 1\nb = a / 0\n", "own.py:workload", ["ZeroDivisionError: division by zero", "own.py, line 2"]),
        ("def f(:\n", "own.py:workload", ["SyntaxError", "own.py, line 1"]),
        ("import my_missing\n", "own.py:workload", ["No module named 'my_missing'", "line 1"]),
        ("import sys\nsys.exit(3)\n", "own.py:workload", ["SystemExit: 3", "line 2"]),
        (
            "from annlib import Workload\nworkload = Workload(name='x')\n",
            "own.py:workload",
            ["TypeError", "load_data", "line 2"],
        ),
        (GOOD, "my_nothing.inner:workload", ["there is no module my_nothing"]),
        (GOOD, "digit", ["did you mean digits?", "path/to/file.py:name"]),
    ],
)
def test_a_bad_reference_is_one_line(code: str, reference: str, parts: list[str]) -> None:
    write(code)
    message = message_of(reference)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("old", "new", "error", "parts"),
    [
        ("return Dataset", "return (1, 2)\n    Dataset", ConfigError, ["returned no data set", "received tuple"]),
        ("return Dataset", "{}['x']\n    Dataset", ConfigError, ["load_data failed: KeyError: 'x'", "own.py, line 7"]),
        ("np.arange(20) % 2", "np.arange(20)", DataError, ["cannot be split", "least populated"]),
        ("    return model", "    return 3", ConfigError, ["returned no model", "received int"]),
        ("    model.compile", "    return model\n    model.compile", ConfigError, ["is not compiled", "model.compile"]),
        ("Dense(1,", "Dens(1,", ConfigError, ["build_model failed: AttributeError", "line 10"]),
    ],
)
def test_wrong_code_is_one_line(
    old: str, new: str, error: type[Exception], parts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "annlib")
    assert old in GOOD
    write(GOOD.replace(old, new))
    workload = find("own.py:workload")
    with pytest.raises(error) as caught:
        workload.build(workload.load(config_for(workload)), config_for(workload))
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value), caught.value
    # The whole of it is in the log.
    assert ("Traceback" in caplog.text) == (" failed: " in parts[0])


def test_an_unknown_monitor_of_an_undeclared_metric_is_an_error() -> None:
    write(GOOD)
    workload = find("own.py:workload")
    config = config_for(workload, monitor="val_acc")
    workload.check_monitor(config, workload.metrics)
    with pytest.raises(ConfigError, match="expected one of loss, accuracy, val_loss, val_accuracy, received 'val_acc'"):
        workload.check_monitor(config, ("accuracy",))


def test_arrays_are_split_as_the_built_in_data_is() -> None:
    data = annlib.Dataset.from_arrays(np.arange(16).reshape(16, 1), np.arange(16.0))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [9, 3, 4]
    assert sorted([*data.train.y, *data.validation.y, *data.test.y]) == list(range(16))
