"""The first pass over a streamed table: the target's kind, the columns' statistics, and which row is in which split."""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annlib.data.column_statistics import ColumnStatistics
from annlib.data.columns import Columns
from annlib.data.conversion import OneKind, kind_of
from annlib.data.dataset import Task
from annlib.data.own_table.checks import (
    check_leakage,
    check_sums_of_weights,
    check_type,
    check_weights,
    left_out,
    other_names,
)
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.hints import RowCount, notes_on
from annlib.data.own_table.scanning import TableScan
from annlib.data.own_table.splitting import SPLITS, check_num_rows, check_split_sizes, split_numbers
from annlib.data.own_table.target import Target, TargetColumn, check_resolution, find_target
from annlib.errors import DataError

# Rows, all over the table, by which leaks are found.
_SURVEY_ROWS = 100_000
# Of wide rows there are fewer.
_SURVEY_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is known of a prepared table beside its rows."""

    columns: Columns
    task: Task
    class_names: tuple[str, ...] | None
    y_moments: tuple[float, float] | None
    notes: tuple[str, ...]


class Survey:
    """The first pass: all that is to be known before rows can be encoded.

    Raises:
        DataError: the table cannot be trained on.
    """

    def __init__(self, scan: TableScan, config: TableConfig) -> None:
        self._scan, self._config = scan, config
        self._features = [name for name in scan.schema.names if name not in other_names(config)]
        kinds = {name: check_type(scan.schema.field(name), scan.num_rows) for name in self._features}
        if config.split is None:
            check_num_rows(scan.num_rows)
        self._statistics = ColumnStatistics(kinds)
        self._row_count = RowCount(pa.schema([scan.schema.field(name) for name in self._features]))
        # Of a regression.
        self._target_moments = ColumnStatistics(
            {name: "number" for name in config.target if kind_of(scan.schema.field(name).type) == "number"}
        )
        self._one_kind = [OneKind(name, is_target=name in config.target) for name in (*self._features, *config.target)]
        self._targets = [TargetColumn(name) for name in config.target]
        self.sizes = np.zeros(len(SPLITS), np.int64)
        self.weight_sums = np.zeros(len(SPLITS))
        self.target: Target
        # Every row of a multiple of this is in the sample.
        stride = -(-scan.num_rows // _SURVEY_ROWS)
        sample: list[pa.Table] = []
        for first, chunk, splits in split_chunks(scan, config):
            with _rows_named(first, len(chunk), scan.num_rows):
                self._update(chunk, splits)
            sample.append(chunk.take(np.arange(-first % stride, len(chunk), stride)))
            while sum(part.nbytes for part in sample) > _SURVEY_BYTES and sum(map(len, sample)) > 1:
                both = pa.concat_tables(sample)
                sample, stride = [both.take(np.arange(0, len(both), 2))], 2 * stride
        self._sample = pa.concat_tables(sample).combine_chunks()

    def _update(self, chunk: pa.Table, splits: npt.NDArray[np.int8]) -> None:
        self.sizes += np.bincount(splits, minlength=len(SPLITS))
        for target in self._targets:
            target.update(chunk[target.name])
        for column in self._one_kind:
            column.update(chunk[column.name])
        self._target_moments.update(chunk, splits == 0)
        self._statistics.update(chunk, splits == 0)
        self._row_count.update(chunk)
        if self._config.weight is not None:
            weights = check_weights(chunk[self._config.weight], self._config.weight)
            self.weight_sums += np.bincount(splits, weights, minlength=len(SPLITS))

    def result(self) -> Prepared:
        """Decides about target and columns."""
        config = self._config
        for column in self._one_kind:
            column.check()
        self.target = find_target(self._targets, config.task)
        notes = check_leakage(self._sample.select(self._features), self._sample, config)
        check_split_sizes(self.sizes.tolist(), config.split)
        if config.weight is not None:
            check_sums_of_weights(self.weight_sums.tolist(), self.sizes.tolist(), config.weight)
        y_moments = self._y_moments()
        if y_moments is not None:
            check_resolution(self.target, *y_moments)
        columns, useless = self._statistics.result()
        notes += left_out(columns, useless, config)
        notes += notes_on(self._scan.found, self._sample, self._row_count, config)
        return Prepared(
            columns=columns,
            task=self.target.task,
            class_names=self.target.class_names,
            y_moments=y_moments,
            notes=(self.target.note, *notes),
        )

    def _y_moments(self) -> tuple[float, float] | None:
        fitted = self._target_moments.result()[0].columns
        if self.target.task != "regression" or not fitted:
            return None
        return fitted[0].means[0], fitted[0].scales[0]


def split_chunks(scan: TableScan, config: TableConfig) -> Iterator[tuple[int, pa.Table, npt.NDArray[np.int8]]]:
    """Yields the number of the first row from 0 on, rows, and the number of each row's split in `SPLITS`."""
    generator = np.random.default_rng(config.split_seed)
    ends = np.array([1 - config.validation_fraction - config.test_fraction, 1 - config.test_fraction])
    first = 0
    for chunk in scan.chunks():
        if config.split is None:
            # The same for chunks of any size.
            splits = np.searchsorted(ends, generator.random(len(chunk)), side="right").astype(np.int8)
        else:
            with _rows_named(first, len(chunk), scan.num_rows):
                splits = split_numbers(chunk[config.split], config.split)
        yield first, chunk, splits
        first += len(chunk)


@contextlib.contextmanager
def _rows_named(first: int, num_rows: int, num_all: int) -> Iterator[None]:
    """Says in an error which rows it counts in."""
    try:
        yield
    except DataError as error:
        if num_rows == num_all:
            raise
        raise DataError(f"rows {first + 1:,} to {first + num_rows:,} of {num_all:,}: {error}") from None
