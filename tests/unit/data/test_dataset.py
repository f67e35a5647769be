import dataclasses
import hashlib

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from annlib.data import Dataset, Split, Standardization
from annlib.errors import DataError


def split(num=3, *, offset=0):
    x = (np.arange(num * 4, dtype=np.float32) + offset).reshape(num, 4)
    return Split(x=x, y=np.arange(num, dtype=np.uint8))


def dataset(**changes):
    return Dataset(**{"name": "d", "train": split(), "validation": split(2), "test": split(1)} | changes)


def message_of(function, *arguments, **keywords):
    with pytest.raises(DataError) as error:
        function(*arguments, **keywords)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert "expected" in message
    assert "received" in message
    return message


def test_length_is_the_number_of_examples():
    assert len(split(3)) == 3


def test_arrays_are_read_only_and_the_callers_stay_writable():
    x = np.zeros((2, 2))
    part = Split(x=x, y=np.zeros(2))
    with pytest.raises(ValueError, match="read-only"):
        part.x[0] = 1
    x[0] = 1
    assert np.shares_memory(part.x, x)


def test_fields_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        split().x = np.zeros(3)


def test_different_lengths_are_refused():
    assert "received 3 and 2" in message_of(Split, x=np.zeros((3, 1)), y=np.zeros(2))


@pytest.mark.parametrize("empty", [np.zeros((0, 3)), np.float64(1)])
def test_no_examples_are_refused(empty):
    assert "x has no examples" in message_of(Split, x=np.asarray(empty), y=np.zeros(0))


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array([1j])])
def test_other_types_are_refused(array):
    assert f"received dtype {array.dtype}" in message_of(Split, x=np.zeros(1), y=array)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(bad):
    assert "x is not finite; expected numbers; received 1 NaN" in message_of(Split, x=np.array([1, bad]), y=np.zeros(2))


def test_splits_of_another_shape_are_refused():
    message = message_of(dataset, test=Split(x=np.zeros((1, 5), np.float32), y=np.zeros(1, np.uint8)))
    assert "test.x of d is not like the training split" in message
    assert "(4,)" in message
    assert "(5,)" in message


def test_splits_of_another_type_are_refused():
    message = message_of(dataset, validation=Split(x=np.zeros((1, 4)), y=np.zeros(1, np.uint8)))
    assert "expected float32" in message
    assert "received float64" in message


def test_labels_without_a_name_are_refused():
    assert "expected 0 to 1; received uint8 from 0 to 2" in message_of(dataset, class_names=("a", "b"))


def test_labels_with_names_pass():
    assert dataset(class_names=("a", "b", "c")).class_names == ("a", "b", "c")


# Standardization


def test_mean_and_scale_are_those_of_a_hand_computation():
    scaler = Standardization.fit(np.array([[1.0, 10.0], [3.0, 10.0]]))
    np.testing.assert_array_equal(scaler.mean, [2.0, 10.0])
    # The population's standard deviation, and 1 for a constant feature.
    np.testing.assert_array_equal(scaler.scale, [1.0, 1.0])


def test_transform_equals_scikit_learn():
    x = np.random.default_rng(0).lognormal(3, 2, (200, 5))
    ours = Standardization.fit(x[:100]).transform(x)
    theirs = StandardScaler().fit(x[:100]).transform(x).astype(np.float32)
    np.testing.assert_array_equal(ours, theirs, strict=True)


def test_transform_leaves_its_input():
    x = np.ones((2, 2))
    Standardization.fit(x).transform(x)
    np.testing.assert_array_equal(x, np.ones((2, 2)))


@pytest.mark.parametrize("x", [np.zeros((2, 1)), np.zeros((2, 3)), np.array(1.0)])
def test_transform_refuses_another_number_of_features(x):
    message = message_of(Standardization.fit(np.zeros((2, 2))).transform, x)
    assert "expected 2 features" in message
    assert str(x.shape) in message


# Fingerprint


def test_fingerprint_is_a_sha256_over_description_and_bytes():
    digest = hashlib.sha256()
    data = dataset()
    for name, part in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        digest.update(f"{name}.x <f4 {part.x.shape};".encode() + part.x.tobytes())
        digest.update(f"{name}.y |u1 {part.y.shape};".encode() + part.y.tobytes())
    assert data.fingerprint == digest.hexdigest()


def test_equal_data_has_an_equal_fingerprint():
    assert dataset().fingerprint == dataset().fingerprint


def test_memory_layout_does_not_change_the_fingerprint():
    x = split().x
    layouts = [np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]]
    assert {dataset(train=Split(x=layout, y=split().y)).fingerprint for layout in layouts} == {dataset().fingerprint}


@pytest.mark.parametrize(
    "changes",
    [
        {"train": split(offset=1)},
        {"validation": split(3)},
        {"test": split(1, offset=1)},
        {"train": split(2), "validation": split(3)},
    ],
    ids=["value of train", "number of validation", "value of test", "exchanged splits"],
)
def test_other_data_has_another_fingerprint(changes):
    assert dataset(**changes).fingerprint != dataset().fingerprint


def test_same_bytes_of_another_type_have_another_fingerprint():
    parts = [Split(x=np.zeros((2, 2), dtype), y=np.zeros(2)) for dtype in (np.int32, np.float32)]
    first, second = (dataset(train=part, validation=part, test=part).fingerprint for part in parts)
    assert first != second


def test_fingerprint_is_computed_once():
    data = dataset()
    assert data.fingerprint is data.fingerprint


@pytest.mark.parametrize("x", [{"a": np.zeros((20, 2)), "b": np.zeros((20, 3))}, [[1.0], [2.0]]])
def test_what_is_no_array_is_refused(x):
    kind = type(x).__name__
    with pytest.raises(DataError, match=f"x is a {kind}; expected one NumPy array"):
        Dataset.from_arrays(x, np.zeros(20))
    with pytest.raises(DataError, match=f"x is a {kind}; expected one NumPy array"):
        Split(x=x, y=np.zeros(20))
