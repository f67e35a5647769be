"""The layers of a model, as a picture and as text."""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from annlib.errors import DataError
from annlib.reporting.style import DPI, write_picture

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


def plot_model_diagram(model: "keras.Model", path: Path) -> bool:
    """Writes a PNG of 300 dpi that shows the layers, their shapes and how they are connected.

    Args:
        model: a built model.
        path: PNG file to write.

    Returns:
        False, and nothing is written, where graphviz (`dot`) or the package pydot is not installed, or where dot
        refuses the names of the layers.

    Raises:
        DataError: the model is not built.
        StorageError: `path` cannot be written.
    """
    import keras
    from PIL import Image

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
        except AssertionError:
            # Keras does not escape the names for dot, and pydot asserts that dot succeeds.
            logger.warning("dot cannot draw the model %s: rename layers whose names hold <, > or &", model.name)
            return False
        # In a notebook, Keras prints what is missing and raises nothing.
        if not picture.exists():
            return False
        # dot does not write the resolution into it.
        with Image.open(picture) as image:
            write_picture(path, image)
    return True


def model_summary(model: "keras.Model") -> str:
    """Returns the table of layers, output shapes and numbers of parameters, as wide as the terminal lets it be."""
    lines: list[str] = []
    # A length given here would not keep Keras from cutting off what the terminal does not hold.
    model.summary(print_fn=lambda text, **_: lines.append(text))
    return "\n".join(lines)
