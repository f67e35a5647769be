"""The figures of a finished run on one of its splits, as a plain dict and as tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table

import annlib
from annlib.artifacts import RunDirectory
from annlib.config import RunConfig
from annlib.data import Split
from annlib.data.own_table.config import TableConfig
from annlib.errors import CheckpointError, ConfigError
from annlib.loading import import_keras, load_core, read_config
from annlib.reporting.wording import number_text
from annlib.signature import Signature
from annlib.storage import check_storage
from annlib.workloads import find

if TYPE_CHECKING:
    import keras

SplitName = Literal["train", "validation", "test"]
Figures = dict[str, Any]
# Shown where they are wrong.
_NUM_CLASSES = 10


def evaluate_run(
    run: RunDirectory, *, split: SplitName = "test", data_dir: Path | None = None, table: str | None = None
) -> Figures:
    """Evaluates the model of a finished run.

    Args:
        run: a finished run.
        split: the part of the data to look at.
        data_dir: directory with the raw data files; None takes the run's own.
        table: of a run on a table, where that is now, as `--data` of the training; None takes the run's own.

    Returns:
        {"run", "workload", "split", "num_samples", "num_in_figures", "metrics": {name: value}}, the latter as in
        `metrics.json`, and the figures of `classification_figures`, of two classes with "roc_auc", or of
        `regression_figures`; of a split on disk they are of so many of its samples. Every number is an int, a float or
        None.

    Raises:
        StorageError: a file of the run is missing or damaged.
        CheckpointError: the model is damaged, or does not fit the signature or the data.
        ConfigError: the workload is unknown, or is none of a table.
        DataError: the data is not found, or the model's output is not finite.
    """
    config = read_config(run, lambda name: find(name).config_class)
    workload = find(config.workload)
    signature = Signature.read(run.signature)
    data = workload.load(_with_data(config, data_dir, table))
    part = getattr(data, split)
    # Other classes may be split into other rows, and so have other columns.
    _check_classes(run, data.class_names, signature.class_names)
    if data.columns != signature.columns:
        raise CheckpointError(
            f"the data of {run.path} has changed since the training: expected the columns and values of then, received "
            "others. Give the old data, or train again under another name."
        )
    if part.x.shape[1:] != signature.input_shape:
        raise CheckpointError(
            f"the model of {run.path} does not fit the data: expected samples of shape {signature.input_shape}, "
            f"received {part.x.shape[1:]}. Train again under another name."
        )
    model, metrics = _compute_metrics(run, config, signature, part)
    outputs = annlib.predict(model, signature.model_inputs(part.x))
    figures = {
        "run": str(run.path),
        "workload": config.workload,
        "split": split,
        "num_samples": len(part),
        # Of a split on disk, the figures beside the metrics are those of a sample.
        "num_in_figures": len(part.y),
        "metrics": metrics,
    }
    if signature.output == "labels":
        labels = signature.labels(outputs)
        return {**figures, **label_figures(part.y, labels, signature.class_names or ())}
    if signature.class_names is not None:
        labels, _ = signature.classify(outputs)
        found = classification_figures(part.y, labels, signature.class_names)
        if len(signature.class_names) == 2:
            found["roc_auc"] = roc_auc(part.y, signature.output_columns(outputs)[:, -1])
        return {**figures, **found}
    predicted = signature.output_columns(outputs)
    return {**figures, **regression_figures(part.y, predicted, signature.target_name, signature.target_unit)}


def _check_classes(run: RunDirectory, found: tuple[str, ...] | None, expected: tuple[str, ...] | None) -> None:
    """Raises CheckpointError where a number stands for another class in the data than in the training."""
    # Of the last classes there may be no rows.
    if found == expected or (found and expected and found == expected[: len(found)]):
        return
    from annlib.data.conversion import examples

    shown = ["numbers" if names is None else examples(names, _NUM_CLASSES) for names in (expected, found)]
    raise CheckpointError(
        f"the data of {run.path} has other classes than in the training: expected {shown[0]}, received {shown[1]}. "
        "Give the old data, write the target as then, or train again under another name."
    )


def _with_data(config: RunConfig, data_dir: Path | None, table: str | None) -> RunConfig:
    """Returns the configuration with the data where it is now."""
    if data_dir is not None:
        config = config.model_copy(update={"data_dir": data_dir})
    if table is not None:
        if not isinstance(config, TableConfig):
            raise ConfigError(
                f"--data is where a table is: expected a run of the workload table, received one of {config.workload}. "
                "Give --data-dir."
            )
        config = config.model_copy(update={"data": check_storage(table, name="--data")})
    return config


def classification_figures(labels: npt.ArrayLike, predicted: npt.ArrayLike, class_names: Sequence[str]) -> Figures:
    """Returns accuracy, macro averages, and precision, recall, F1 and support of each class, by scikit-learn.

    A class that is never predicted has precision 0, one without samples recall 0, and F1 0 where both are 0.

    Args:
        labels: the true class of each sample, 0 to len(class_names) - 1, shape (n,) or (n, 1).
        predicted: the predicted ones.
        class_names: name of each class.

    Returns:
        {"accuracy", "macro": {"precision", "recall", "f1"}, "classes": [{"name", "precision", "recall", "f1",
        "support"}, ...]}, from 0 to 1, the support a number of samples.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    true, found = np.ravel(labels), np.ravel(predicted)
    columns = precision_recall_fscore_support(true, found, labels=range(len(class_names)), zero_division=0)
    rows = _rows(class_names, columns)
    return {"accuracy": float(accuracy_score(true, found)), "macro": _macro(rows), "classes": rows}


def roc_auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Returns the area under the ROC curve, by scikit-learn.

    It is the chance that a sample of the second class has a higher score than one of the first.

    Args:
        labels: 0 and 1, shape (n,) or (n, 1).
        scores: probability of the second class, or another score that grows with it, shape (n,).

    Returns:
        0 to 1; None where there are samples of one class only.
    """
    from sklearn.metrics import roc_auc_score

    true = np.ravel(labels)
    return float(roc_auc_score(true, scores)) if len(np.unique(true)) == 2 else None


def label_figures(labels: npt.ArrayLike, predicted: npt.ArrayLike, names: Sequence[str]) -> Figures:
    """Returns the figures of `classification_figures` for each label, by scikit-learn.

    Args:
        labels: 0 and 1, shape (n, len(names)).
        predicted: the predicted ones.
        names: name of each label.

    Returns:
        As `classification_figures`; the accuracy is the share of right labels, the support the samples that have it.
    """
    from sklearn.metrics import precision_recall_fscore_support

    true, found = np.asarray(labels), np.asarray(predicted)
    columns = precision_recall_fscore_support(true, found, zero_division=0)
    rows = _rows(names, columns)
    return {"accuracy": float(np.mean(true == found)), "macro": _macro(rows), "classes": rows}


def _rows(names: Sequence[str], columns: Sequence[npt.NDArray[Any]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
        for name, p, r, f, support in zip(names, *columns, strict=True)
    ]


def _macro(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in ("precision", "recall", "f1")}


def regression_figures(
    targets: npt.ArrayLike, predicted: npt.ArrayLike, target_name: str | None, target_unit: str | None
) -> Figures:
    """Returns the errors of a regression, by scikit-learn in float64.

    Args:
        targets: shape (n,) or (n, num_targets), in the target's unit; the errors are the means over all targets.
        predicted: of that shape and unit.
        target_name: what is predicted.
        target_unit: its unit; None where it has none.

    Returns:
        {"target", "unit", "mse", "rmse", "mae", "r2"}: the squared unit, the unit, the unit, and R², at most 1, None
        for fewer than 2 samples.
    """
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    true, found = (np.asarray(values, np.float64) for values in (targets, predicted))
    true, found = (values.reshape(len(values), -1) for values in (true, found))
    mse = float(mean_squared_error(true, found))
    return {
        "target": target_name,
        "unit": target_unit,
        "mse": mse,
        "rmse": mse**0.5,
        "mae": float(mean_absolute_error(true, found)),
        "r2": float(r2_score(true, found)) if len(true) > 1 else None,
    }


def figures_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Returns what `evaluate_run` found as tables for the terminal: the model's metrics, then the figures."""
    metrics = Table(f"{figures['split']} split, {figures['num_samples']:,} samples", "value")
    metrics.columns[1].justify = "right"
    for name, value in figures["metrics"].items():
        metrics.add_row(name, _shown(value))
    return [metrics, _class_table(figures) if "classes" in figures else _error_table(figures)]


def _class_table(figures: Mapping[str, Any]) -> Table:
    table = Table("class", "precision", "recall", "F1", "support", title=_sample_title(figures))
    for column in table.columns[1:]:
        column.justify = "right"
    for row in figures["classes"]:
        values = (_shown(row[key]) for key in ("precision", "recall", "f1"))
        table.add_row(escape(" ".join(row["name"].split())), *values, f"{row['support']:,}")
    table.add_section()
    macro = figures["macro"]
    total = f"{figures['num_in_figures']:,}"
    table.add_row("macro average", *(_shown(macro[key]) for key in ("precision", "recall", "f1")), total)
    table.add_row("accuracy", "", "", _shown(figures["accuracy"]), total)
    if "roc_auc" in figures:
        table.add_row("ROC AUC", "", "", _shown(figures["roc_auc"]), total)
    return table


def _error_table(figures: Mapping[str, Any]) -> Table:
    name = f"error of {escape(figures['target'] or 'the target')}"
    table = Table(name, "value", "unit", title=_sample_title(figures))
    table.columns[1].justify = "right"
    unit = escape(figures["unit"] or "")
    table.add_row("MSE", _shown(figures["mse"]), f"({unit})²" if unit else "")
    table.add_row("RMSE", _shown(figures["rmse"]), unit)
    table.add_row("MAE", _shown(figures["mae"]), unit)
    table.add_row("R²", _shown(figures["r2"]), "")
    return table


def _sample_title(figures: Mapping[str, Any]) -> str | None:
    num = figures["num_in_figures"]
    return None if num == figures["num_samples"] else f"of a sample of {num:,}"


def _shown(value: float | None) -> str:
    return "-" if value is None else number_text(value)


def _compute_metrics(
    run: RunDirectory, config: RunConfig, signature: Signature, part: Split
) -> tuple["keras.Model", dict[str, float]]:
    """Loads the model and computes its own metrics as after training, so that they are those of metrics.json."""
    import_keras()
    import keras

    before = keras.config.floatx()
    # What loss and metrics count in.
    keras.config.set_floatx(config.floatx)
    try:
        model = load_core(run, signature)
        from annlib.training.split_arguments import evaluate_split

        metrics = evaluate_split(model, signature, part, config)
    finally:
        keras.config.set_floatx(before)
    return model, {name: float(value) for name, value in metrics.items()}
