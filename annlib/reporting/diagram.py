"""The layers of a model, as a picture and as text."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from annlib.errors import DataError
from annlib.reporting.style import DPI, write_picture

if TYPE_CHECKING:
    import keras


def plot_model_diagram(model: "keras.Model", path: Path) -> bool:
    """Writes a PNG of 300 dpi that shows the layers, their shapes and how they are connected.

    Args:
        model: a built model.
        path: PNG file to write.

    Returns:
        False, and nothing is written, where graphviz (`dot`) or the package pydot is not installed.

    Raises:
        DataError: the model is not built.
        StorageError: `path` cannot be written.
    """
    import keras

    if not model.built:
        raise DataError(
            f"the model {model.name} has no shapes; expected a built model; received one that was not called yet; "
            "call it on a batch, or begin it with keras.Input"
        )
    with tempfile.TemporaryDirectory() as directory:
        picture = Path(directory) / "model.png"
        try:
            keras.utils.plot_model(
                model,
                to_file=str(picture),
                show_shapes=True,
                show_layer_names=True,
                show_layer_activations=True,
                dpi=DPI,
            )
        except ImportError:
            return False
        # In a notebook, Keras prints what is missing and raises nothing.
        if not picture.exists():
            return False
        write_picture(path, picture.read_bytes())
    return True


def model_summary(model: "keras.Model") -> str:
    """Returns the table of layers, output shapes and numbers of parameters, 100 characters wide."""
    lines: list[str] = []
    model.summary(line_length=100, print_fn=lambda text, **_: lines.append(text))
    return "\n".join(lines)
