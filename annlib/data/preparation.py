"""Turn raw data into a `Dataset`: split it as the book does, fit the preprocessing on the training split only."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from annlib.data import raw, sources
from annlib.data.dataset import Dataset, Split, Standardization
from annlib.errors import DataError

Array = npt.NDArray[Any]

# A. Geron, "Hands-On Machine Learning", chapter 10, uses both numbers.
NUM_VALIDATION_IMAGES = 5_000
SPLIT_SEED = 42

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
HOUSING_FEATURES = ("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude")
USD_PER_TARGET_UNIT = 100_000.0


def load(name: str, *, data_dir: Path | None = None, standardize: bool = True) -> Dataset:
    """Load a data set by its name.

    Args:
        name: `fashion-mnist`, `california-housing`, `digits`, `iris` or `diabetes`. The last three come with
            scikit-learn and need no file.
        data_dir: A directory that holds the raw files; other places are tried where it holds none of them. Data sets
            that need no file do not look at it.
        standardize: False leaves the features of a table in their units, as float32, for a model that standardises
            them itself by the moments in `scaler`. Images are never standardised.

    Raises:
        DataError: The name is unknown, or the raw files are not found, not readable or damaged.
    """
    if name not in LOADERS:
        near = difflib.get_close_matches(name, LOADERS, n=1)
        question = f"did you mean {near[0]!r}?" if near else "choose one of these"
        raise DataError(f"unknown data set; expected one of {', '.join(LOADERS)}; received {name!r}; {question}")
    return LOADERS[name](data_dir, standardize)


def _fashion_mnist(data_dir: Path | None, _: bool) -> Dataset:
    """Images uint8, shape (n, 28, 28), 0 to 255, not scaled; labels uint8, 0 to 9."""
    arrays = sources.read(raw.FASHION_MNIST, data_dir=data_dir)
    images, labels = arrays["train_images"], arrays["train_labels"]
    return Dataset(
        name="fashion-mnist",
        train=Split(x=images[NUM_VALIDATION_IMAGES:], y=labels[NUM_VALIDATION_IMAGES:]),
        validation=Split(x=images[:NUM_VALIDATION_IMAGES], y=labels[:NUM_VALIDATION_IMAGES]),
        test=Split(x=arrays["test_images"], y=arrays["test_labels"]),
        class_names=FASHION_CLASSES,
    )


def _california_housing(data_dir: Path | None, standardize: bool) -> Dataset:
    """Features float32, shape (n, 8), standardised; targets float32, shape (n,), in 100,000 dollars."""
    x, y = housing_features(sources.read(raw.CALIFORNIA_HOUSING, data_dir=data_dir)["table"])
    return _regression(
        name="california-housing",
        x=x,
        y=y,
        feature_names=HOUSING_FEATURES,
        target_name="MedHouseVal",
        target_unit="100,000 USD",
        standardize=standardize,
    )


def housing_features(table: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Derive features and target as `sklearn.datasets.fetch_california_housing` does, to the last bit.

    Args:
        table: Shape (n, 9), the columns of `raw.CALIFORNIA_HOUSING`.

    Returns:
        Features (n, 8) in the order of `HOUSING_FEATURES`, and targets (n,) in 100,000 dollars.
    """
    longitude, latitude, age, rooms, bedrooms, population, households, income, value = table.T
    features = (
        income,
        age,
        rooms / households,
        bedrooms / households,
        population,
        population / households,
        latitude,
        longitude,
    )
    return np.column_stack(features), value / USD_PER_TARGET_UNIT


def _digits(_: Path | None, __: bool) -> Dataset:
    """Images uint8, shape (n, 8, 8), 0 to 16, not scaled; labels uint8, 0 to 9."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # The values are whole numbers that scikit-learn keeps as float64.
    train, validation, test = _split(bunch.images.astype(np.uint8), bunch.target.astype(np.uint8), stratified=True)
    class_names = tuple(str(name) for name in bunch.target_names)
    return Dataset(name="digits", train=train, validation=validation, test=test, class_names=class_names)


def _iris(_: Path | None, standardize: bool) -> Dataset:
    """Features float32, shape (n, 4), standardised; labels uint8, 0 to 2."""
    from sklearn.datasets import load_iris

    bunch = load_iris()
    splits = _split(bunch.data, bunch.target.astype(np.uint8), stratified=True)
    (train, validation, test), scaler = _scale(splits, standardize)
    return Dataset(
        name="iris",
        train=train,
        validation=validation,
        test=test,
        class_names=tuple(str(name) for name in bunch.target_names),
        feature_names=tuple(bunch.feature_names),
        scaler=scaler,
    )


def _diabetes(_: Path | None, standardize: bool) -> Dataset:
    """Features float32, shape (n, 10), standardised; targets float32, shape (n,), 25 to 346, without unit."""
    from sklearn.datasets import load_diabetes

    # The scaled variant is scaled by the statistics of all rows, the test rows among them.
    bunch = load_diabetes(scaled=False)
    return _regression(
        name="diabetes",
        x=bunch.data,
        y=bunch.target,
        feature_names=tuple(bunch.feature_names),
        target_name="disease progression after one year",
        target_unit=None,
        standardize=standardize,
    )


def _regression(
    *,
    name: str,
    x: Array,
    y: Array,
    feature_names: tuple[str, ...],
    target_name: str,
    target_unit: str | None,
    standardize: bool,
) -> Dataset:
    """Split, and standardise the features by the training split. Targets keep their unit."""
    splits = _split(x, y.astype(np.float32), stratified=False)
    (train, validation, test), scaler = _scale(splits, standardize)
    return Dataset(
        name=name,
        train=train,
        validation=validation,
        test=test,
        feature_names=feature_names,
        target_name=target_name,
        target_unit=target_unit,
        scaler=scaler,
    )


def _scale(splits: tuple[Split, Split, Split], standardize: bool) -> tuple[list[Split], Standardization]:
    """Fit on the training split; return the splits as float32, standardised or in their units."""
    scaler = Standardization.fit(splits[0].x)
    convert = scaler.transform if standardize else lambda x: x.astype(np.float32)
    return [Split(x=convert(split.x), y=split.y) for split in splits], scaler


def _split(x: Array, y: Array, *, stratified: bool) -> tuple[Split, Split, Split]:
    """Take a quarter for the test, then a quarter of the rest for validation: train, validation, test."""
    class_names = tuple(str(label) for label in np.unique(y)) if stratified else None
    data = Dataset.from_arrays(x, y, class_names=class_names, seed=SPLIT_SEED)
    return data.train, data.validation, data.test


LOADERS: dict[str, Callable[[Path | None, bool], Dataset]] = {
    "fashion-mnist": _fashion_mnist,
    "california-housing": _california_housing,
    "digits": _digits,
    "iris": _iris,
    "diabetes": _diabetes,
}
