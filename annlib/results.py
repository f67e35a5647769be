"""What a person looks at after a run: pictures, TensorBoard's images and hyperparameters, the report."""

import importlib
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from annlib.artifacts import RunDirectory
from annlib.config import RunConfig
from annlib.data import Dataset
from annlib.signature import Signature
from annlib.training.workload import Workload

# As many as in the book's figure.
_NUM_SAMPLES = 40
# Of more labels nobody looks at all matrices.
_MOST_LABELS = 9
# Columns of TensorBoard's table of runs.
_HYPERPARAMETERS = (
    "workload",
    "epochs",
    "global_batch_size",
    "learning_rate",
    "learning_rate_schedule",
    "hidden",
    "activation",
    "optimizer",
    "early_stopping_patience",
    "reduce_lr_patience",
    "precision",
    "seed",
    "num_workers",
)

logger = logging.getLogger(__name__)


def import_ahead() -> None:
    """Imports what draws and writes, in a thread: seconds that the training hides."""

    def run() -> None:
        for name in ("annlib.reporting.plots", "matplotlib.backends.backend_agg", "tensorboard.util.tensor_util"):
            importlib.import_module(name)

    threading.Thread(target=run, name="import-ahead", daemon=True).start()


def draw_pictures(run: RunDirectory, config: RunConfig, workload: Workload) -> dict[str, Path]:
    """Draws the pictures of a trained run from its history and its predictions for the test split.

    Returns:
        The path of each picture in `pictures/`, by name.

    Raises:
        DataError: the data cannot be found any more.
        StorageError: a picture cannot be written.
    """
    from annlib.reporting.plots import plot_learning_curves

    # What Ray workers left on an object store comes without empty directories.
    run.pictures.mkdir(exist_ok=True)
    plot_learning_curves(run.read_history(), run.learning_curves, title=f"{config.workload}: {config.name}")
    data = workload.load(config)
    signature = Signature.read(run.signature)
    outputs = np.load(run.predictions, allow_pickle=False)
    if data.class_names is None:
        _draw_regression(data, outputs, run.pictures)
    else:
        _draw_classification(data, data.class_names, outputs, signature, run.pictures)
    return {path.stem: path for path in sorted(run.pictures.glob("*.png"))}


def write_tensorboard(
    run: RunDirectory, config: RunConfig, pictures: Mapping[str, Path], metrics: Mapping[str, Any]
) -> None:
    """Writes the pictures and the hyperparameters with the final metrics for TensorBoard."""
    from annlib.reporting.tensorboard import write_hparams, write_pictures

    write_pictures(run.tensorboard / "pictures", pictures)
    values = config.model_dump(mode="json", include=set(_HYPERPARAMETERS))
    values |= {name: str(value) for name, value in config.identity.items()}
    hparams = {name: value for name, value in values.items() if value is not None}
    finals = {f"test/{name}": value for name, value in metrics["test"].items()}
    write_hparams(run.tensorboard / "hparams", hparams=hparams, metrics=finals, run_name=config.name)


def _draw_classification(
    data: Dataset, class_names: tuple[str, ...], outputs: npt.NDArray[Any], signature: Signature, directory: Path
) -> None:
    from annlib.reporting.plots import plot_confusion_matrix, plot_samples, plot_worst_mistakes

    if signature.output == "labels":
        _draw_labels(data, class_names, signature.labels(outputs), directory)
        return
    predicted, _ = signature.classify(outputs)
    plot_confusion_matrix(data.test.y, predicted, class_names, directory / "confusion_matrix.png")
    if data.test.x.ndim < 3:
        return
    # The digits have 17 shades of grey, not 256.
    white = float(data.train.x.max())
    first = slice(_NUM_SAMPLES)
    plot_samples(data.train.x[first] / white, data.train.y[first], class_names, directory / "samples.png")
    if signature.output == "probabilities":
        images = (data.test.x / white).astype(np.float32)
        plot_worst_mistakes(images, data.test.y, outputs, class_names, directory / "worst_mistakes.png")


def _draw_labels(data: Dataset, names: tuple[str, ...], predicted: npt.NDArray[np.int64], directory: Path) -> None:
    from annlib.reporting.plots import plot_confusion_matrix

    for index, name in list(enumerate(names))[:_MOST_LABELS]:
        path = directory / f"confusion_matrix_{index + 1}.png"
        truth, found = data.test.y[:, index], predicted[:, index]
        title = f"{name}: accuracy {np.mean(truth == found):.4f}"
        plot_confusion_matrix(truth, found, ("no", "yes"), path, title=title)


def _draw_regression(data: Dataset, outputs: npt.NDArray[Any], directory: Path) -> None:
    from annlib.reporting.plots import plot_predicted_against_true, plot_residuals

    names = None if data.target_name is None else (data.target_name,)
    for plot, name in ((plot_predicted_against_true, "predicted_against_true"), (plot_residuals, "residuals")):
        plot(data.test.y, outputs, directory / f"{name}.png", unit=data.target_unit, target_names=names)
