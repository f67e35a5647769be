import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn.datasets

from annlib.data import load, preparation, sources
from annlib.errors import DataError

HOUSING = Path(__file__).resolve().parents[4] / "shared" / "data" / "cal_housing.data"
needs_housing = pytest.mark.skipif(not HOUSING.exists(), reason=f"the raw California housing file is not at {HOUSING}")


@pytest.fixture(scope="module")
def housing():
    return load("california-housing", data_dir=HOUSING.parent)


@pytest.fixture(scope="module")
def raw_housing():
    names = ["Longitude", "Latitude", "HouseAge", "rooms", "bedrooms", "Population", "households", "MedInc", "value"]
    frame = pd.read_csv(HOUSING, header=None, names=names)
    frame["AveRooms"] = frame["rooms"] / frame["households"]
    frame["AveBedrms"] = frame["bedrooms"] / frame["households"]
    frame["AveOccup"] = frame["Population"] / frame["households"]
    return frame


def rows_of_splits(num_rows):
    """Row numbers of train, validation and test as scikit-learn draws them without stratification, in NumPy alone."""

    def divide(rows):
        order = np.random.RandomState(42).permutation(len(rows))
        num_test = int(np.ceil(0.25 * len(rows)))
        return rows[order[num_test:]], rows[order[:num_test]]

    rest, test = divide(np.arange(num_rows))
    train, validation = divide(rest)
    return {"train": train, "validation": validation, "test": test}


# Names


def test_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(DataError) as error:
        load("fashion_mnist")
    message = str(error.value)
    assert message.splitlines() == [message]
    assert "did you mean 'fashion-mnist'?" in message
    assert "expected one of fashion-mnist, california-housing, digits, iris, diabetes" in message


def test_name_like_no_other_gets_no_guess():
    with pytest.raises(DataError, match="received 'cifar100'; choose one of these"):
        load("cifar100")


def test_import_is_light():
    heavy = "{'tensorflow', 'keras', 'sklearn', 'pandas', 'matplotlib', 'ray'}"
    code = f"import sys, annlib.data; print(sorted({heavy} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr


# California housing


@needs_housing
def test_housing_has_the_books_sizes_and_types(housing):
    for part, num in ((housing.train, 11_610), (housing.validation, 3_870), (housing.test, 5_160)):
        assert (part.x.shape, part.x.dtype) == ((num, 8), np.float32)
        assert (part.y.shape, part.y.dtype) == ((num,), np.float32)


@needs_housing
def test_housing_features_equal_scikit_learn(tmp_path):
    table = sources.read(preparation.raw.CALIFORNIA_HOUSING, data_dir=HOUSING.parent)["table"]
    # scikit-learn keeps the table in its own order of columns; from there on its own code computes.
    joblib.dump(table[:, [8, 7, 2, 3, 4, 5, 6, 1, 0]], tmp_path / "cal_housing_py3.pkz")
    bunch = sklearn.datasets.fetch_california_housing(data_home=tmp_path, download_if_missing=False)
    x, y = preparation.housing_features(table)
    np.testing.assert_array_equal(x, bunch.data, strict=True)
    np.testing.assert_array_equal(y, bunch.target, strict=True)
    assert tuple(bunch.feature_names) == preparation.HOUSING_FEATURES


@needs_housing
def test_housing_equals_a_computation_by_hand(housing, raw_housing):
    rows = rows_of_splits(20_640)
    train = raw_housing.loc[rows["train"], list(housing.feature_names)]
    for name, part in (("train", housing.train), ("validation", housing.validation), ("test", housing.test)):
        frame = raw_housing.loc[rows[name]]
        expected = (frame[list(housing.feature_names)] - train.mean()) / train.std(ddof=0)
        np.testing.assert_allclose(part.x, expected, rtol=2e-6, atol=2e-6)
        np.testing.assert_array_equal(part.y, (frame["value"] / 100_000).to_numpy(np.float32))


@needs_housing
def test_housing_scaler_knows_the_training_split_only(housing, raw_housing):
    columns = list(housing.feature_names)
    train = raw_housing.loc[rows_of_splits(20_640)["train"], columns]
    np.testing.assert_allclose(housing.scaler.mean, train.mean(), rtol=1e-12)
    np.testing.assert_allclose(housing.scaler.scale, train.std(ddof=0), rtol=1e-10)
    assert not np.any(np.isclose(housing.scaler.mean, raw_housing[columns].mean(), rtol=1e-6, atol=0))


@needs_housing
@pytest.mark.parametrize("form", ["CaliforniaHousing/cal_housing.data", "cal_housing.tgz"])
def test_housing_is_accepted_in_every_form(housing, archive, tmp_path, form):
    content = HOUSING.read_bytes()
    (tmp_path / form).parent.mkdir(exist_ok=True)
    if form.endswith("tgz"):
        content = archive("CaliforniaHousing/cal_housing.data", content)
    (tmp_path / form).write_bytes(content)
    assert load("california-housing", data_dir=tmp_path).fingerprint == housing.fingerprint


@needs_housing
def test_housing_is_the_same_each_time(housing):
    assert load("california-housing", data_dir=HOUSING.parent).fingerprint == housing.fingerprint


# What comes with scikit-learn


def test_digits_are_small_images():
    data = load("digits")
    assert [part.x.shape for part in (data.train, data.validation, data.test)] == [
        (1010, 8, 8),
        (337, 8, 8),
        (450, 8, 8),
    ]
    assert data.train.x.dtype == np.uint8
    assert (data.train.x.min(), data.train.x.max()) == (0, 16)
    assert data.class_names == tuple("0123456789")


@pytest.mark.parametrize("name", ["digits", "iris"])
def test_classes_are_stratified(name):
    data = load(name)
    shares = [np.bincount(part.y) / len(part) for part in (data.train, data.validation, data.test)]
    np.testing.assert_allclose(shares[1:], [shares[0]] * 2, atol=0.03)


@pytest.mark.parametrize("name", ["digits", "iris", "diabetes"])
def test_every_row_is_in_one_split(name):
    data = load(name)
    bunch = getattr(sklearn.datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    parts = [data.train, data.validation, data.test]
    x = np.concatenate([part.x.reshape(len(part), -1) for part in parts]).astype(np.float64)
    if data.scaler is not None:
        x = x * data.scaler.scale + data.scaler.mean
    ours = np.column_stack([x, np.concatenate([part.y for part in parts])]).round(3)
    theirs = np.column_stack([bunch.data, bunch.target]).round(3)
    np.testing.assert_allclose(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)], atol=2e-3)


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_training_features_are_standardised(name):
    data = load(name)
    assert data.train.x.dtype == np.float32
    np.testing.assert_allclose(data.train.x.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(data.train.x.std(axis=0, dtype=np.float64), 1, atol=1e-6)
    assert np.abs(data.test.x.mean(axis=0)).max() > 1e-3


def test_scaler_does_not_see_validation_and_test_rows(monkeypatch):
    clean = load("diabetes")
    bunch = sklearn.datasets.load_diabetes(scaled=False)
    rows = rows_of_splits(442)
    for name in ("validation", "test"):
        bunch.data[rows[name]] *= 1_000
    monkeypatch.setattr(sklearn.datasets, "load_diabetes", lambda scaled: bunch)
    poisoned = load("diabetes")
    np.testing.assert_array_equal(poisoned.scaler.mean, clean.scaler.mean)
    np.testing.assert_array_equal(poisoned.scaler.scale, clean.scaler.scale)
    np.testing.assert_array_equal(poisoned.train.x, clean.train.x)
    assert not np.array_equal(poisoned.test.x, clean.test.x)


def test_iris_splits_equal_scikit_learn():
    from sklearn.model_selection import train_test_split

    bunch = sklearn.datasets.load_iris()
    x_rest, x_test, y_rest, y_test = train_test_split(bunch.data, bunch.target, random_state=42, stratify=bunch.target)
    _, x_validation, _, y_validation = train_test_split(x_rest, y_rest, random_state=42, stratify=y_rest)
    data = load("iris")
    np.testing.assert_allclose(data.test.x, data.scaler.transform(x_test))
    np.testing.assert_array_equal(data.test.y, y_test)
    np.testing.assert_allclose(data.validation.x, data.scaler.transform(x_validation))
    np.testing.assert_array_equal(data.validation.y, y_validation)


def test_data_dir_is_not_looked_at_where_no_file_is_needed():
    assert load("iris", data_dir=Path("/does/not/exist")).name == "iris"
