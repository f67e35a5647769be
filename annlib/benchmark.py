"""annlib against `keras.Model.fit`: the same model, data, batch size and hyperparameters, in turn in one process."""

import concurrent.futures
import dataclasses
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annlib import data

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 32
Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Something to time.

    Args:
        load: returns (x, y), given the directory with the raw data files.
        build_model: returns a compiled model.
        annlib_epochs: epochs of one measurement of annlib, enough for one epoch's time to show.
    """

    load: Callable[[Path | None], Arrays]
    build_model: "Callable[[], keras.Model]"
    annlib_epochs: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds an epoch, one value a round, and the seconds of each side's first call, which also compiles."""

    keras_s: list[float]
    annlib_s: list[float]
    keras_warm_up_s: float
    annlib_warm_up_s: float

    @property
    def ratio(self) -> float:
        """How many times faster annlib is: the ratio of the medians."""
        return statistics.median(self.keras_s) / statistics.median(self.annlib_s)


def _load_fashion_mnist(data_dir: Path | None) -> Arrays:
    split = data.load("fashion-mnist", data_dir=data_dir).train
    return split.x, split.y


def _fashion_mnist_model() -> "keras.Model":
    import keras

    from annlib.models.mlp import classification_mlp
    from annlib.models.targets import ClassificationTask

    task = ClassificationTask(kind="multiclass", num_classes=10, encoding="sparse")
    return classification_mlp((28, 28), task, max_value=255.0, optimizer=keras.optimizers.SGD(0.01))


def _load_regression(data_dir: Path | None) -> Arrays:
    """Standard normal values in the shape of the California housing training split; their values cost no time."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(11_610, 8)).astype(np.float32), generator.normal(size=11_610).astype(np.float32)


def _regression_model() -> "keras.Model":
    import keras

    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(30, activation="relu"), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(1e-3), loss="mse")
    return model


CASES: Mapping[str, Case] = {
    "fashion-mnist": Case(load=_load_fashion_mnist, build_model=_fashion_mnist_model, annlib_epochs=2),
    "regressor": Case(load=_load_regression, build_model=_regression_model, annlib_epochs=50),
}


def measure(case: Case, *, rounds: int, data_dir: Path | None = None) -> Timing:
    """Times both sides in turn.

    Args:
        case: what to time.
        rounds: measurements of each side, 1 or more; the machine's speed drifts, so each round times both.
        data_dir: directory with the raw data files.

    Raises:
        DataError: the data cannot be found.
    """
    from annlib.training.engine import fit

    x, y = case.load(data_dir)
    keras_model, annlib_model = case.build_model(), case.build_model()

    def run_keras() -> None:
        keras_model.fit(x, y, batch_size=BATCH_SIZE, epochs=1, verbose=0)

    def run_annlib() -> None:
        fit(annlib_model, x, y, batch_size=BATCH_SIZE, epochs=case.annlib_epochs, verbose=0, seed=0)

    keras_warm_up_s, annlib_warm_up_s = _seconds(run_keras), _seconds(run_annlib)
    keras_s, annlib_s = [], []
    for _ in range(rounds):
        keras_s.append(_seconds(run_keras))
        annlib_s.append(_seconds(run_annlib) / case.annlib_epochs)
    return Timing(
        keras_s=keras_s, annlib_s=annlib_s, keras_warm_up_s=keras_warm_up_s, annlib_warm_up_s=annlib_warm_up_s
    )


def measure_peak_memory(name: str, *, data_dir: Path | None = None) -> dict[str, int]:
    """Returns the peak memory of {"keras": ..., "annlib": ...} in bytes, each in a process of its own.

    Each process loads the data and trains two epochs. Keras gets float32 arrays, as its guides prepare images; annlib
    keeps the dtype of the data.
    """
    found = {}
    for side in ("keras", "annlib"):
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as process:
            found[side] = process.submit(_peak_of, name, side, data_dir).result()
    return found


def _peak_of(name: str, side: str, data_dir: Path | None) -> int:
    from annlib.training.engine import fit

    x, y = CASES[name].load(data_dir)
    model = CASES[name].build_model()
    if side == "keras":
        model.fit(x.astype(np.float32), y, batch_size=BATCH_SIZE, epochs=2, verbose=0)
    else:
        fit(model, x, y, batch_size=BATCH_SIZE, epochs=2, verbose=0, seed=0)
    # Not `getrusage`, which counts what the parent process held before the child's own program was started.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
