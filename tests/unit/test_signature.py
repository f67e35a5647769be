import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annlib.data import Dataset, Split
from annlib.errors import CheckpointError, ConfigError, DataError, StorageError
from annlib.prediction.columns import prediction_columns, predictions
from annlib.signature import InputColumns, Signature

REGRESSION = Signature(
    task="regression",
    output="value",
    feature_names=("a", "b", "c"),
    target_name="price",
    target_unit="100,000 USD",
    input_shape=(3,),
    input_dtype="float32",
    inputs=(InputColumns("wide", (0, 1)), InputColumns("deep", (2, 1))),
)


def classification(**changes: Any) -> Signature:
    values: dict[str, Any] = {
        "task": "classification",
        "output": "probabilities",
        "class_names": ("cat", "dog"),
        "input_shape": (2, 3),
        "input_dtype": "uint8",
        "input_max": 16,
    }
    return Signature(**values | changes)


def dataset(x: Any, y: Any, **fields: Any) -> Dataset:
    parts = {name: Split(x=np.asarray(x), y=np.asarray(y)) for name in ("train", "validation", "test")}
    return Dataset(**{"name": "d", **parts, **fields})


@pytest.mark.parametrize("signature", [REGRESSION, classification()])
def test_json_gives_the_same_signature(signature: Signature) -> None:
    assert Signature.from_json(signature.to_json()) == signature


def test_json_holds_the_fields_by_name() -> None:
    content = json.loads(REGRESSION.to_json())
    assert content["inputs"] == [{"name": "wide", "columns": [0, 1]}, {"name": "deep", "columns": [2, 1]}]
    assert content["target_unit"] == "100,000 USD"
    assert content["class_names"] is None


def test_fields_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        REGRESSION.task = "classification"  # type: ignore[misc]


def test_class_names_make_a_classification() -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    images[1, 0, 0] = 16
    data = dataset(images, np.array([0, 1], np.uint8), class_names=("x", "y"))
    assert Signature.from_dataset(data) == classification(class_names=("x", "y"), input_shape=(8, 8))
    assert Signature.from_dataset(data, output="sigmoid").output == "sigmoid"


def test_no_class_names_make_a_regression_with_its_names_unit_and_inputs() -> None:
    data = dataset(
        np.zeros((2, 3), np.float32),
        np.zeros(2),
        feature_names=("a", "b", "c"),
        target_name="price",
        target_unit="100,000 USD",
    )
    assert Signature.from_dataset(data, (("wide", (0, 1)), ("deep", (2, 1)))) == REGRESSION


@pytest.mark.parametrize(
    ("dtype", "expected"), [("uint8", "uint8"), ("float32", "float32"), ("float64", "float64"), ("int32", "float32")]
)
def test_features_are_what_keras_takes_for_them(dtype: str, expected: str) -> None:
    assert Signature.from_dataset(dataset(np.zeros((2, 3), dtype), np.zeros(2))).input_dtype == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"input_shape": ()}, "input_shape of positive sizes, received ()"),
        ({"input_shape": (0, 2)}, "received (0, 2)"),
        ({"task": "regression"}, "received task regression, output probabilities"),
        ({"output": "value"}, "output value"),
        ({"class_names": None}, "class names None"),
        ({"class_names": ("cat",)}, "2 or more class names, received ('cat',)"),
        ({"output": "score", "class_names": ("a", "b", "c")}, "2 class names for output score"),
        ({"feature_names": ("a",)}, "a feature name for each of input_shape (2, 3), received 1 names"),
        ({"inputs": (InputColumns("wide", (0,)),)}, "inputs with columns of a table of input_shape (2, 3)"),
        ({"input_shape": (2,), "inputs": (InputColumns("wide", (2,)),)}, "received columns [2]"),
        ({"input_shape": (2,), "inputs": ()}, "received columns []"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        classification(**changes)
    assert expected in str(error.value)


# Damaged files


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"task": "clustering"}, "task: Input should be"),
        ({"color": "red"}, "color: Unexpected"),
        ({"input_shape": [2, "3"]}, "input_shape.1: Input should be a valid integer"),
        ({"input_shape": [True, 3]}, "input_shape.0: Input should be a valid integer"),
        ({"class_names": "cat"}, "class_names: Input should be a valid array"),
        ({"inputs": [{"name": "wide"}]}, "inputs.0.columns: Field required"),
        ({"class_names": ["cat"]}, "2 or more class names"),
    ],
)
def test_a_damaged_field_is_named(change: dict[str, Any], expected: str) -> None:
    text = json.dumps(json.loads(classification().to_json()) | change)
    with pytest.raises(StorageError) as error:
        Signature.from_json(text, source="run/signature.json")
    assert str(error.value).startswith("run/signature.json is damaged: expected")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    # Without class names it contradicts itself, which is said instead.
    "field",
    [field.name for field in dataclasses.fields(Signature) if field.name != "class_names"],
)
def test_a_field_that_is_left_out_is_named(field: str) -> None:
    content = json.loads(classification().to_json())
    del content[field]
    with pytest.raises(StorageError, match=f"{field}: Field required"):
        Signature.from_json(json.dumps(content))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"task": "regression"', b"\xff\xfe"])
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(StorageError, match="the file: "):
        Signature.from_json(text)


def test_read_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "signature.json"
    with pytest.raises(StorageError, match=r"signature.json cannot be read: .* received No such file"):
        Signature.read(path)
    path.write_text("{}")
    with pytest.raises(StorageError, match=r"signature.json is damaged"):
        Signature.read(path)
    path.write_text(REGRESSION.to_json())
    assert Signature.read(path) == REGRESSION


# Inputs and outputs


def test_inputs_get_their_columns_in_order() -> None:
    wide, deep = REGRESSION.model_inputs(np.array([[1, 2, 3], [4, 5, 6]]))
    np.testing.assert_array_equal(wide, [[1, 2], [4, 5]])
    np.testing.assert_array_equal(deep, [[3, 2], [6, 5]])


def test_one_input_gets_the_array_itself() -> None:
    x = np.zeros((1, 2, 3), np.uint8)
    assert classification().model_inputs(x) is x


def test_the_largest_probability_decides() -> None:
    outputs = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    labels, probabilities = classification(class_names=("a", "b", "c")).classify(outputs)
    np.testing.assert_array_equal(labels, [1, 2])
    np.testing.assert_array_equal(probabilities, [0.5, 0.8])


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_sigmoid_is_class_1_from_one_half_on(shape: tuple[int, ...]) -> None:
    labels, probabilities = classification(output="sigmoid").classify(np.array([0.25, 0.5, 0.75]).reshape(shape))
    np.testing.assert_array_equal(labels, [0, 1, 1])
    np.testing.assert_array_equal(probabilities, [0.75, 0.5, 0.75])


def test_a_score_is_class_1_from_zero_on_and_has_no_probability() -> None:
    labels, probabilities = classification(output="score").classify(np.array([[-0.1], [0.0], [7.0]]))
    np.testing.assert_array_equal(labels, [0, 1, 1])
    assert probabilities is None


@pytest.mark.parametrize(
    "outputs", [[[[1.0], [2.0]], [[3.0], [4.0]]], {"main": np.array([1.0, 2.0]), "aux": np.array([3.0, 4.0])}]
)
def test_of_several_outputs_the_first_counts(outputs: Any) -> None:
    outputs = [np.array(part) for part in outputs] if isinstance(outputs, list) else outputs
    np.testing.assert_array_equal(REGRESSION.output_columns(outputs), [[1], [2]])


@pytest.mark.parametrize("shape", [(4, 3), (4,), (4, 1), (4, 2, 1)])
def test_outputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError) as error:
        classification().classify(np.zeros(shape))
    assert f"expected outputs of shape (n, 2), received {shape}" in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_counted(bad: float) -> None:
    with pytest.raises(DataError, match="NaN or infinity for 2 samples, the first of them number 2"):
        REGRESSION.output_columns(np.array([1.0, bad, bad]))


@pytest.mark.parametrize(("brightest", "most"), [(1, 1), (16, 16), (250, 255), (255, 255)])
def test_pixels_of_a_scale_that_was_nearly_used_up_may_use_all_of_it(brightest: int, most: int) -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    images[0, 0, 0] = brightest
    data = dataset(images, np.array([0, 1], np.uint8), class_names=("x", "y"))
    assert Signature.from_dataset(data).input_max == most


def test_a_regression_of_several_targets_gives_a_column_for_each() -> None:
    data = dataset(np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32), target_name="price")
    signature = Signature.from_dataset(data)
    assert signature.num_targets == 2
    assert signature.output_columns(np.ones((5, 2))).shape == (5, 2)
    assert prediction_columns(signature) == ("predicted_price_0", "predicted_price_1")
    found = predictions(signature, np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert {name: list(values) for name, values in found.items()} == {
        "predicted_price_0": [1.0, 3.0],
        "predicted_price_1": [2.0, 4.0],
    }
    with pytest.raises(CheckpointError, match=r"expected outputs of shape \(n, 2\), received \(5, 1\)"):
        signature.output_columns(np.ones((5, 1)))
