import subprocess
import sys

import pytest

from annlib.reporting import plots


def test_every_picture_can_be_written_and_drawn():
    written = {name.removeprefix("plot_") for name in plots.__all__ if name.startswith("plot_")}
    drawn = {name.removeprefix("draw_") for name in plots.__all__ if name.startswith("draw_")}
    assert written - drawn == {"model_diagram"}
    assert drawn <= written
    assert all(callable(getattr(plots, name)) for name in plots.__all__)


def test_importing_the_pictures_imports_no_large_package():
    code = "import sys, annlib.reporting.plots; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"matplotlib", "tensorflow", "keras", "sklearn", "PIL"} & set(loaded)


@pytest.mark.filterwarnings("error")
def test_korean_reaches_every_picture(tmp_path, check_readable):
    """Whether this machine has a font for it or not."""
    names = ["코트", "앵클 부츠"]
    images, labels = [[[0, 1], [1, 0]]] * 2, [0, 1]
    check_readable(plots.draw_samples(images, labels, names, title="제목"))
    check_readable(plots.draw_worst_mistakes(images, labels, [[0, 1], [0, 1]], names, title="제목"))
    check_readable(plots.draw_confusion_matrix(labels, labels, names, title="제목"))
    check_readable(plots.draw_learning_curves([{"epoch": 1, "손실": 0.5}], title="제목"))
    check_readable(plots.draw_residuals([1.0], [2.0], unit="미터", target_names=["높이"], title="제목"))
    check_readable(
        plots.draw_decision_boundary([[0, 1]], [0], lambda x: [0] * len(x), ["너비", "높이"], names, title="제목")
    )
