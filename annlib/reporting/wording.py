"""How the report says things: captions of pictures, names of metrics, numbers and durations."""

import math
from typing import Any

# Caption and description of the pictures that annlib draws, in the order of the page.
CAPTIONS = {
    "samples.png": ("Samples and their classes.", "A grid of samples, each below the name of its class."),
    "decision_boundary.png": (
        "The regions in which the model predicts each class, and the samples.",
        "The plane of two features, coloured by the predicted class, with the samples as points.",
    ),
    "confusion_matrix.png": (
        "Confusion matrix: a row for each true class, a column for each predicted one.",
        "Confusion matrix. Right predictions are on the diagonal.",
    ),
    "worst_mistakes.png": (
        "The mistakes of which the model was most certain.",
        "A grid of samples with their true classes and the wrong ones that were predicted.",
    ),
    "predicted_against_true.png": (
        "Predicted against true values; right predictions lie on the dashed line.",
        "Plot of the predicted over the true values.",
    ),
    "residuals.png": (
        "Residuals: true minus predicted values.",
        "Plot of the residuals over the predicted values, and their distribution.",
    ),
}


def caption_of(name: str) -> tuple[str, str]:
    """Returns the caption and the description of a picture; those of an unknown one are its name."""
    words = words_of(name.removesuffix(".png"))
    return CAPTIONS.get(name, (f"{words[:1].upper()}{words[1:]}.", f"Picture {words}."))


def words_of(name: str) -> str:
    """Returns the name of a metric, a column or a file in words."""
    if name == "samples_per_s":
        return "samples/s"
    return ("validation " + name.removeprefix("val_") if name.startswith("val_") else name).replace("_", " ")


def as_float(value: Any) -> float:
    """Returns a number or the number that a text holds, NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def number_text(value: Any) -> str:
    """Returns a fraction with as many decimals as it needs, a whole number with none, anything else as it is."""
    number = as_float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        return "" if value is None else str(value)
    if str(value).removeprefix("-").isdecimal():
        return f"{int(value):,}"
    if number != 0 and not 1e-3 <= abs(number) < 1e9:
        return f"{number:.3e}"
    return f"{number:,.4f}" if abs(number) < 1000 else f"{number:,.1f}"


def cell_text(column: str, value: Any) -> str:
    """Returns a value of the history."""
    number = as_float(value)
    if column == "learning_rate" and math.isfinite(number):
        return f"{number:.4g}"
    if column == "samples_per_s" and math.isfinite(number):
        return f"{number:,.0f}"
    return number_text(value)


def duration_text(seconds: float) -> str:
    """Returns a duration in the units that suit it."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"
