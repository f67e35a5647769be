"""What a person sees of a real run: its report, and TensorBoard, in Chromium."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annlib.artifacts import RunDirectory
from annlib.reporting.tensorboard import write_hparams

ROOT = Path(__file__).resolve().parents[2]
TRAIN_S = 180.0
READ_S = 60.0
RUNS = {
    *(f"first/tensorboard/{name}" for name in ("train", "validation", "pictures", "hparams")),
    "second/tensorboard/hparams",
}
# All elements that match, below shadow roots too: TensorBoard's older tabs are web components.
ALL = (
    "const all = (root, selector) => [...root.querySelectorAll(selector), "
    "...[...root.querySelectorAll('*')].filter(e => e.shadowRoot).flatMap(e => all(e.shadowRoot, selector))];"
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Path:
    # The browser comes first, so that nothing is trained where there is none.
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(storage: Path) -> RunDirectory:
    """A real run of three epochs, with its report and what TensorBoard shows of it."""
    command = [sys.executable, str(ROOT / "jobs/train.py"), "digits", "--epochs", "3"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANNLIB_")}
    trained = subprocess.run(
        [*command, "--storage", str(storage), "--name", "first"],
        env={**environment, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=TRAIN_S,
        check=False,
    )
    assert trained.returncode == 0, trained.stdout + trained.stderr
    directory = RunDirectory(storage / "first")
    # A second run beside it, of another kind.
    write_hparams(
        storage / "second" / "tensorboard" / "hparams",
        hparams={"learning_rate": 0.25, "epochs": 7, "optimizer": "adam"},
        metrics={"test/loss": 0.125, "test/mae": 0.375},
        run_name="second",
    )
    return directory


def final_metrics(directory: RunDirectory) -> dict[str, float]:
    metrics = directory.read_metrics()
    assert metrics is not None
    return {f"test/{name}": value for name, value in metrics["test"].items()}


# The report


def test_the_report_shows_all_pictures_and_no_error(run: RunDirectory, browser: Any) -> None:
    browser.open(run.report.as_uri())
    widths = browser.run("return [...document.images].map(image => [image.alt, image.complete, image.naturalWidth])")
    num_pictures = 1 + len(list(run.pictures.glob("*.png")))
    assert len([width for _, complete, width in widths if complete and width > 300]) == num_pictures
    assert any("Confusion matrix" in alt for alt, _, _ in widths)
    assert browser.run("return document.compatMode") == "CSS1Compat"
    assert browser.run("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:'))") == []


def test_the_report_shows_the_final_metrics(run: RunDirectory, browser: Any) -> None:
    browser.open(run.report.as_uri())
    text = browser.run("return document.body.innerText")
    for value in final_metrics(run).values():
        assert f"{value:.4f}" in text
    assert "python jobs/train.py digits --epochs 3 " in text


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_report_never_scrolls_sideways(run: RunDirectory, browser: Any, width: int) -> None:
    browser.open(run.report.as_uri(), width=width)
    assert browser.run("return [innerWidth, document.documentElement.scrollWidth]") == [width, width]


def test_the_report_follows_the_dark_mode(run: RunDirectory, browser: Any) -> None:
    luminance = []
    for dark in (False, True):
        browser.open(run.report.as_uri(), dark=dark)
        style = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        colours = [[int(part) for part in colour[4:-1].split(",")] for colour in browser.run(style)]
        luminance.append([sum(colour) / 3 for colour in colours])
    (light_text, light_ground), (dark_text, dark_ground) = luminance
    assert light_text < 50
    assert light_ground > 200
    assert dark_text > 200
    assert dark_ground < 50


# TensorBoard


@dataclasses.dataclass(frozen=True)
class TensorBoard:
    address: str

    def get(self, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        # Never through a proxy: the server is on this machine.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
            content: bytes = response.read()
        return content


@pytest.fixture(scope="module")
def tensorboard(run: RunDirectory, storage: Path, start_server: Any) -> TensorBoard:
    command = [sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1", "--port", "0", "--logdir", str(storage)]
    # It prints: TensorBoard 2.21.0 at http://127.0.0.1:40000/ (Press CTRL+C to quit)
    server = TensorBoard(start_server(command, " at ").split("/ ")[0])
    deadline = time.monotonic() + READ_S
    while set(json.loads(server.get("/data/runs"))) != RUNS:
        assert time.monotonic() < deadline, f"TensorBoard knows {server.get('/data/runs')!r} after {READ_S:.0f} s"
        time.sleep(0.2)
    return server


def test_tensorboard_serves_the_curves(tensorboard: TensorBoard) -> None:
    tags = json.loads(tensorboard.get("/data/plugin/timeseries/tags"))["scalars"]["runTagInfo"]
    assert {"epoch_loss", "epoch_sparse_categorical_accuracy"} <= set(tags["first/tensorboard/train"])
    assert {"epoch_loss", "epoch_sparse_categorical_accuracy"} <= set(tags["first/tensorboard/validation"])


def test_tensorboard_serves_the_pictures(run: RunDirectory, tensorboard: TensorBoard) -> None:
    listed = json.loads(
        tensorboard.get("/data/plugin/images/images?run=first/tensorboard/pictures&tag=confusion_matrix")
    )
    assert [image["step"] for image in listed] == [0]
    content = tensorboard.get(f"/data/plugin/images/individualImage?{listed[0]['query']}")
    with Image.open(io.BytesIO(content)) as shown, Image.open(run.pictures / "confusion_matrix.png") as drawn:
        assert shown.size == (1400, round(1400 * drawn.height / drawn.width))
        smaller = drawn.convert("RGB").resize(shown.size)
        difference = np.asarray(shown.convert("RGB"), float) - np.asarray(smaller, float)
    assert np.abs(difference).mean() < 2


def test_tensorboard_serves_each_run_as_a_session_with_its_final_metrics(
    run: RunDirectory, tensorboard: TensorBoard
) -> None:
    experiment = json.loads(tensorboard.get("/data/plugin/hparams/experiment", {}))
    metrics = {metric["name"]["tag"] for metric in experiment["metricInfos"]}
    assert metrics == {*final_metrics(run), "test/mae"}
    assert {"learning_rate", "epochs", "global_batch_size", "workload", "optimizer"} <= {
        info["name"] for info in experiment["hparamInfos"]
    }
    statuses = ["STATUS_SUCCESS"]
    query = {"allowedStatuses": statuses, "colParams": [], "startIndex": 0, "sliceSize": 10}
    groups = json.loads(tensorboard.get("/data/plugin/hparams/session_groups", query))["sessionGroups"]
    sessions = {
        group["name"]: (group["hparams"], {value["name"]["tag"]: value["value"] for value in group["metricValues"]})
        for group in groups
    }
    hparams, finals = sessions["first"]
    assert (hparams["workload"], hparams["learning_rate"], hparams["epochs"]) == ("digits", 0.01, 3.0)
    assert finals == pytest.approx(final_metrics(run), rel=1e-6)
    second = {"learning_rate": 0.25, "epochs": 7.0, "optimizer": "adam"}
    assert sessions["second"] == (second, {"test/loss": 0.125, "test/mae": 0.375})


def test_time_series_shows_the_curves_of_the_loss(run: RunDirectory, tensorboard: TensorBoard, browser: Any) -> None:
    # Without a filter only the first two tags are unfolded.
    browser.open(f"{tensorboard.address}/?tagFilter=epoch_loss#timeseries")
    card, rows = browser.wait(
        "the loss of both splits in the tab Time Series",
        "const card = [...document.querySelectorAll('scalar-card')].find(c => c.innerText.startsWith('epoch_loss'));"
        "const rows = card ? [...card.querySelectorAll('tb-data-table-content-row')] : [];"
        "const circles = rows.map(row => row.querySelector('.row-circle span'));"
        "return rows.length == 2 && circles.every(circle => circle) && [card.querySelector('line-chart'),"
        "rows.map((row, i) => [row.innerText, getComputedStyle(circles[i]).backgroundColor])]",
    )
    last = run.read_history()[-1]
    for (text, _), (split, name) in zip(sorted(rows), (("train", "loss"), ("validation", "val_loss")), strict=True):
        assert f"first/tensorboard/{split}" in text
        assert f"{float(last[name]):.5g}".rstrip("0") in text
    for _, colour in rows:
        await_colour(browser, card, [int(part) for part in colour[4:-1].split(",")])


def await_colour(browser: Any, element: Any, colour: list[int]) -> None:
    """A curve of that colour is drawn, right across the chart."""
    deadline = time.monotonic() + READ_S
    while True:
        with Image.open(io.BytesIO(browser.picture(element))) as image:
            pixels = np.asarray(image.convert("RGB"), int)
        columns = (np.abs(pixels - colour).max(axis=2) < 25).any(axis=0)
        # The chart of three epochs begins beside its axis; the smoothed curve is cut where it leaves the chart.
        if columns.mean() > 0.2:
            return
        assert time.monotonic() < deadline, f"no curve of the colour {colour} within {READ_S:.0f} s: {columns.mean()}"
        time.sleep(0.2)


def test_images_shows_the_confusion_matrix(tensorboard: TensorBoard, browser: Any) -> None:
    browser.open(f"{tensorboard.address}/#images")
    width = browser.wait(
        "the confusion matrix in the tab Images",
        ALL + "const loader = all(document, 'tf-image-loader').find(each => each.tag === 'confusion_matrix');"
        "const image = loader && all(loader.shadowRoot, 'img').find(each => each.complete && each.naturalWidth);"
        "return image && [loader.run, image.naturalWidth, image.getBoundingClientRect().width > 100]",
    )
    assert width == ["first/tensorboard/pictures", 1400, True]


def test_hparams_shows_both_runs_with_their_final_metrics(
    run: RunDirectory, tensorboard: TensorBoard, browser: Any
) -> None:
    browser.open(f"{tensorboard.address}/#hparams")
    text = browser.wait(
        "the table of both runs in the tab HParams",
        ALL + "const table = all(document, 'vaadin-grid').find(each => "
        "['first', 'second'].every(name => each.innerText.split('\\n').includes(name)));"
        "return table && table.innerText",
    )
    assert {"test/loss", "test/mae", "test/sparse_categorical_accuracy", "0.25000"} <= set(text.splitlines())
    for value in (*final_metrics(run).values(), 0.125, 0.375):
        # Five digits, as the table shows them.
        assert f"{value:#.5g}" in text
