"""The same training on both sides, in this process."""

from pathlib import Path

import numpy as np
import pytest

from annlib.benchmark import streaming


def test_both_sides_train_on_the_same_samples(tmp_path: Path) -> None:
    blocks = streaming.write_samples(tmp_path, 250_000)
    assert len(blocks) == 250_000
    x, y = blocks.read([(0, len(blocks))])
    # Three parts of the generator's numbers, none of them twice.
    assert len(np.unique(x[:, 0])) > 249_000
    np.testing.assert_allclose(y, np.tanh(x[:, 0] * x[:, 1] + x[:, 2]), rtol=1e-5)
    losses = {}
    for side in streaming.SIDES:
        before, first = streaming._prepare(str(tmp_path), side)
        seconds, second = streaming._train()
        assert before > 10_000_000
        assert seconds > 0
        assert second < first
        losses[side] = first
    # In another order.
    assert losses["streamed"] == pytest.approx(losses["in memory"], rel=0.02)
    assert losses["streamed"] != losses["in memory"]
