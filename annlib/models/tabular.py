"""Models of tables: an MLP or Wide & Deep of encoded columns, and the model of raw rows around it.

Sources: A. Géron, Hands-On Machine Learning, chapter 10, tables 10-1 and 10-2; Cheng et al., Wide & Deep Learning for
Recommender Systems, 2016.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from annlib.data.columns import Columns
from annlib.errors import DataError
from annlib.models.mlp import check_hidden, hidden_layers, regression_metrics
from annlib.models.tabular_layers import (
    CodeEmbedding,
    DateParts,
    JoinColumns,
    OneHotColumns,
    SelectColumns,
    StandardizeColumns,
    StandardizedLoss,
)
from annlib.models.targets import ClassificationTask

MOST_DIMENSIONS = 32
# Of the layers around, which stand beside inputs with the names of columns.
_PREFIX = "annlib_"
_CORE = f"{_PREFIX}core"


def embedding_dimensions(num_codes: int) -> int:
    """Returns the length of a category's embedding: the square root of its codes, at most `MOST_DIMENSIONS`."""
    return min(MOST_DIMENSIONS, math.ceil(math.sqrt(num_codes)))


def tabular_model(
    columns: Columns,
    y: npt.NDArray[Any],
    task: ClassificationTask | None,
    *,
    optimizer: keras.optimizers.Optimizer,
    kind: Literal["mlp", "wide-deep"] = "mlp",
    hidden: Sequence[int] = (50, 50, 50),
    hidden_activation: str = "relu",
    loss: str = "mse",
    y_moments: tuple[float, float] | None = None,
) -> keras.Model:
    """Returns the compiled model of encoded columns, as `annlib.data.encoding.encode` makes them.

    An MLP gets numbers, one-hot categories, and embeddings of those with many values. Wide & Deep brings numbers and
    one-hot categories straight to the output, numbers and embeddings of all categories through the hidden layers.

    Args:
        columns: the fitted columns.
        y: targets of the training split, shape (n,) of a regression, of which mean and deviation are taken.
        task: of a classification; None is a regression.
        optimizer: a new Keras optimizer.
        kind: which model.
        hidden: neurons of each hidden layer.
        hidden_activation: name of a Keras activation.
        loss: of a regression, in standard deviations of the target: "mse", "mae" or "huber".
        y_moments: mean and standard deviation over the training split, where y is a sample of it.

    Returns:
        A model of float32, shape (batch, len(columns.encoded_names)), to probabilities or to the target in its unit.

    Raises:
        ConfigError: `hidden` is impossible.
        DataError: the target of a regression is constant.
    """
    check_hidden(hidden)
    encoded = keras.Input((len(columns.encoded_names),), name="columns")
    numbers, one_hot, embedded, all_embedded = _parts(encoded, columns, embed_all=kind == "wide-deep")
    deep = _join([*numbers, *all_embedded] if kind == "wide-deep" else [*numbers, *one_hot, *embedded])
    for layer in hidden_layers(hidden, hidden_activation):
        deep = layer(deep)
    last = _join([*numbers, *one_hot, deep]) if kind == "wide-deep" else deep
    # Of mixed precision, too, so that the loss does not lose digits.
    dtype = keras.config.floatx()
    if task is not None:
        output = keras.layers.Dense(task.num_outputs, activation=task.output_activation, name="output", dtype=dtype)(
            last
        )
        model = keras.Model(encoded, output, name=_CORE)
        model.compile(optimizer=optimizer, loss=task.loss, metrics=[task.metric])
        return model
    mean, scale = y_moments or (float(np.mean(y, dtype=np.float64)), float(np.std(y, dtype=np.float64)))
    if not scale > 0:
        raise DataError(
            f"the target is constant in the training split: expected values that differ, received {mean:g} in all "
            f"{len(y):,} rows. Take another --split-seed, or more rows."
        )
    output = keras.layers.Dense(1, name="output", dtype=dtype)(last)
    output = keras.layers.Rescaling(scale, offset=mean, name="in_the_unit_of_the_target", dtype=dtype)(output)
    model = keras.Model(encoded, output, name=_CORE)
    model.compile(optimizer=optimizer, loss=StandardizedLoss(loss, scale), metrics=regression_metrics())
    return model


def raw_model(core: keras.Model, columns: Columns, *, compiled: keras.Model) -> keras.Model:
    """Returns the model of raw rows around the uncompiled model of encoded columns.

    It takes a dict of raw columns by `input_names`, each of shape (batch, 1) or (batch,): numbers and booleans as
    float64, NaN for a missing one; categories as strings, "" for a missing one; dates as int64, whole seconds since
    1970-01-01, the least int64 for a missing one.

    Args:
        core: an uncompiled copy of the trained model.
        columns: the fitted columns.
        compiled: the trained model, whose loss, metrics and state of the optimizer the model gets.
    """
    inputs, numbers, codes = {}, [], []
    for index, (name, column) in enumerate(zip(input_names(columns), columns.columns, strict=True)):
        dtype = {"category": "string", "date": "int64"}.get(column.kind, "float64")
        inputs[name] = raw = keras.Input((1,), dtype=dtype, name=name)
        if column.kind == "category":
            known = [*([""] if column.has_missing else []), *column.values]
            unknown = "[UNK]"
            while unknown in known:
                unknown = f"[{unknown}]"
            lookup = keras.layers.StringLookup(
                vocabulary=known, num_oov_indices=1, oov_token=unknown, name=f"{_PREFIX}code_{index}"
            )
            codes.append(lookup(raw))
        elif column.kind == "date":
            numbers.append(DateParts(column.parts, name=f"{_PREFIX}parts_{index}")(raw))
        else:
            numbers.append(raw)
    means = [mean for column in columns.columns for mean in column.means]
    scales = [scale for column in columns.columns for scale in column.scales]
    parts = list(codes)
    if numbers:
        joined = JoinColumns("float64", name=f"{_PREFIX}numbers")(numbers)
        parts.insert(0, StandardizeColumns(means, scales, name=f"{_PREFIX}standardize")(joined))
    encoded = JoinColumns("float32", name=f"{_PREFIX}encoded")(parts)
    model = keras.Model(inputs, core(encoded), name="raw_table")
    model.compile_from_config(compiled.get_compile_config())
    for variable, trained in zip(model.optimizer.variables, compiled.optimizer.variables, strict=True):
        variable.assign(trained.numpy())
    return model


def input_names(columns: Columns) -> list[str]:
    """Returns the name of each input of the model of raw rows: the column's, or `annlib_column_<number>`.

    That is where Keras objects: it allows no slash, no empty name, and none of another layer.
    """
    names = enumerate(columns.raw_names)
    return [
        f"{_PREFIX}column_{index}" if not name or "/" in name or name.startswith(_PREFIX) else name
        for index, name in names
    ]


def core_of(model: keras.Model) -> keras.Model:
    """Returns the model of encoded columns inside what `raw_model` returned, compiled if that is."""
    core = model.get_layer(_CORE)
    if model.compiled:
        core.compile_from_config(model.get_compile_config())
    return core


def _parts(encoded: Any, columns: Columns, *, embed_all: bool) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Returns numbers, one-hot, embeddings of categories with many values, embeddings of all categories."""
    first = columns.num_numbers
    numbers = [SelectColumns(0, first, name="numbers")(encoded)] if first else []
    small = [index for index, column in enumerate(columns.categories) if not column.is_embedded]
    one_hot = []
    if small:
        sizes = [columns.categories[index].num_codes for index in small]
        one_hot = [OneHotColumns([first + index for index in small], sizes, name="one_hot")(encoded)]
    embedded, all_embedded = [], []
    for index, column in enumerate(columns.categories):
        if not (column.is_embedded or embed_all):
            continue
        layer = CodeEmbedding(column.num_codes, embedding_dimensions(column.num_codes))
        codes = SelectColumns(first + index, first + index + 1, name=f"codes_{index}")(encoded)
        vectors = layer(codes)
        all_embedded.append(vectors)
        if column.is_embedded:
            embedded.append(vectors)
    return numbers, one_hot, embedded, all_embedded


def _join(parts: list[Any]) -> Any:
    return keras.layers.concatenate(parts) if len(parts) > 1 else parts[0]
