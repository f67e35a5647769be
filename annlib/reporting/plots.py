"""All pictures. `plot_...` writes a PNG of 300 dpi; `draw_...` beside it returns the matplotlib figure instead."""

from annlib.reporting.classification import draw_confusion_matrix, plot_confusion_matrix
from annlib.reporting.curves import draw_learning_curves, plot_learning_curves
from annlib.reporting.diagram import model_summary, plot_model_diagram
from annlib.reporting.images import draw_samples, draw_worst_mistakes, plot_samples, plot_worst_mistakes
from annlib.reporting.neurons import (
    draw_activations,
    draw_decision_boundary,
    plot_activations,
    plot_decision_boundary,
)
from annlib.reporting.regression import (
    draw_predicted_against_true,
    draw_residuals,
    plot_predicted_against_true,
    plot_residuals,
)

__all__ = [
    "plot_learning_curves",
    "plot_samples",
    "plot_confusion_matrix",
    "plot_worst_mistakes",
    "plot_predicted_against_true",
    "plot_residuals",
    "plot_activations",
    "plot_decision_boundary",
    "plot_model_diagram",
    "model_summary",
    "draw_learning_curves",
    "draw_samples",
    "draw_confusion_matrix",
    "draw_worst_mistakes",
    "draw_predicted_against_true",
    "draw_residuals",
    "draw_activations",
    "draw_decision_boundary",
]
