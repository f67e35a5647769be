"""Workers of one node share one copy of a data set."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annlib.data import Dataset, Split
from annlib.data.blocks import BlockWriter
from annlib.data.dataset import StreamedSplit
from annlib.errors import DataError
from annlib.training.distributed import sharing


class Box:
    """A mailbox without a cluster."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {}
        self.claimed: set[str] = set()

    def claim(self, name: str) -> bool:
        is_first = name not in self.claimed
        self.claimed.add(name)
        return is_first

    def put(self, name: str, value: dict[str, Any]) -> None:
        self.values[name] = value

    def get(self, name: str) -> dict[str, Any] | None:
        return self.values.get(name)


def dataset() -> Dataset:
    generator = np.random.default_rng(3)

    def split(n: int) -> Split:
        return Split(
            x=generator.integers(0, 256, (n, 5, 3)).astype(np.uint8),
            y=generator.random(n).astype(np.float32),
            weight=generator.random(n).astype(np.float32),
        )

    return Dataset(train=split(1001), validation=split(7), test=split(1), target_name="price", notes=("a", "b"))


def no_load() -> Dataset:
    raise AssertionError("loaded twice")


def load_once(box: Box, load: Callable[[], Dataset]) -> Dataset:
    return sharing.load_once(load, box, attempt=1, local_world_size=2)  # type: ignore[arg-type]


def place(box: Box) -> dict[str, Any]:
    (found,) = box.values.values()
    return found


def test_the_others_map_what_the_first_one_loaded() -> None:
    box, expected = Box(), dataset()
    first, second = load_once(box, dataset), load_once(box, no_load)
    for found in (first, second):
        assert found.fingerprint == expected.fingerprint
        assert (found.target_name, found.notes) == ("price", ("a", "b"))
        np.testing.assert_array_equal(found.train.weight, expected.train.weight)
        assert not found.train.x.flags.writeable


def test_another_process_maps_it() -> None:
    box = Box()
    first = load_once(box, dataset)
    program = f"from annlib.training.distributed.sharing import _map\nprint(_map({place(box)!r}).fingerprint)\n"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[4]
    )
    assert done.stdout.strip() == first.fingerprint


def test_the_others_wait_for_the_first_one() -> None:
    box = Box()
    found: list[Dataset] = []
    thread = threading.Thread(target=lambda: found.append(load_once(box, no_load)))

    def load() -> Dataset:
        thread.start()
        thread.join(0.3)
        assert not found
        return dataset()

    load_once(box, load)
    thread.join(30)
    assert found[0].fingerprint == dataset().fingerprint


def test_where_the_first_one_fails_the_others_do_too() -> None:
    def fail() -> Dataset:
        raise DataError("no file")

    box = Box()
    for _ in range(2):
        with pytest.raises(DataError, match="no file"):
            load_once(box, fail)


def test_where_the_first_one_is_gone_the_others_load_themselves() -> None:
    box = Box()
    load_once(box, dataset)
    place(box)["path"] = "/proc/1/fd/none"
    assert load_once(box, dataset).fingerprint == dataset().fingerprint


def test_a_worker_that_waits_too_long_loads_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "WAIT_S", 0.1)
    box = Box()
    # Of a first one that never comes to an end.
    box.claim = lambda name: False  # type: ignore[method-assign]
    assert load_once(box, dataset).fingerprint == dataset().fingerprint


def test_what_is_streamed_stays_on_disk(tmp_path: Path) -> None:
    def streamed() -> Dataset:
        whole = dataset()
        splits = {}
        for name in ("train", "validation", "test"):
            split = getattr(whole, name)
            with BlockWriter(tmp_path / name) as writer:
                writer.append(split.x, split.y, split.weight)
                blocks = writer.finish()
            splits[name] = StreamedSplit(x=split.x, y=split.y, weight=split.weight, blocks=blocks)
        return Dataset(**splits)

    box = Box()
    assert isinstance(load_once(box, streamed).train, StreamedSplit)
    assert place(box) == {}
    assert isinstance(load_once(box, streamed).train, StreamedSplit)


def test_a_worker_alone_shares_nothing() -> None:
    box = Box()
    data = dataset()
    assert sharing.load_once(lambda: data, box, attempt=1, local_world_size=1) is data  # type: ignore[arg-type]
    assert not box.values
