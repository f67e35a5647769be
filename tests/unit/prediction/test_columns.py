from typing import Any

import numpy as np

from annlib.prediction.columns import prediction_columns, predictions
from annlib.signature import Signature


def signature(**values: Any) -> Signature:
    return Signature(
        **{"task": "binary", "output": "probability", "input_shape": (2,), "input_dtype": "float32"} | values
    )


def test_a_feature_of_a_name_that_predictions_use_keeps_it() -> None:
    found = signature(class_names=("died", "survived"), feature_names=("age", "class"))
    assert prediction_columns(found) == ("predicted_class", "predicted_class_name", "predicted_probability")
    other = signature(task="regression", output="value", target_name="price", feature_names=("size", "predicted_price"))
    assert prediction_columns(other) == ("predicted_predicted_price",)


def test_labels_that_differ_by_signs_have_columns_of_their_own() -> None:
    found = signature(task="multilabel", output="labels", class_names=("c", "c++", "c#"))
    outputs = np.array([[0.9, 0.2, 0.6]], np.float32)
    values = {name: float(value[0]) for name, value in predictions(found, outputs).items()}
    assert list(values) == [
        *("predicted_c", "predicted_c_2", "predicted_c_3"),
        *("probability_c", "probability_c_2", "probability_c_3"),
    ]
    np.testing.assert_allclose(list(values.values()), [1, 0, 1, 0.9, 0.2, 0.6], rtol=1e-6)
