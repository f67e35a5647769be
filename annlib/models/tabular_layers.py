"""Layers and the loss that models of tables need beside Keras' own; registered, so that saved models load."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from annlib.data.columns import DATE_PARTS, MISSING_DATE

_SECONDS_A_DAY = 86_400


@keras.saving.register_keras_serializable("annlib")
class OneHotColumns(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """One-hot of several columns of codes side by side; code 0, an unseen value, is all zeros.

    Args:
        columns: where the codes stand in the array.
        num_codes: codes of each of these columns, 0 included, 2 or more.

    Args of the call: shape (batch, n); gives shape (batch, sum of num_codes - 1).
    """

    def __init__(self, columns: Sequence[int], num_codes: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.columns, self.num_codes = tuple(columns), tuple(num_codes)
        self._columns = np.repeat(np.array(self.columns), np.array(self.num_codes) - 1)
        self._codes = np.concatenate([np.arange(1, number) for number in self.num_codes])

    def call(self, encoded: Any) -> Any:
        """Returns the one-hot of each column."""
        spread = keras.ops.take(encoded, self._columns, axis=1)
        return keras.ops.cast(keras.ops.equal(spread, keras.ops.cast(self._codes, encoded.dtype)), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "columns": list(self.columns), "num_codes": list(self.num_codes)}


@keras.saving.register_keras_serializable("annlib")
class SelectColumns(keras.layers.Layer):  # type: ignore[misc]
    """The columns from `first` to before `last`.

    Args of the call: shape (batch, n); gives shape (batch, last - first).
    """

    def __init__(self, first: int, last: int, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.last = first, last

    def call(self, encoded: Any) -> Any:
        """Returns the columns."""
        return encoded[:, self.first : self.last]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "first": self.first, "last": self.last}


@keras.saving.register_keras_serializable("annlib")
class CodeEmbedding(keras.layers.Embedding):  # type: ignore[misc]
    """An embedding whose gradient is dense.

    Of a sparse one, Keras 3.15's optimizers square the rows of one code before they add them up, and several workers
    exchange a row for each sample, not for each code.

    Args of the call: codes, shape (batch, 1); gives shape (batch, output_dim).
    """

    def call(self, codes: Any) -> Any:
        """Returns the vector of each code."""
        # The gradient of a product is dense.
        table = keras.ops.multiply(self.embeddings, 1.0)
        return keras.ops.take(table, keras.ops.cast(codes[:, 0], "int32"), axis=0)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the vectors."""
        return (input_shape[0], self.output_dim)


@keras.saving.register_keras_serializable("annlib")
class JoinColumns(keras.layers.Layer):  # type: ignore[misc]
    """Columns side by side, all of the type `to`.

    Args of the call: a list of shapes (batch, n_i) of any numeric types; gives shape (batch, sum of n_i).
    """

    def __init__(self, to: str, **options: Any) -> None:
        super().__init__(autocast=False, **options)
        self.to = to

    def call(self, parts: Any) -> Any:
        """Returns the array."""
        return keras.ops.concatenate([keras.ops.cast(part, self.to) for part in parts], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**_without_autocast(super().get_config()), "to": self.to}


def _without_autocast(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "autocast"}


@keras.saving.register_keras_serializable("annlib")
class StandardizeColumns(keras.layers.Layer):  # type: ignore[misc]
    """(x - mean) / scale in float64, then float32; a missing number, NaN, becomes the mean.

    Args:
        means: mean of each column.
        scales: standard deviation of each column, positive.

    Args of the call: shape (batch, len(means)).
    """

    def __init__(self, means: Sequence[float], scales: Sequence[float], **options: Any) -> None:
        super().__init__(autocast=False, **options)
        self.means, self.scales = tuple(means), tuple(scales)

    def call(self, numbers: Any) -> Any:
        """Returns the standardised numbers."""
        means, scales = (keras.ops.convert_to_tensor(values, "float64") for values in (self.means, self.scales))
        standardized = (keras.ops.cast(numbers, "float64") - means) / scales
        filled = keras.ops.where(keras.ops.isnan(standardized), keras.ops.zeros_like(standardized), standardized)
        return keras.ops.cast(filled, "float32")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**_without_autocast(super().get_config()), "means": list(self.means), "scales": list(self.scales)}


@keras.saving.register_keras_serializable("annlib")
class DateParts(keras.layers.Layer):  # type: ignore[misc]
    """Parts of a date in the proleptic Gregorian calendar, UTC; NaN for a missing date, the least int64.

    Source: H. Hinnant, chrono-Compatible Low-Level Date Algorithms, `civil_from_days`.

    Args:
        parts: some of `annlib.data.columns.DATE_PARTS`; Monday is weekday 0.

    Args of the call: whole seconds since 1970-01-01, int64, shape (batch, 1); gives float64, (batch, len(parts)).
    """

    def __init__(self, parts: Sequence[str], **options: Any) -> None:
        super().__init__(autocast=False, **options)
        self.parts = tuple(parts)

    def call(self, seconds: Any) -> Any:
        """Returns the parts."""
        ops = keras.ops
        is_missing = ops.equal(seconds, MISSING_DATE)
        seconds = ops.where(is_missing, ops.zeros_like(seconds), seconds)
        days = seconds // _SECONDS_A_DAY
        # From 1 March of the year 0 on, in eras of 400 years; a year begins in March, so that a leap day is its last.
        shifted = days + 719_468
        era = shifted // 146_097
        day_of_era = shifted - era * 146_097
        year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
        day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
        month_from_march = (5 * day_of_year + 2) // 153
        month = month_from_march + 3 - 12 * ops.cast(month_from_march >= 10, "int64")
        found = {
            "year": year_of_era + era * 400 + ops.cast(month <= 2, "int64"),
            "month": month,
            "day": day_of_year - (153 * month_from_march + 2) // 5 + 1,
            "weekday": (days + 3) % 7,
            "hour": (seconds - days * _SECONDS_A_DAY) // 3_600,
        }
        columns = [ops.cast(found[part], "float64") for part in DATE_PARTS if part in self.parts]
        parts = ops.concatenate(columns, axis=-1)
        return ops.where(is_missing, ops.full_like(parts, np.nan), parts)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**_without_autocast(super().get_config()), "parts": list(self.parts)}


@keras.saving.register_keras_serializable("annlib")
class StandardizedLoss(keras.losses.Loss):  # type: ignore[misc]
    """A loss of targets and predictions divided by a scale, so that learning does not depend on the target's unit.

    Args:
        loss: name of a Keras loss.
        scale: standard deviation of the target, positive, in its unit.
    """

    def __init__(self, loss: str, scale: float, name: str = "standardized_loss", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.loss, self.scale = loss, scale
        self._function = keras.losses.get(loss)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each sample, shape (batch,)."""
        predicted = keras.ops.convert_to_tensor(y_pred)
        true = keras.ops.reshape(keras.ops.cast(y_true, predicted.dtype), keras.ops.shape(predicted))
        return self._function((true - predicted) / self.scale, keras.ops.zeros_like(predicted))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "loss": self.loss, "scale": self.scale}
