"""Models of tables: their parts against NumPy, and the saved model of raw rows against the encoding it repeats."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import annlib
from annlib.data.column_statistics import ColumnStatistics
from annlib.data.columns import DATE_PARTS, MISSING_DATE, Column, Columns, Kind
from annlib.data.conversion import to_seconds
from annlib.data.encoding import date_parts, encode
from annlib.errors import DataError
from annlib.models.tabular import core_of, input_names, raw_model, tabular_model
from annlib.models.tabular_layers import CodeEmbedding, DateParts, OneHotColumns, StandardizedLoss
from annlib.models.targets import ClassificationTask

KINDS: dict[str, Kind] = {
    "n/1": "number",
    "flag": "boolean",
    "standardize": "date",
    "few": "category",
    "many": "category",
}


def frame(num_rows: int = 200) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    found = pd.DataFrame(
        {
            "n/1": generator.normal(1e6, 1.0, num_rows),
            "flag": generator.random(num_rows) < 0.5,
            "standardize": pd.Timestamp("1969-06-01") + pd.to_timedelta(generator.integers(0, 4e7, num_rows), unit="s"),
            "few": generator.choice(["a", "b", "Ü x"], num_rows),
            "many": np.char.add("v", generator.integers(0, 30, num_rows).astype(str)),
        }
    )
    found.loc[::5, "n/1"] = np.nan
    found.loc[::6, "few"] = None
    found.loc[::7, "standardize"] = None
    return found


@pytest.fixture(scope="module")
def columns() -> Columns:
    return ColumnStatistics(KINDS).update(pa.Table.from_pandas(frame(), preserve_index=False)).result()[0]


def raw_inputs(rows: pd.DataFrame, columns: Columns) -> dict[str, Any]:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    found: dict[str, Any] = {}
    for name, column in zip(input_names(columns), columns.columns, strict=True):
        if column.kind == "category":
            found[name] = rows[column.name].fillna("").to_numpy(dtype=object)
        elif column.kind == "date":
            found[name] = to_seconds(column.name, table[column.name])
        else:
            found[name] = rows[column.name].to_numpy(dtype=np.float64)
    return found


@pytest.mark.parametrize("kind", ["mlp", "wide-deep"])
@pytest.mark.parametrize("ending", ["keras", pytest.param("h5", marks=pytest.mark.slow)])
def test_the_saved_model_takes_raw_rows(columns: Columns, kind: Any, ending: str, tmp_path: Path) -> None:
    y = np.random.default_rng(1).normal(2e5, 1e5, 200).astype(np.float32)
    rows = frame()
    rows.loc[3, ["few", "many"]] = ["never seen", "nor this"]
    table = pa.Table.from_pandas(rows, preserve_index=False)
    optimizer = keras.optimizers.Adam(0.01)
    model = tabular_model(columns, y, None, optimizer=optimizer, kind=kind, hidden=(10,))
    annlib.fit(model, encode(columns, table), y, epochs=2, seed=0, verbose=0)
    model.save(tmp_path / "core.keras")
    core = annlib.load(tmp_path / "core.keras", compile=False)
    raw_model(core, columns, compiled=model).save(tmp_path / f"model.{ending}")
    loaded = annlib.load(tmp_path / f"model.{ending}")
    expected = annlib.predict(model, encode(columns, table))
    inputs = {name: keras.ops.convert_to_tensor(values) for name, values in raw_inputs(rows, columns).items()}
    np.testing.assert_array_equal(np.asarray(loaded(inputs)), expected)
    np.testing.assert_array_equal(annlib.predict(core_of(loaded), encode(columns, table)), expected)
    for variable, trained in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), trained.numpy())
    metrics = annlib.evaluate(core_of(loaded), encode(columns, table), y, return_dict=True)
    assert metrics == annlib.evaluate(model, encode(columns, table), y, return_dict=True)
    assert np.sqrt(np.mean((expected[:, 0] - y) ** 2)) == pytest.approx(metrics["root_mean_squared_error"], rel=1e-5)
    assert metrics["loss"] == pytest.approx(np.mean((expected[:, 0] - y) ** 2) / np.var(y), rel=1e-4)


def test_predictions_of_python_values(columns: Columns, tmp_path: Path) -> None:
    task = ClassificationTask(kind="binary", num_classes=2, encoding="sparse")
    y = np.array([0, 1])
    model = tabular_model(columns, y, task, optimizer=keras.optimizers.SGD(), hidden=(10,))
    model.save(tmp_path / "core.keras")
    raw = raw_model(annlib.load(tmp_path / "core.keras", compile=False), columns, compiled=model)
    assert set(raw.input) == {"annlib_column_0", "flag", "standardize", "few", "many"}
    rows = frame(8)
    inputs = raw_inputs(rows, columns)
    assert raw.predict(inputs, verbose=0).shape == (8, 1)
    expected = raw.predict(inputs, verbose=0)
    assert np.ptp(expected) > 0
    texts = {name: np.asarray(values, str) if name in ("few", "many") else values for name, values in inputs.items()}
    for given in (inputs, texts, {**texts, "few": texts["few"].astype(object)}):
        np.testing.assert_allclose(annlib.predict(raw, given), expected, rtol=1e-5)
    figures = annlib.evaluate(raw, texts, np.arange(8) % 2, return_dict=True, verbose=0)
    assert figures == pytest.approx(raw.evaluate(inputs, np.arange(8) % 2, return_dict=True, verbose=0), rel=1e-5)
    with pytest.raises(DataError, match="y has dtype <U3: expected numbers"):
        annlib.evaluate(raw, texts, np.array(["yes", "not"] * 4))


def test_the_one_hot_of_an_unseen_value_is_zero() -> None:
    codes = np.array([[9, 1, 0], [9, 2, 2], [9, 0, 1]], np.float32)
    expected = [[0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 0]]
    assert np.asarray(OneHotColumns([2, 1], [3, 4])(codes)).tolist() == expected


def test_parts_of_dates_are_those_of_numpy() -> None:
    seconds = np.arange(-12_000_000_000, 8_000_000_000, 7_777_777, dtype=np.int64)
    seconds = np.append(seconds, MISSING_DATE)
    found = np.asarray(DateParts(DATE_PARTS)(seconds.reshape(-1, 1)))
    np.testing.assert_array_equal(found, date_parts(seconds))


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_the_standardised_loss_is_that_of_standardised_values(loss: str) -> None:
    generator = np.random.default_rng(0)
    y, predicted = generator.normal(0, 500, (2, 8)).astype(np.float32)
    expected = keras.losses.get(loss)((y / 250).reshape(-1, 1), (predicted / 250).reshape(-1, 1))
    found = StandardizedLoss(loss, 250.0)(y, predicted.reshape(-1, 1))
    assert float(found) == pytest.approx(float(np.mean(expected)), rel=1e-5)


def test_a_constant_target_of_the_training_split_is_an_error(columns: Columns) -> None:
    with pytest.raises(DataError, match="constant in the training split"):
        tabular_model(columns, np.full(5, 3.0), None, optimizer=keras.optimizers.SGD())


def test_categories_alone_are_a_model() -> None:
    only = Columns(columns=(Column(name="c", kind="category", values=("a", "b")),))
    task = ClassificationTask(kind="multiclass", num_classes=3, encoding="sparse")
    for kind in ("mlp", "wide-deep"):
        model = tabular_model(only, np.arange(3), task, optimizer=keras.optimizers.SGD(), kind=kind)
        assert model(np.array([[2.0]], np.float32)).shape == (1, 3)


def test_adam_of_embeddings_sums_the_gradient_of_a_code_first() -> None:
    codes, targets = np.array([[1], [1], [0]], np.float32), np.array([[1.0], [-2.0], [4.0]], np.float32)
    model = keras.Sequential([keras.Input((1,)), CodeEmbedding(3, 1, embeddings_initializer="zeros")])
    model.compile(keras.optimizers.Adam(0.1, beta_1=0.0, beta_2=0.9), "mse")
    annlib.fit(model, codes, targets, batch_size=3, epochs=2, verbose=0)
    # The mean squared error's gradient of each code; Kingma and Ba, 2015, algorithm 1, with epsilon 1e-7.
    weights, moment = np.zeros(3), np.zeros(3)
    for step in (1, 2):
        gradient = np.zeros(3)
        for code, target in zip([1, 1, 0], targets[:, 0], strict=True):
            gradient[code] += 2 * (weights[code] - target) / 3
        moment = 0.9 * moment + 0.1 * gradient**2
        weights -= 0.1 * gradient / (np.sqrt(moment / (1 - 0.9**step)) + 1e-7)
    np.testing.assert_allclose(model.get_weights()[0][:, 0], weights, rtol=1e-5)
