"""Raw columns as numbers and dates, whatever type their values came in."""

import contextlib
import datetime
import io
import itertools

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from annlib.data.columns import MISSING_DATE
from annlib.data.conversion import WrongValues, to_numbers, to_seconds


@pytest.mark.parametrize(
    "type_", [pa.float64(), pa.int64(), pa.bool_(), pa.time64("us"), pa.date32(), pa.list_(pa.int64()), pa.null()]
)
def test_a_column_without_a_value_is_all_missing_whatever_its_type(type_: pa.DataType) -> None:
    column = pa.chunked_array([pa.array([None, None], type_)])
    assert np.isnan(to_numbers("size", column)).tolist() == [True, True]
    assert to_seconds("day", column).tolist() == [MISSING_DATE] * 2


def test_not_a_number_is_no_date_of_another_kind() -> None:
    assert to_seconds("day", pa.chunked_array([[np.nan, None]])).tolist() == [MISSING_DATE] * 2
    with pytest.raises(WrongValues, match=r"expected dates, received 5\.0 in 1 of 3 rows, the first in row 2"):
        to_seconds("day", pa.chunked_array([[np.nan, 5.0, None]]))


def test_a_column_without_rows_is_taken() -> None:
    assert len(to_numbers("size", pa.chunked_array([], pa.date32()))) == 0
    assert len(to_seconds("day", pa.chunked_array([[datetime.date(2024, 1, 31)]]).slice(1))) == 0


DAYS = [
    f"{year}-{month:02}-{day:02}" for year in (1900, 2000, 2023) for month in range(14) for day in (0, *range(28, 33))
]
TIMES = ["", "T00", " 23", " 24", " 5", "t05", " 23:59", " 23:60", " 2359", " 23:59:59", " 23:59:60", " 23:59:59."]
TIMES += [" 00:00:00.1", "T00:00:00.123456789", " 00:00:00.1234567890"]
ZONES = ["", "Z", "z", " Z", "+00", "-23", "+24", "+2", "+2359", "-23:59", "+23:60", "+:30", "+00:00:00"]


def test_dates_are_those_that_arrow_reads() -> None:
    for text in (*DAYS, *map("".join, itertools.product(["2024-02-29"], TIMES, ZONES))):
        read = []
        for zone in (None, "UTC"):
            with contextlib.suppress(pa.ArrowInvalid):
                unit = "ns" if "." in text else "s"
                read.append(
                    pa.scalar(text).cast(pa.timestamp(unit, zone)).cast(pa.timestamp("s", zone), safe=False).value
                )
        taken = []
        with contextlib.suppress(WrongValues):
            taken = to_seconds("day", pa.chunked_array([[text]])).tolist()
        assert taken == read, text


NUMBERS = ["1", "-1", "+1", "1.", ".5", "+.5e-3", "1E5", "007", "1e400", "inf", "-INF", "+infinity", "infin"]
NUMBERS += ["nan", "NAN", "-Nan", "+nan(ind)", "nan(", "0x1F", "0X1f", "-0x1F", "0x", "0x1p3", "0xFFFFFFFFFFFFFFFF"]
NUMBERS += ["0x0123456789ABCDEF0", "", "+", ".", "e5", "1e", "1_0", "1,5", "- 1", "x", "true", "2024-01-01"]


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_are_those_that_arrow_reads(text: str) -> None:
    read = csv.read_csv(io.BytesIO(f'n,other\n"{text}",1\n'.encode()))["n"]
    error = None
    if pa.types.is_string(read.type) or pa.types.is_boolean(read.type) or pa.types.is_date(read.type):
        error = "expected numbers"
    elif np.isinf(read.cast(pa.float64()).fill_null(np.nan)[0].as_py()):
        error = "expected finite numbers"
    column = pa.chunked_array([[text]])
    if error is None:
        np.testing.assert_array_equal(to_numbers("n", column), read.cast(pa.float64()).to_numpy())
    else:
        with pytest.raises(WrongValues, match=error):
            to_numbers("n", column)
