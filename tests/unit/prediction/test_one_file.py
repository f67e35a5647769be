"""Predictions of models whose weights are written by hand, so that NumPy knows what comes out."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from annlib.artifacts import RunDirectory
from annlib.errors import AnnlibError, CheckpointError, ConfigError, DataError, StorageError
from annlib.prediction import predict_file, prediction_columns
from annlib.signature import InputColumns, Signature

FEATURES = Signature(
    task="regression",
    output="value",
    feature_names=("a", "b", "c"),
    target_name="Median value (USD)",
    target_unit="USD",
    input_shape=(3,),
    input_dtype="float32",
)
WEIGHTS = np.array([[1.0], [2.0], [4.0]], np.float32)
BIAS = np.array([0.5], np.float32)
IMAGES = Signature(
    task="classification",
    output="probabilities",
    class_names=("dark", "bright"),
    input_shape=(2, 3),
    input_dtype="uint8",
    input_max=200,
)
TARGET = "predicted_Median_value_USD"


def write_run(path: Path, signature: Signature, model: keras.Model | None) -> RunDirectory:
    path.mkdir()
    run = RunDirectory(path)
    run.signature.write_text(signature.to_json())
    if model is not None:
        model.save(run.model)
    return run


def dense(inputs: Any, x: Any, weights: Any, bias: Any, activation: str | None = None) -> keras.Model:
    layer = keras.layers.Dense(len(bias), activation=activation)
    model = keras.Model(inputs, layer(x))
    layer.set_weights([np.asarray(weights, np.float32), np.asarray(bias, np.float32)])
    return model


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    inputs = keras.Input((3,))
    model = dense(inputs, inputs, WEIGHTS, BIAS)
    return write_run(tmp_path_factory.mktemp("runs") / "regression", FEATURES, model)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Bright where the mean of the pixels is above 100."""
    inputs = keras.Input((2, 3), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(0.01)(inputs))
    model = dense(inputs, flat, np.tile([0.0, 1.0], (6, 1)), [0.0, -6.0], "softmax")
    return write_run(tmp_path_factory.mktemp("runs") / "images", IMAGES, model)


def without_model(path: Path, signature: Signature) -> RunDirectory:
    """A run whose model cannot be loaded: what is refused before, is refused by its message."""
    return write_run(path / "run", signature, None)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


# Tables


def test_columns_come_in_any_order_and_others_are_kept_as_they_are_written(
    regression: RunDirectory, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text('id,c,note,a,b\n007,1.50,"x, y",1,2\n008,-1,,0,1e1\n')
    assert predict_file(regression, tmp_path / "in.csv", tmp_path / "out.csv") == 2
    # 1 + 4 + 6 + 0.5 and 0 + 20 - 4 + 0.5
    assert (tmp_path / "out.csv").read_text() == (
        f'id,c,note,a,b,{TARGET}\n007,1.50,"x, y",1,2,11.5\n008,-1,,0,1e1,16.5\n'
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_a_csv_file_becomes_a_parquet_file_with_numbers(regression: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes("\ufeffa,b,c,id\n1,2,3.5,007\n".encode())
    predict_file(regression, tmp_path / "in.csv", tmp_path / "out.parquet")
    table = read(tmp_path / "out.parquet")
    assert list(table.columns) == ["a", "b", "c", "id", TARGET]
    assert table.iloc[0].tolist() == [1, 2, 3.5, "007", 19.5]
    assert [str(table[name].dtype) for name in ("a", "c", TARGET)] == ["int64", "float64", "float32"]


def test_a_parquet_file_keeps_the_types_of_its_columns(regression: RunDirectory, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "when": pd.to_datetime(["2020-01-01", None]),
            "count": pd.array([1, None], dtype="Int64"),
            "c": [True, False],
            "a": np.array([1, 2], np.int8),
            "b": ["2", "3"],
        }
    )
    table.to_parquet(tmp_path / "in.parquet")
    predict_file(regression, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pd.read_parquet(tmp_path / "out.parquet", dtype_backend="pyarrow")
    assert found[TARGET].tolist() == [9.5, 8.5]
    assert str(found["count"].dtype) == "int64[pyarrow]"
    assert found["count"].isna().tolist() == [False, True]
    assert found["when"].isna().tolist() == [False, True]
    predict_file(regression, tmp_path / "in.parquet", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[2] == f",,False,2,3,{8.5}"


def test_an_index_with_a_name_is_a_column(regression: RunDirectory, tmp_path: Path) -> None:
    pd.DataFrame({"b": [1], "c": [1]}, index=pd.Index([3], name="a")).to_parquet(tmp_path / "in.parquet")
    predict_file(regression, tmp_path / "in.parquet", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == f"a,b,c,{TARGET}\n3,1,1,9.5\n"


def test_an_index_without_a_name_is_left_out(regression: RunDirectory, tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [0, 1], "b": [1, 1], "c": [1, 1]})
    table[table.a > 0].to_parquet(tmp_path / "in.parquet")
    predict_file(regression, tmp_path / "in.parquet", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == f"a,b,c,{TARGET}\n1,1,1,7.5\n"


def test_many_rows_keep_their_order(regression: RunDirectory, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30_000, 3)).astype(np.float32)
    pd.DataFrame(x, columns=["a", "b", "c"]).to_parquet(tmp_path / "in.parquet")
    predict_file(regression, tmp_path / "in.parquet", tmp_path / "out.parquet")
    np.testing.assert_allclose(read(tmp_path / "out.parquet")[TARGET], (x @ WEIGHTS + BIAS)[:, 0], rtol=1e-4, atol=1e-5)


def test_a_model_of_two_inputs_gets_its_columns(tmp_path: Path) -> None:
    wide, deep = keras.Input((2,), name="wide"), keras.Input((1,), name="deep")
    model = dense([wide, deep], keras.layers.concatenate([wide, deep]), [[1], [10], [100]], [0])
    parts = (InputColumns("wide", (2, 0)), InputColumns("deep", (1,)))
    signature = Signature(**{**vars(FEATURES), "inputs": parts})
    run = write_run(tmp_path / "run", signature, model)
    (tmp_path / "in.csv").write_text("a,b,c\n1,2,3\n")
    predict_file(run, tmp_path / "in.csv", tmp_path / "out.csv")
    assert read(tmp_path / "out.csv")[TARGET].tolist() == [3 + 10 + 200]


# How the output reads


@pytest.mark.parametrize(
    ("output", "activation", "expected"),
    [
        # 1 / (1 + exp(2)) and 1 / (1 + exp(-1))
        ("sigmoid", "sigmoid", {"class": [0, 1], "class_name": ["no", "yes"], "probability": [0.8807971, 0.7310586]}),
        ("score", None, {"class": [0, 1], "class_name": ["no", "yes"], "probability": [np.nan] * 2, "score": [-2, 1]}),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_single_output_decides_between_two_classes(
    tmp_path: Path, output: Any, activation: str | None, expected: dict[str, list[Any]], ending: str
) -> None:
    inputs = keras.Input((1,))
    signature = Signature(
        task="classification",
        output=output,
        class_names=("no", "yes"),
        feature_names=("z",),
        input_shape=(1,),
        input_dtype="float32",
    )
    run = write_run(tmp_path / "run", signature, dense(inputs, inputs, [[1]], [0], activation))
    (tmp_path / "in.csv").write_text("z\n-2\n1\n")
    predict_file(run, tmp_path / "in.csv", tmp_path / f"out{ending}")
    table = read(tmp_path / f"out{ending}")
    assert list(table.columns) == ["z", *expected]
    assert table["class_name"].tolist() == expected["class_name"]
    for name in expected.keys() - {"class_name"}:
        np.testing.assert_allclose(table[name].astype(float), expected[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("target", "column"),
    [
        ("MedHouseVal", "predicted_MedHouseVal"),
        ("price (USD) per m²", "predicted_price_USD_per_m²"),
        (None, "predicted_target"),
        ("%", "predicted_target"),
    ],
)
def test_the_column_of_a_regression_is_the_target_without_spaces(target: str | None, column: str) -> None:
    assert prediction_columns(Signature(**{**vars(FEATURES), "target_name": target})) == (column,)


# Arrays and images


def test_an_array_of_images_gets_an_index(images: RunDirectory, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.stack([np.full((2, 3), 99, np.uint8), np.full((2, 3), 200, np.uint8)]))
    predict_file(images, tmp_path / "in.npy", tmp_path / "out.csv")
    table = read(tmp_path / "out.csv")
    assert table.columns.tolist() == ["index", "class", "class_name", "probability"]
    assert table[["index", "class", "class_name"]].to_numpy().tolist() == [[0, 0, "dark"], [1, 1, "bright"]]
    # z = (0, 6 * 0.99 - 6) and (0, 6 * 2 - 6)
    np.testing.assert_allclose(table["probability"], 1 / (1 + np.exp([6 * 0.99 - 6, -6])), rtol=1e-5)


def test_an_array_of_features_is_converted(regression: RunDirectory, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.array([[1, 1, 1], [0, 0, 1]], np.int64))
    predict_file(regression, tmp_path / "in.npy", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == f"index,{TARGET}\n0,7.5\n1,4.5\n"


def test_a_directory_of_images_is_read_by_name(images: RunDirectory, tmp_path: Path) -> None:
    directory = tmp_path / "in"
    directory.mkdir()
    for name, value in (("b.png", 10), ("a.PNG", 150), (".hidden.png", 0)):
        Image.fromarray(np.full((2, 3), value, np.uint8)).save(directory / name, format="PNG")
    (directory / "readme.txt").touch()
    predict_file(images, directory, tmp_path / "out.csv")
    table = read(tmp_path / "out.csv")
    assert table[["file", "class"]].to_numpy().tolist() == [["a.PNG", 1], ["b.png", 0]]


@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (Image.new("L", (3, 2), 120), 120),
        # 0.299 red + 0.587 green + 0.114 blue
        (Image.new("RGB", (3, 2), (100, 200, 50)), 153),
        (Image.new("RGBA", (3, 2), (100, 200, 50, 0)), 153),
        (Image.new("LA", (3, 2), (70, 0)), 70),
        (Image.new("RGB", (3, 2), (100, 200, 50)).quantize(), 153),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_colours_become_grey(images: RunDirectory, tmp_path: Path, image: Image.Image, grey: int) -> None:
    image.save(tmp_path / "in.png")
    predict_file(images, tmp_path / "in.png", tmp_path / "out.csv")
    z = 6 * grey * 0.01 - 6
    assert read(tmp_path / "out.csv")["probability"][0] == pytest.approx(1 / (1 + np.exp(-abs(z))), rel=1e-4)


# Errors: one line, before the model is needed, and nothing is written


def message_of(run: RunDirectory, source: Path, output: Path, kind: type[AnnlibError]) -> str:
    before = set(output.parent.iterdir()) if output.parent.exists() else set()
    with pytest.raises(kind) as error:
        predict_file(run, source, output)
    after = set(output.parent.iterdir()) if output.parent.exists() else set()
    message = str(error.value)
    assert before == after
    assert "\n" not in message
    assert "expected" in message
    assert "received" in message
    return message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("\n\n", "is empty: expected a line of names"),
        ("a,b,c\n", "has no rows"),
        ("a,c\n1,2\n", "lacks the columns b: expected a, b, c, received a, c"),
        ("a;b;c\n1;2;3\n", "in.csv has one column, 'a;b;c': expected values separated by commas, received another"),
        ("a|b|c\n1,5|2|3\n", "in.csv has one column, 'a|b|c': expected values separated by commas, received another"),
        ("a, EUR;b;c\n1;2;3\n", "Add or rename them, or separate values by commas, where ' EUR;b;c' is more than one"),
        ("a\0,\0b\0\n\0", "in.csv holds NUL characters, as in 'a\\x00': expected UTF-8, received another encoding"),
        ("a,b,c,a\n1,2,3,4\n", "two columns of one name: expected different names, received 'a' 2 times"),
        ("a,b,c\n1,2,3\n4,x,6\n", "column 'b', row 2: expected a number that fits into float32, received 'x'"),
        ('a,b,c\n1,"2,5",3\n', "column 'b', row 1: expected a number that fits into float32, received '2,5'"),
        ("a,b,c\n1,2,3\n4,y,6\nz,5,6\n", "column 'b', row 2"),
        ("a,b,c\n1,,3\n", "column 'b', row 1: expected a number that fits into float32, received no value"),
        ("a,b,c\n1,2\n", "row 1 is too short: expected 3 values, as many as names, received 2"),
        ("a,b,c\n1,nan,3\n", "column 'b', row 1: expected a number that fits into float32, received 'nan'"),
        ("a,b,c\n1,inf,3\n", "received 'inf'"),
        ("a,b,c\n1,1e39,3\n", "received '1e39'"),
        ("a,b,c\n1,True,3\n", "received 'True'"),
        ("a,b,c\n1,2,3,4\n", "cannot be read: expected a CSV file"),
        (f"a,b,c,{TARGET}\n1,2,3,4\n", f"already has the columns {TARGET}"),
    ],
)
def test_a_bad_csv_file_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    run = without_model(tmp_path, FEATURES)
    (tmp_path / "in.csv").write_text(text)
    assert expected in message_of(run, tmp_path / "in.csv", tmp_path / "out.csv", DataError)


def test_a_csv_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    run = without_model(tmp_path, FEATURES)
    (tmp_path / "in.csv").write_bytes(b"a,b,c\n\xff\xfe,2,3\n")
    assert "expected a CSV file in UTF-8" in message_of(run, tmp_path / "in.csv", tmp_path / "out.csv", DataError)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"b": [1.0, None]}, "column 'b', row 2: expected a number that fits into float32, received no value"),
        ({"b": [1.0, np.inf]}, "column 'b', row 2"),
        ({"b": ["1", "x"]}, "received 'x'"),
        (
            {"b": pd.to_datetime(["2020", "2021"])},
            "has a column 'b' of another type: expected numbers, received timest",
        ),
        ({"b": [[1], [2]]}, "has a column 'b' of another type: expected numbers, received list"),
    ],
)
def test_a_bad_column_of_a_parquet_file_is_refused(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    run = without_model(tmp_path, FEATURES)
    pd.DataFrame({"a": [1, 2], "b": [1, 2], "c": [1, 2], **change}).to_parquet(tmp_path / "in.parquet")
    assert expected in message_of(run, tmp_path / "in.parquet", tmp_path / "out.csv", DataError)


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    run = without_model(tmp_path, FEATURES)
    (tmp_path / "in.parquet").write_text("a,b,c\n1,2,3\n")
    assert "expected a Parquet file" in message_of(run, tmp_path / "in.parquet", tmp_path / "out.csv", DataError)


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (npy(np.zeros((2, 3, 2), np.uint8)), "has another shape: expected (n, 2, 3)"),
        (npy(np.zeros((2, 3), np.uint8)), "received (2, 3)"),
        (npy(np.zeros((0, 2, 3), np.uint8)), "with 1 sample or more, received (0, 2, 3)"),
        (npy(np.float32(1)), "received ()"),
        (npy(np.zeros((1, 2, 3), np.float32)), "holds no pixels: expected dtype uint8, received float32"),
        (
            npy(np.full((1, 2, 3), 201, np.uint8)),
            "pixels that the model never saw: expected 0 to 200, received up to 201",
        ),
        (npy(np.array(["a"])), "is not numeric: expected numbers, received dtype <U1"),
        (npy(np.array([None]), allow_pickle=True), "cannot be read: expected an array of numbers"),
        (npy(np.zeros((1, 2, 3), np.uint8))[:-1], "cannot be read: expected an array of numbers"),
        (b"PK\x03\x04 or a pickle", "received: another kind of file"),
    ],
)
def test_a_bad_array_is_refused(tmp_path: Path, raw: bytes, expected: str) -> None:
    run = without_model(tmp_path, IMAGES)
    (tmp_path / "in.npy").write_bytes(raw)
    assert expected in message_of(run, tmp_path / "in.npy", tmp_path / "out.csv", DataError)


def test_a_feature_that_is_not_finite_is_named(tmp_path: Path) -> None:
    run = without_model(tmp_path, FEATURES)
    np.save(tmp_path / "in.npy", np.array([[1, 2, 3], [1, np.nan, 3]]))
    message = message_of(run, tmp_path / "in.npy", tmp_path / "out.csv", DataError)
    assert "column 'b', row 2: expected a number that fits into float32, received no value" in message


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: Image.new("L", (2, 3)).save(path), "has another size: expected 3 x 2 pixels, received 2 x 3"),
        (lambda path: Image.new("I;16", (3, 2)).save(path), "expected 8 bits a pixel and channel, received mode I;16"),
        (lambda path: Image.new("L", (3, 2)).save(path, format="JPEG"), "expected a whole PNG image"),
        (lambda path: path.write_bytes(b"PNG"), "expected a whole PNG image"),
        (lambda path: Image.new("L", (3, 2), 255).save(path), "expected 0 to 200, received up to 255"),
    ],
    ids=["size", "16 bits", "JPEG", "text", "range"],
)
def test_a_bad_image_is_refused(tmp_path: Path, make: Callable[[Path], Any], expected: str) -> None:
    run = without_model(tmp_path, IMAGES)
    make(tmp_path / "in.png")
    assert expected in message_of(run, tmp_path / "in.png", tmp_path / "out.csv", DataError)


def test_a_truncated_image_is_refused(tmp_path: Path) -> None:
    run = without_model(tmp_path, IMAGES)
    Image.new("L", (3, 2), 7).save(tmp_path / "in.png")
    raw = (tmp_path / "in.png").read_bytes()
    (tmp_path / "in.png").write_bytes(raw[: raw.index(b"IDAT") + 6])
    assert "expected a whole PNG image" in message_of(run, tmp_path / "in.png", tmp_path / "out.csv", DataError)


def test_a_directory_without_images_is_refused(tmp_path: Path) -> None:
    run = without_model(tmp_path, IMAGES)
    (tmp_path / "in").mkdir()
    assert "holds no images" in message_of(run, tmp_path / "in", tmp_path / "out.csv", DataError)


def test_images_for_a_model_of_features_are_refused_and_the_reverse(tmp_path: Path) -> None:
    features = without_model(tmp_path, FEATURES)
    images = write_run(tmp_path / "images", IMAGES, None)
    Image.new("L", (3, 2)).save(tmp_path / "in.png")
    (tmp_path / "in.csv").write_text("a\n1\n")
    message = message_of(features, tmp_path / "in.png", tmp_path / "out.csv", DataError)
    assert "the model takes features: expected a table of a, b, c" in message
    message = message_of(images, tmp_path / "in.csv", tmp_path / "out.csv", DataError)
    assert "takes no named features" in message
    assert "Give them as .npy or PNG images." in message


@pytest.mark.parametrize("name", ["in.tsv", "in"])
def test_an_unknown_kind_of_input_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a,b,c\n1,2,3\n")
    run = without_model(tmp_path, FEATURES)
    assert "of an unknown kind" in message_of(run, tmp_path / name, tmp_path / "out.csv", DataError)


def test_a_missing_input_is_refused(tmp_path: Path) -> None:
    run = without_model(tmp_path, FEATURES)
    assert "does not exist" in message_of(run, tmp_path / "in.csv", tmp_path / "out.csv", DataError)


@pytest.mark.parametrize("name", ["out.txt", "out", "out.csv.gz"])
def test_an_unknown_ending_of_the_output_is_refused(tmp_path: Path, name: str) -> None:
    run = without_model(tmp_path, FEATURES)
    message = message_of(run, tmp_path / "in.csv", tmp_path / name, ConfigError)
    assert "unknown ending: expected .csv or .parquet" in message


def test_an_output_in_no_directory_is_refused(tmp_path: Path) -> None:
    run = without_model(tmp_path, FEATURES)
    message = message_of(run, tmp_path / "in.csv", tmp_path / "none/out.csv", StorageError)
    assert "which is no directory. Make the directory" in message


def test_an_output_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    run = without_model(tmp_path, FEATURES)
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(StorageError, match=r"received a directory. Give the name of a file"):
        predict_file(run, tmp_path / "in.csv", tmp_path / "out.csv", overwrite=True)


def test_an_output_that_exists_is_replaced_only_when_told(regression: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b,c\n1,1,1\n")
    (tmp_path / "out.csv").write_text("mine")
    assert "--overwrite" in message_of(regression, tmp_path / "in.csv", tmp_path / "out.csv", ConfigError)
    assert (tmp_path / "out.csv").read_text() == "mine"
    predict_file(regression, tmp_path / "in.csv", tmp_path / "out.csv", overwrite=True)
    assert (tmp_path / "out.csv").read_text().startswith("a,b,c,predicted")


def test_an_error_while_writing_leaves_nothing(
    regression: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: pd.DataFrame, path: Path, **options: Any) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    (tmp_path / "in.csv").write_text("a,b,c\n1,1,1\n")
    message = message_of(regression, tmp_path / "in.csv", tmp_path / "out.csv", StorageError)
    assert "received No space left on device" in message


def test_a_run_without_a_model_or_signature_is_refused(tmp_path: Path) -> None:
    run = without_model(tmp_path, FEATURES)
    (tmp_path / "in.csv").write_text("a,b,c\n1,1,1\n")
    assert "holds no model" in message_of(run, tmp_path / "in.csv", tmp_path / "out.csv", StorageError)
    run.signature.unlink()
    assert "signature.json cannot be read" in message_of(run, tmp_path / "in.csv", tmp_path / "out.csv", StorageError)


def test_a_model_of_another_signature_is_refused(regression: RunDirectory, tmp_path: Path) -> None:
    other = Signature(
        task="classification",
        output="probabilities",
        class_names=("x", "y"),
        feature_names=("a", "b", "c"),
        input_shape=(3,),
        input_dtype="float32",
    )
    run = write_run(tmp_path / "run", other, None)
    run.model.write_bytes(regression.model.read_bytes())
    (tmp_path / "in.csv").write_text("a,b,c\n1,1,1\n")
    message = message_of(run, tmp_path / "in.csv", tmp_path / "out.csv", CheckpointError)
    assert "expected outputs of shape (n, 2), received (1, 1)" in message


def test_a_prediction_that_overflows_is_refused(regression: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b,c\n1,1,1\n1,1,3e38\n")
    message = message_of(regression, tmp_path / "in.csv", tmp_path / "out.csv", DataError)
    assert "the first of them number 2" in message
