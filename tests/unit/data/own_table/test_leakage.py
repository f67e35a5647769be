"""Features that tell the target, by what they hold."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from annlib.data.own_table.leakage import tells_target

VALUES = np.random.default_rng(0).normal(size=50)


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-200, 1.0, 1e30])
@pytest.mark.parametrize(
    ("function", "is_linear"), [(lambda x: 1 - 3 * x, True), (np.square, False)], ids=["linear", "square"]
)
def test_another_unit_is_found_in_numbers_of_any_size(
    function: Callable[[np.ndarray], np.ndarray], is_linear: bool, scale: float, recwarn: pytest.WarningsRecorder
) -> None:
    feature, target = pa.chunked_array([VALUES * scale]), pa.chunked_array([function(VALUES)])
    # The smallest number there is, times something, is that number or the next ones: no copy of anything.
    found = is_linear and scale != 5e-324
    assert tells_target(feature, target) == ("is the target in another unit" if found else None)
    assert not recwarn.list
