"""Fitted columns against scikit-learn and pandas; fitted on the rows that were given, in any chunks."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.preprocessing import StandardScaler

from annlib.data.column_statistics import ColumnStatistics
from annlib.data.columns import DATE_PARTS, Columns, Kind
from annlib.data.conversion import MISSING_DATE, to_seconds
from annlib.data.encoding import date_parts, encode
from annlib.errors import DataError


def frame(num_rows: int = 300) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    found = pd.DataFrame(
        {
            "number": generator.normal(1e6, 3.0, num_rows),
            "flag": generator.random(num_rows) < 0.2,
            "date": pd.Timestamp("2019-12-30") + pd.to_timedelta(generator.integers(0, 9e7, num_rows), unit="s"),
            "few": generator.choice(["a", "b", "c"], num_rows, p=[0.2, 0.5, 0.3]),
            "many": np.char.add("v", generator.integers(0, 60, num_rows).astype(str)),
        }
    )
    found.loc[::7, "number"] = np.nan
    found.loc[::11, "few"] = None
    found.loc[::13, "date"] = None
    return found


KINDS: dict[str, Kind] = {
    "number": "number",
    "flag": "boolean",
    "date": "date",
    "few": "category",
    "many": "category",
}


def arrow(rows: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(rows, preserve_index=False)


def fitted(rows: pd.DataFrame, kinds: dict[str, Kind] = KINDS) -> Columns:
    return ColumnStatistics(kinds).update(arrow(rows)).result()[0]


def test_numbers_are_those_of_scikit_learn() -> None:
    rows = frame()
    columns = fitted(rows)
    assert columns.encoded_names == ("number", "flag", *(f"date.{part}" for part in DATE_PARTS), "few", "many")
    dates = rows["date"].dt
    parts = [dates.year, dates.month, dates.day, dates.weekday, dates.hour]
    numbers = np.column_stack([rows["number"], rows["flag"], *parts]).astype(np.float64)
    scaler = StandardScaler().fit(numbers)
    # A part of a date is taken in whole units at the least.
    scaler.scale_[2:] = np.maximum(scaler.scale_[2:], 1)
    expected = np.nan_to_num(scaler.transform(numbers))
    np.testing.assert_allclose(encode(columns, arrow(rows))[:, :7], expected, atol=1e-5)


def test_codes_are_by_frequency_behind_unseen_and_missing() -> None:
    columns = fitted(frame())
    few, many = columns.categories
    assert (few.values, few.has_missing, few.num_codes) == (("b", "c", "a"), True, 5)
    assert (many.has_missing, many.is_embedded) == (False, True)
    rows = pd.DataFrame({**dict.fromkeys(KINDS, None), "few": ["a", "b", "c", None, "new", "NA", ""]})
    assert encode(columns, arrow(rows))[:, -2].tolist() == [4, 2, 3, 1, 0, 1, 1]
    # Never missing in the training: as a value that was not seen.
    assert encode(columns, arrow(rows))[:, -1].tolist() == [0] * 7


def test_rare_values_of_many_share_the_code_of_unseen_ones() -> None:
    values = [f"v{i // 2}" for i in range(40)] + ["once", "twice", "twice"]
    column = fitted(pd.DataFrame({"many": values}), {"many": "category"}).columns[0]
    assert "once" not in column.values
    assert column.values == tuple(sorted({*values} - {"once"}))


@pytest.mark.parametrize("size", [1, 7, 300])
def test_chunks_of_which_some_rows_count_give_the_same_as_those_rows(size: int) -> None:
    rows = frame()
    counts = np.random.default_rng(3).random(len(rows)) < 0.7
    statistics = ColumnStatistics(KINDS)
    for start in range(0, len(rows), size):
        statistics.update(arrow(rows[start : start + size]), counts[start : start + size])
    whole = fitted(rows[counts])
    assert statistics.num_rows == counts.sum()
    for column, expected in zip(statistics.result()[0].columns, whole.columns, strict=True):
        assert column.means == pytest.approx(expected.means, rel=1e-12)
        assert column.scales == pytest.approx(expected.scales, rel=1e-9)
        assert (column.values, column.parts) == (expected.values, expected.parts)


def test_what_tells_nothing_is_named() -> None:
    rows = pd.DataFrame(
        {
            "same": [3.0] * 20,
            "empty": [None] * 20,
            "text": ["x"] * 20,
            "id": [f"i{i}" for i in range(20)],
            "hour": pd.date_range("2024-03-01 10:00", periods=20, freq="min"),
        }
    )
    kinds: dict[str, Kind] = {
        "same": "number",
        "empty": "category",
        "text": "category",
        "id": "category",
        "hour": "date",
    }
    columns, useless = ColumnStatistics(kinds).update(arrow(rows)).result()
    assert columns.columns == ()
    assert {name: reason.split(" in 20")[0] for name, reason in useless.items()} == {
        "same": "always 3",
        "empty": "no value at all",
        "text": "always 'x'",
        "id": "20 different texts, as of names or ids ('i0', 'i1', 'i10', ...),",
        "hour": "always 2024-03-01 from 10:00 to 10:59",
    }


def test_parts_of_dates_are_those_of_pandas() -> None:
    times = pd.DatetimeIndex(
        np.array(
            ["1600-02-29T23:59:59", "1969-12-31T12:00", "1970-01-01", "2000-02-29", "2100-03-01T05:06"], "datetime64[s]"
        )
    )
    seconds = np.append(times.as_unit("s").asi8, MISSING_DATE)
    expected = np.column_stack([times.year, times.month, times.day, times.weekday, times.hour])
    np.testing.assert_array_equal(date_parts(seconds)[:-1], expected)
    assert np.isnan(date_parts(seconds)[-1]).all()


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["2024-02-29T12:00:00", "NA", " 2024-03-01 00:00:00"]),
        pd.Series(pd.to_datetime(["2024-02-29 12:00", None, "2024-03-01 00:00"])),
        pd.Series(pd.to_datetime(["2024-02-29 12:00", None, "2024-03-01 00:00"], utc=True)),
        pd.Series(["2024-02-29T12:00:00.25Z", None, "2024-03-01T00:00:00Z"]),
        pd.Series(["2024-02-29T14:30+02:30", None, "2024-02-29 19:00:00-0500"]),
        pd.Series(["2024-02-29T12:00:00-00:00", "", "2024-03-01"]),
        pd.Series(["2024-02-29 12", None, "2024-03-01T00:00+00"]),
        pd.Series(["2024-02-29 14:00:00.123456789+02", None, "2024-02-29 23-01"]),
    ],
)
def test_dates_of_any_type_are_seconds(values: Any) -> None:
    column = pa.chunked_array([pa.Array.from_pandas(values)])
    assert to_seconds("d", column).tolist() == [1709208000, MISSING_DATE, 1709251200]


@pytest.mark.parametrize(
    ("kind", "values", "parts"),
    [
        ("number", ["1", "x", "y", ""], ["'x', 'y' in 2 of 4 rows", "first in row 2"]),
        ("number", ["1", "inf"], ["finite numbers", "1 of 2 rows"]),
        ("number", ["1", "-3.5e38"], ["finite numbers up to 3.4e+38, received -3.5e+38", "1 of 2 rows"]),
        ("boolean", ["true", "maybe"], ["true or false", "'maybe'"]),
        ("date", ["2024-01-01", "01/02/2024"], ["ISO 8601", "'01/02/2024'"]),
        ("date", ["2024-02-30"], ["dates of the calendar", "'2024-02-30'"]),
        ("date", ["2023-02-29", "2024-02-29"], ["dates of the calendar", "'2023-02-29' in 1 of 2 rows"]),
        ("date", ["2024-03-01 24:00:00", "2024-03-01 00:00+24"], ["'2024-03-01 24:00:00', '2024-03-01 00:00+24' in 2"]),
        ("date", [1, 2], ["expected dates", "1, 2 in 2 of 2"]),
        ("number", pd.to_datetime(["2024-01-01"]), ["expected numbers"]),
    ],
)
def test_another_kind_of_value_is_an_error(kind: Kind, values: Any, parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        ColumnStatistics({"c": kind}).update(arrow(pd.DataFrame({"c": values})))
    for part in ["column 'c'", *parts]:
        assert part in str(caught.value)


def test_a_year_of_a_single_row_is_not_far_from_the_others() -> None:
    dates = ["2011-03-01"] * 999 + ["2010-12-31"]
    rows = pd.DataFrame({"date": pd.to_datetime(dates)})
    columns = fitted(rows, {"date": "date"})
    new = arrow(pd.DataFrame({"date": pd.to_datetime(["2012-03-01"])}))
    assert abs(encode(columns, new)[0, 0]) < 1.1
