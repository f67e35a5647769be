"""One line for each thing that a table can have wrong: what, in which column, how many rows, examples."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from own_tables import table

from annlib.config import load_config
from annlib.data.own_table.config import TableConfig
from annlib.errors import AnnlibError, ConfigError, DataError

N = 40
CLASSES = ["a", "b"] * 20


def texts(number: int, text: str, other: Any) -> list[Any]:
    return [text] * number + [other] * (N - number)


CASES: dict[str, tuple[pd.DataFrame, dict[str, Any], list[str]]] = {
    "unknown target": (
        table(),
        {"target": "prise"},
        ["--target 'prise'", "did you mean price?", "size, colour, price"],
    ),
    "a space before the target": (
        table().rename(columns={"price": " price"}),
        {},
        ["--target 'price' is no column (did you mean ' price'?)"],
    ),
    "unknown feature": (table(), {"features": "siz"}, ["--features 'siz'", "did you mean size?"]),
    "unknown drop": (table(), {"drop": "color"}, ["--drop 'color'", "did you mean colour?"]),
    "unknown weight": (table(), {"weight": "w"}, ["--weight 'w' is no column", "expected one of size"]),
    "unknown split": (table(), {"split": "fold"}, ["--split 'fold' is no column"]),
    "target among features": (
        table(),
        {"features": "size,price"},
        ["'price' has two roles", "--target and --features"],
    ),
    "dropped target": (table(), {"drop": "price"}, ["'price' has two roles", "--target and --drop"]),
    "a target twice": (table(), {"target": "price,price"}, ["'price' has two roles"]),
    "no feature left": (table(), {"drop": "size,colour"}, ["no column is left to predict price from"]),
    "missing target": (
        table(price=[np.nan] * 4 + [1.5, 2.5] * 18),
        {},
        ["target 'price' is missing in 4 of 40 rows", "row 1, 2, 3, ..."],
    ),
    "constant target": (table(price=7), {}, ["'price' has one value only", "received 7 in all 40 rows"]),
    "one class": (table(kind="yes"), {"target": "kind"}, ["'kind' has one value only", "'yes' in all 40 rows"]),
    "target of dates": (
        table(price=pd.date_range("2020-01-01", periods=N)),
        {},
        ["target 'price' is of type", "expected numbers, booleans or texts"],
    ),
    "target of more digits than float32 has": (
        table(price=1.7e9 + np.arange(N, dtype=float)),
        {},
        ["'price' has more digits than float32 holds", "around 1.7e+09 that differ by 11.", "Subtract 17000000"],
    ),
    "target of names": (
        table(price=[f"name {i}" for i in range(N)]),
        {},
        ["'price' has 40 different values in 40 rows", "'name 0', 'name 1', 'name 2', ..."],
    ),
    "infinite target": (
        table(price=[np.inf] + [1.5, 2.5, 3.5] * 13),
        {},
        ["'price'", "expected finite numbers", "inf"],
    ),
    "text in the target": (
        table(price=["abc", "1", "2", "3"] * 10),
        {},
        ["'price' mixes numbers and other texts", "'abc' in 10 of 40 rows", "Correct or remove these rows."],
    ),
    "mixed feature": (
        table(size=["1.5"] * 37 + ["big", "huge", "big"]),
        {},
        ["'size' mixes numbers and other texts", "'big', 'huge' in 3 of 40 rows"],
    ),
    "a date that is none": (
        table(day=texts(38, "2024-01-01", "?")),
        {},
        ["'day' mixes dates without a time zone and other texts", "received '?' in 2 of 40 rows", "leave it out by"],
    ),
    "no date of the calendar": (
        table(day=["2030-02-30", "2030-03-01 10:60", None, *pd.date_range("2024-01-01", periods=37).astype(str)]),
        {},
        ["'day' mixes dates without a time zone", "'2030-02-30', '2030-03-01 10:60' in 2 of 40 rows"],
    ),
    "dates with a zone and without": (
        table(day=texts(20, "2030-01-01 10:00Z", "2030-01-01 10:00")),
        {},
        ["'day' mixes dates without a time zone and other texts", "'2030-01-01 10:00Z' in 20 of 40 rows"],
    ),
    "a date without a zone": (
        table(day=texts(39, "2030-01-01 10:00+01", "2030-01-01")),
        {},
        ["'day' mixes dates with a time zone and other texts", "'2030-01-01' in 1 of 40 rows"],
    ),
    "a mixed feature of long texts": (
        table(size=["1.5"] * 37 + ["long " * 50] * 3),
        {},
        ["received 'long long long long long long long long …' in 3 of 40 rows"],
    ),
    "infinite feature": (table(size=[np.inf, -np.inf] + [1.0, 2.0] * 19), {}, ["'size'", "inf, -inf in 2 of 40 rows"]),
    "a feature equals the target": (
        table(copy=table()["price"]),
        {},
        ["'copy' equals the target, 'price', in all 40 rows", "--drop"],
    ),
    "a feature in another unit": (
        table(cents=table()["price"] * 100 + 5),
        {},
        ["'cents' is the target in another unit"],
    ),
    "a feature under other names": (
        table(kind=CLASSES, code=[1, 2] * 20),
        {"target": "kind"},
        ["'code' corresponds to the target one to one, 'kind'", "received 1, 2"],
    ),
    "asked for a constant": (
        table(same=3),
        {"features": "size,same"},
        ["'same' of --features tells nothing", "always 3 in 24 training rows"],
    ),
    "asked for an empty column": (table(none=np.nan), {"features": "size,none"}, ["'none'", "no value at all in 24"]),
    "asked for ids": (
        table(id=[f"id{i:02d}" for i in range(N)]),
        {"features": "size,id"},
        ["'id' of --features tells nothing", "24 different texts", "names or ids"],
    ),
    "only useless columns": (table(same=3), {"drop": "size,colour"}, ["no column is left", "'same': always 3"]),
    "negative weights": (table(w=[-1.0, -2.0] + [1.0] * 38), {"weight": "w"}, ["'w' is negative in 2 of 40", "-1, -2"]),
    "missing weights": (table(w=[np.nan] + [1.0] * 39), {"weight": "w"}, ["'w' is missing in 1 of 40 rows", "row 1"]),
    "weights of text": (table(w="heavy"), {"weight": "w"}, ["'w' has values of another kind", "'heavy' in 40 of 40"]),
    "weights of 0": (table(w=0), {"weight": "w"}, ["'w' is 0 in all 24 rows of the train split"]),
    "wrong splits": (
        table(fold=texts(3, "holdout", "train")),
        {"split": "fold"},
        ["'fold' has other values in 3 of 40 rows", "train, validation, test", "'holdout'"],
    ),
    "splits by number": (table(fold=[0, 1] * 20), {"split": "fold"}, ["'fold' is of type int64", "received 0, 1"]),
    "empty split": (table(fold=texts(9, "test", "train")), {"split": "fold"}, ["leaves validation empty", "0 of 40"]),
    "a class that is not trained": (
        table(kind=texts(4, "a", "b"), fold=["test", "validation"] * 2 + ["train"] * 34 + ["test", "validation"]),
        {"target": "kind", "split": "fold"},
        ["cannot teach 'a' of target kind", "34 training rows. Mark rows of it as train."],
    ),
    "a label that is not drawn": (
        table(l1=texts(1, 1, 0), l2=[0, 1] * 20),
        {"target": "l1,l2", "split_seed": 5},
        ["cannot teach 'l1' of target l1, l2", "training rows. Add rows, or take another --split-seed."],
    ),
    "too few rows": (table(9), {}, ["too few rows: expected 10 or more", "received 9"]),
    "a class of one row": (
        table(kind=["once"] + ["a", "b", "c"] * 13),
        {"target": "kind"},
        ["'kind' has classes of too few rows", "'once' (1)", "40 rows"],
    ),
    "regression of text": (table(kind=CLASSES), {"target": "kind", "task": "regression"}, ["regression does not fit"]),
    "binary of three": (
        table(),
        {"target": "colour", "task": "binary"},
        ["--task binary does not fit target 'colour'", "3 different values in 40 rows"],
    ),
    "multiclass of fractions": (table(), {"task": "multiclass"}, ["--task multiclass does not fit", "whole numbers"]),
    "multiclass of two": (table(kind=CLASSES), {"target": "kind", "task": "multiclass"}, ["3 or more"]),
    "multilabel of one": (table(), {"task": "multilabel"}, ["multilabel does not fit 1 target", "price"]),
    "several targets that are no labels": (table(), {"target": "price,size"}, ["'price' is no label", "0 and 1"]),
    "a label of one value": (
        table(l1=[0, 1] * 20, l2=0),
        {"target": "l1,l2"},
        ["'l2' has one value only", "0 in all 40 rows"],
    ),
    "binary of two targets": (
        table(l1=[0, 1] * 20, l2=[1, 1, 0, 0] * 10),
        {"target": "l1,l2", "task": "binary"},
        ["--task binary does not fit 2 target columns"],
    ),
}


def message_of(load: Any, *arguments: Any, **flags: Any) -> str:
    with pytest.raises(AnnlibError) as caught:
        load(*arguments, **flags)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    return message


@pytest.mark.parametrize(("frame", "flags", "parts"), CASES.values(), ids=CASES)
def test_a_bad_table_is_one_line(load: Any, frame: pd.DataFrame, flags: dict[str, Any], parts: list[str]) -> None:
    message = message_of(load, frame, **flags)
    for part in parts:
        assert part in message, message


# Rows are drawn for the training split one by one: 21 of these 40, and classes have no share of their own.
STREAMED_CASES = {
    name: (frame, flags, [part.replace("24", "21") for part in parts])
    for name, (frame, flags, parts) in CASES.items()
    if name != "a class of one row"
}


@pytest.mark.parametrize(("frame", "flags", "parts"), STREAMED_CASES.values(), ids=STREAMED_CASES)
def test_a_bad_streamed_table_is_one_line(
    load: Any, frame: pd.DataFrame, flags: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    message = message_of(load, frame, streaming=True, **flags)
    for part in parts:
        assert part in message, message
    prepared = [path.name for path in (tmp_path / "cache").glob("tables/*") if path.suffix != ".lock"]
    assert prepared == []


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([[1, 2]] * N, "list"),
        ([{"a": 1}] * N, "struct"),
        ([b"\x00"] * N, "binary"),
        ([datetime.time(1)] * N, "time64"),
        ([datetime.timedelta(1)] * N, "duration"),
    ],
    ids=["list", "struct", "binary", "time", "duration"],
)
def test_a_type_that_no_model_takes(load: Any, values: list[Any], type_: str) -> None:
    message = message_of(load, table(more=values), ending="parquet")
    assert f"column 'more' is of type {type_}" in message
    assert "--drop" in message
    assert load(table(more=values), ending="parquet", drop="more").task == "regression"


def test_decimals_are_numbers(load: Any) -> None:
    data = load(table(size=[decimal.Decimal(i) for i in range(N)]), ending="parquet")
    assert data.columns.columns[0].kind == "number"


FILES: dict[str, tuple[dict[str, str], str, list[str]]] = {
    "no file": ({}, "none.csv", ["none.csv does not exist", "a file, or a directory"]),
    "no match": ({"a.csv": "x"}, "b*.csv", ["b*.csv does not exist", "a file that matches"]),
    "another kind": ({"a.xlsx": "x"}, "a.xlsx", ["a.xlsx", "end in .csv or .parquet"]),
    "two kinds": ({"a.csv": "x", "b.parquet": "x"}, "*", ["holds CSV and Parquet"]),
    "an empty file": ({"a.csv": ""}, "a.csv", ["a.csv cannot be read", "Empty CSV"]),
    "names only": ({"a.csv": "size,price\n"}, "a.csv", ["has no rows"]),
    "a row too long": ({"a.csv": "size,price\n1,2\n1,2,3\n"}, "a.csv", ["cannot be read", "Expected 2 columns, got 3"]),
    "an open quote": (
        {"a.csv": "price,size\n" + "1,a\n" * 9 + '2,"b\n' + "3,c\n" * 900},
        "a.csv",
        ["a.csv cannot be read", "a quote \" that is not closed, before 'b\\n3,c"],
    ),
    "semicolons": ({"a.csv": "size;price\n1;2\n"}, "a.csv", ["one column, 'size;price'", "commas"]),
    "bars": ({"a.csv": "size|price\n1|2\n"}, "a.csv", ["one column, 'size|price'", "commas"]),
    "semicolons and a comma in a name": (
        {"a.csv": "size, cm;price\n1,5;2\n"},
        "a.csv",
        ["--target 'price' is no column", "or separate values by commas, where ' cm;price' is more than one name."],
    ),
    "UTF-16": (
        {"a.csv": "size,price\n1,2\n".encode("utf-16-le").decode()},
        "a.csv",
        ["NUL characters, as in 's\\x00i"],
    ),
    "a name twice": ({"a.csv": "size,size,price\n1,2,3\n"}, "a.csv", ["two columns of one name", "'size' 2 times"]),
    "other columns": (
        {"a.csv": "size,price\n1,2\n", "b.csv": "siz,price\n1,2\n"},
        "*.csv",
        ["b.csv has other columns than", "lacks 'size'"],
    ),
    "one column more": (
        {"a.csv": "size,price\n1,2\n", "b.csv": "size,price,tax\n1,2,3\n"},
        "*.csv",
        ["also has 'tax'"],
    ),
    "another type in another file": (
        {"a.csv": "size,price\n" + "1,2.5\n" * 9, "b.csv": "size,price\nbig,2\nhuge,3\n"},
        "*.csv",
        ["'size' mixes numbers and other texts", "'big', 'huge' in 2 of 11 rows"],
    ),
    "no Parquet": ({"a.parquet": "hello"}, "a.parquet", ["a.parquet cannot be read", "a Parquet file"]),
    "a directory of nothing": ({"d/a.txt": "x"}, "d", ["d holds no table", "a file, or a directory of them"]),
    "a directory of two kinds": ({"d/a.csv": "x", "d/b.parquet": "x"}, "d", ["d holds CSV and Parquet"]),
}


@pytest.mark.parametrize("streaming", [False, True], ids=["in memory", "streamed"])
@pytest.mark.parametrize(("files", "pattern", "parts"), FILES.values(), ids=FILES)
def test_a_bad_file_is_one_line(
    load: Any, tmp_path: Path, files: dict[str, str], pattern: str, parts: list[str], streaming: bool
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    message = message_of(load, tmp_path / pattern, streaming=streaming)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("streaming", [False, True], ids=["in memory", "streamed"])
def test_a_file_in_another_encoding(load: Any, tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "latin.csv").write_bytes("size,price\n1,grün\n".encode("latin-1"))
    assert "UTF" in message_of(load, tmp_path / "latin.csv", streaming=streaming)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ({"data": "ftp://host/a.csv"}, ["--data has the scheme ftp://", "s3://"]),
        ({"data": "s3:///a.csv"}, ["--data s3:///a.csv names no bucket"]),
        ({"data": "s3://key:secret@bucket/a.csv"}, ["--data holds credentials"]),
        ({"target": ""}, ["target", "at least one value"]),
        ({"validation_fraction": "0"}, ["validation_fraction", "greater than 0"]),
        ({"validation_fraction": "0.5", "test_fraction": "0.5"}, ["test_fraction", "less than 0.5"]),
        ({"split": "fold", "validation_fraction": "0.1"}, ["validation_fraction", "no value with --split", "'0.1'"]),
        ({"split": "fold", "test_fraction": "0.3"}, ["test_fraction", "no value with --split", "Correct --test-frac"]),
        ({"split": "fold", "split_seed": "7"}, ["split_seed", "no value with --split", "'7'"]),
        ({"hidden": "0"}, ["hidden", "greater than or equal to 1"]),
        ({"hidden": "many"}, ["hidden", "integer"]),
        ({"model": "tree"}, ["model", "'mlp' or 'wide-deep'"]),
        ({"task": "clustering"}, ["task", "'regression'"]),
        ({"loss": "mape"}, ["loss", "'huber'"]),
        ({"memory_limit": "1GiB"}, ["memory_limit", "1536 MiB or more", "'1GiB'"]),
        ({"memory_limit": "much"}, ["memory_limit", "expected a size such as 4GiB, received 'much'"]),
        ({"memory_limit": "4 gigs"}, ["memory_limit", "expected a size such as 4GiB, received '4 gigs'"]),
        ({"target": 2024}, ["target", "expected a text such as 'a,b' or a list such as ['a', 'b'], received 2024"]),
        ({"drop": None}, ["drop", "expected a text such as 'a,b' or a list such as ['a', 'b'], received None"]),
    ],
)
def test_a_bad_flag_is_one_line(load: Any, flags: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(table(), **flags)
    for part in parts:
        assert part in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_resolved_values_of_a_split_by_column_are_taken_again() -> None:
    values = {"workload": "table", "data": "a.csv", "target": "y", "split": "fold"}
    defaults = {"epochs": 1, "global_batch_size": 8, "learning_rate": 0.1}
    config = load_config(values, defaults=defaults, environment={}, config_class=TableConfig)
    assert TableConfig.model_validate(config.model_dump()) == config


def test_unreadable_is_no_traceback(load: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.mkdir()
    with pytest.raises(DataError):
        load(path)
