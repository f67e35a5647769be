"""Predictions of a finished run: for one file, all or nothing, or for any number of files, which may go on later."""

from annlib.prediction.columns import prediction_columns
from annlib.prediction.one_file import predict_file
from annlib.prediction.predict import predict

__all__ = ["predict", "predict_file", "prediction_columns"]
