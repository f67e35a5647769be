"""The page of a run: well-formed, complete, self-contained, and what stands in it cannot become markup."""

import base64
import io
import json
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import tostring

import numpy as np
import pytest
from PIL import Image

from annlib.artifacts import RunDirectory
from annlib.command import Parser, add_run_flags, given_values
from annlib.config import RunConfig, load_config
from annlib.errors import AnnlibError, ConfigError, StorageError
from annlib.reporting.page import element
from annlib.reporting.report import reproducing_command, write_report

VOID = {"meta", "img", "br"}


class Node:
    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Node | str] = []

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, *tags: str) -> list["Node"]:
        found = []
        for child in self.children:
            if isinstance(child, Node):
                found += ([child] if child.tag in tags else []) + child.all(*tags)
        return found


class TreeParser(HTMLParser):
    """Fails on an element that is not closed, or closed in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Node("document", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(path: Path) -> Node:
    parser = TreeParser()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    assert [node.tag for node in parser.open] == ["document"]
    return parser.open[0]


def row(epoch: int, **values: Any) -> dict[str, Any]:
    usual = {"loss": 0.5, "mae": 0.25, "val_loss": 0.75, "learning_rate": 0.01, "seconds": 0.5, "samples_per_s": 1234.5}
    return {"epoch": epoch, **usual, **values}


def make_run(directory: Path, *, rows: Any = None, metrics: Any = None, **config: Any) -> RunDirectory:
    values = {"workload": "housing", "epochs": 3, "global_batch_size": 32, "learning_rate": 0.01, **config}
    chosen = RunConfig(**{"storage": directory, "name": "try", **values})
    run = RunDirectory(chosen.run_path)
    run.path.mkdir()
    run.config.write_text(chosen.to_yaml())
    run.write_history([row(epoch) for epoch in (1, 2, 3)] if rows is None else rows)
    usual = {
        "train": {"loss": 0.1111, "mae": 0.2222},
        "validation": {"loss": 0.3333, "mae": 0.4444},
        "test": {"loss": 0.5555, "mae": 0.6666},
        "seconds": 83.2,
        "samples_per_s": 44802.3,
        "num_workers": 0,
        "versions": {"python": "3.11.7", "keras": "3.15.1"},
        "platform": "Linux-6.1",
    }
    run.metrics.write_text(json.dumps(usual if metrics is None else metrics))
    return run


def draw(path: Path, *, width: int = 40, height: int = 30, noise: bool = False) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels if noise else np.zeros_like(pixels)).save(path)


def report(run: RunDirectory, description: str = "predict prices") -> Node:
    return parse(write_report(run, workload_description=description))


def sections(page: Node) -> dict[str, Node]:
    return {section.all("h2")[0].text: section for section in page.all("section")}


def boxes(page: Node) -> dict[str, str]:
    return {box.all("dt")[0].text: box.all("dd")[0].text for box in page.all("dl")[0].all("div")}


def cells(section: Node) -> list[list[str]]:
    return [[cell.text for cell in line.all("th", "td")] for line in section.all("tr")]


def embedded(image: Node) -> Image.Image:
    kind, data = image.attributes["src"].split(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert kind == f"data:{Image.MIME[str(picture.format)]}"
    return picture


# What stands in the page


def test_the_page_names_workload_run_and_description(tmp_path: Path) -> None:
    page = report(make_run(tmp_path))
    assert [title.text for title in page.all("title")] == ["housing: try"]
    assert [heading.text for heading in page.all("h1")] == ["housing"]
    assert "predict prices" in page.all("header")[0].text
    assert "Run try" in page.all("header")[0].text


def test_the_headline_has_the_figures_of_the_run(tmp_path: Path) -> None:
    rows = [row(1, val_loss=0.9), row(2, val_loss=0.7), row(3, val_loss=0.8)]
    assert boxes(report(make_run(tmp_path, rows=rows))) == {
        "test loss": "0.5555",
        "test mae": "0.6666",
        "epochs": "3",
        "best epoch": "2",
        "training time": "1 min 23 s",
        "samples per second": "44,802",
        "Ray workers": "0",
    }


def test_the_metrics_stand_out(tmp_path: Path) -> None:
    page = report(make_run(tmp_path))
    main = [box.all("dt")[0].text for box in page.all("dl")[0].all("div") if box.attributes == {"class": "main"}]
    assert main == ["test loss", "test mae"]


@pytest.mark.parametrize(("num_workers", "note"), [(0, "one process, without Ray"), (2, "")])
def test_a_run_without_ray_says_so(tmp_path: Path, num_workers: int, note: str) -> None:
    box = report(make_run(tmp_path, num_workers=num_workers)).all("dl")[0].all("div")[-1]
    assert box.text == f"Ray workers{num_workers}{note}"


def test_without_a_validation_loss_the_best_epoch_is_that_of_the_training_loss(tmp_path: Path) -> None:
    rows = [{"epoch": epoch, "loss": loss} for epoch, loss in ((1, 0.1), (2, 0.05), (3, 0.2))]
    page = report(make_run(tmp_path, rows=rows))
    assert boxes(page)["best epoch"] == "2"
    assert "lowest loss" in sections(page)["History"].text


def test_losses_that_are_not_finite_are_never_the_best(tmp_path: Path) -> None:
    rows = [row(1, val_loss=float("nan")), row(2, val_loss=0.9), row(3, val_loss=float("-inf"))]
    assert boxes(report(make_run(tmp_path, rows=rows)))["best epoch"] == "2"


def test_without_a_finite_loss_there_is_no_best_epoch(tmp_path: Path) -> None:
    page = report(make_run(tmp_path, rows=[row(1, val_loss=float("nan"))]))
    assert "best epoch" not in boxes(page)
    assert "marked" not in sections(page)["History"].text


def test_a_run_that_stopped_early_says_of_how_many_epochs(tmp_path: Path) -> None:
    assert "epochs3of 30" in report(make_run(tmp_path, epochs=30)).all("dl")[0].text


def test_all_splits_and_metrics_stand_in_a_table(tmp_path: Path) -> None:
    assert cells(sections(report(make_run(tmp_path)))["Metrics"]) == [
        ["split", "loss", "mae"],
        ["train", "0.1111", "0.2222"],
        ["validation", "0.3333", "0.4444"],
        ["test", "0.5555", "0.6666"],
    ]


def test_the_configuration_has_every_field_with_its_value(tmp_path: Path) -> None:
    run = make_run(tmp_path, use_gpu=True, seed=7)
    shown = {line[0]: line[1] for line in cells(sections(report(run))["Configuration"])[1:]}
    assert set(shown) == set(RunConfig.model_fields)
    assert (shown["use_gpu"], shown["seed"], shown["data_dir"]) == ("true", "7", "none")
    assert (shown["storage"], shown["learning_rate"]) == (str(tmp_path), "0.01")


def test_the_configuration_is_that_of_the_run_whatever_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANNLIB_EPOCHS", "99")
    assert ["epochs", "3"] in [line[:2] for line in cells(sections(report(make_run(tmp_path)))["Configuration"])]


def test_the_environment_has_versions_and_platform(tmp_path: Path) -> None:
    lines = cells(sections(report(make_run(tmp_path)))["Environment"])
    assert lines[1:] == [["python", "3.11.7"], ["keras", "3.15.1"], ["platform", "Linux-6.1"]]


# History


def test_a_short_history_is_shown_whole(tmp_path: Path) -> None:
    history = sections(report(make_run(tmp_path, rows=[row(epoch) for epoch in range(1, 51)])))["History"]
    assert history.all("details") == []
    lines = cells(history)
    assert lines[0] == ["epoch", "loss", "mae", "validation loss", "learning rate", "seconds", "samples/s"]
    assert lines[1] == ["1", "0.5000", "0.2500", "0.7500", "0.01", "0.5000", "1,234"]
    assert [line[0] for line in lines[1:]] == [str(epoch) for epoch in range(1, 51)]


@pytest.mark.parametrize("num", [51, 200, 10_000])
def test_a_long_history_is_collapsed_to_its_ends_its_best_epoch_and_some_between(tmp_path: Path, num: int) -> None:
    best = num - 8
    rows = [row(epoch, val_loss=0.1 if epoch == best else 0.5) for epoch in range(1, num + 1)]
    page = report(make_run(tmp_path, rows=rows, epochs=num))
    details = sections(page)["History"].all("details")[0]
    shown = [int(line[0].replace(",", "")) for line in cells(details)[1:]]
    assert shown == sorted(set(shown))
    assert shown[:5] == [1, 2, 3, 4, 5]
    assert shown[-5:] == list(range(num - 4, num + 1))
    assert 30 <= len(shown) <= 55
    assert np.diff(shown).max() <= num / 20
    assert [line.all("th")[0].text for line in details.all("tr") if "best" in line.attributes.get("class", "")] == [
        f"{best:,}"
    ]
    assert f"{len(shown)} of {num:,} epochs" in details.all("summary")[0].text


def test_a_single_epoch_is_enough(tmp_path: Path) -> None:
    assert len(cells(sections(report(make_run(tmp_path, rows=[row(1)], epochs=1)))["History"])) == 2


def test_an_empty_cell_of_the_history_stays_empty(tmp_path: Path) -> None:
    lines = cells(sections(report(make_run(tmp_path, rows=[row(1, mae=""), row(2)])))["History"])
    assert [line[2] for line in lines] == ["mae", "", "0.2500"]


# Pictures and the model


def test_without_optional_files_their_parts_are_left_out(tmp_path: Path) -> None:
    page = report(make_run(tmp_path))
    assert list(sections(page)) == ["Metrics", "History", "Configuration", "Environment", "Reproduce it"]
    assert page.all("img") == []


def test_pictures_come_in_their_order_and_unknown_ones_last(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    draw(run.learning_curves)
    known = ["samples", "confusion_matrix", "worst_mistakes", "predicted_against_true", "residuals"]
    for index, name in enumerate(["a_first_one", *reversed(known), "model", "decision_boundary"]):
        draw(run.pictures / f"{name}.png", width=10 + index)
    (run.pictures / "notes.txt").write_text("no picture")
    page = report(run)
    assert list(sections(page))[1:5] == ["Learning curves", "Pictures", "History", "Model"]
    captions = [caption.text for caption in sections(page)["Pictures"].all("figcaption")]
    words = ["Samples", "regions", "Confusion", "mistakes", "Predicted", "Residuals", "A first one."]
    assert len(captions) == len(words)
    assert all(word in caption for word, caption in zip(words, captions, strict=True))
    widths = [embedded(image).width for image in sections(page)["Pictures"].all("img")]
    assert widths == [15, 17, 14, 13, 12, 11, 10]
    assert [embedded(image).width for image in sections(page)["Model"].all("img")] == [16]


def test_the_summary_of_the_model_is_shown_as_it_is(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    text = "Model: <sequential> & more\n│ dense │  235,500 │"
    run.model_summary.write_text(text + "\n", encoding="utf-8")
    assert sections(report(run))["Model"].all("pre")[0].text == text


def test_a_small_picture_is_embedded_byte_by_byte(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    draw(run.learning_curves)
    source = report(run).all("img")[0].attributes["src"]
    assert base64.b64decode(source.split(",")[1]) == run.learning_curves.read_bytes()


def test_large_pictures_are_scaled_down_so_that_the_page_stays_small(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    draw(run.learning_curves, width=2800, height=1000)
    draw(run.pictures / "samples.png", width=1800, height=900, noise=True)
    page = report(run)
    curves, samples = page.all("img")
    assert embedded(curves).size == (1400, 500)
    assert (curves.attributes["width"], curves.attributes["height"]) == ("1400", "500")
    assert embedded(samples).size == (1400, 700)
    # 1400 x 700 pixels of noise are 2.9 MB as PNG.
    assert embedded(samples).format == "JPEG"
    assert run.report.stat().st_size < 2e6


def test_transparent_pixels_become_white_when_a_picture_is_scaled(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    Image.new("RGBA", (2800, 20), (0, 0, 0, 0)).save(run.learning_curves)
    assert embedded(report(run).all("img")[0]).convert("RGB").getpixel((800, 5)) == (255, 255, 255)


# The form of the page


@pytest.fixture
def full_page(tmp_path: Path) -> Node:
    run = make_run(tmp_path, rows=[row(epoch) for epoch in range(1, 100)])
    draw(run.learning_curves)
    draw(run.pictures / "samples.png")
    draw(run.pictures / "other.png")
    run.model_summary.write_text("summary")
    return report(run)


def test_language_character_set_and_width_are_declared(full_page: Node) -> None:
    assert full_page.all("html")[0].attributes == {"lang": "en"}
    metas = [meta.attributes for meta in full_page.all("meta")]
    assert metas[0] == {"charset": "utf-8"}
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas


def test_headings_are_one_of_the_first_level_then_the_second(full_page: Node) -> None:
    levels = [heading.tag for heading in full_page.all("h1", "h2", "h3", "h4")]
    assert levels == ["h1"] + ["h2"] * 8


def test_pictures_have_texts_and_tables_have_headings(full_page: Node) -> None:
    assert len(full_page.all("img")) == 3
    assert all(len(image.attributes["alt"]) > 10 for image in full_page.all("img"))
    assert all(heading.attributes["scope"] in ("col", "row") for heading in full_page.all("th"))


def test_what_may_scroll_takes_the_focus_and_has_a_name(full_page: Node) -> None:
    regions = [node.attributes for node in full_page.all("div", "pre") if node.attributes.get("role") == "region"]
    names = [region["aria-label"] for region in regions]
    assert names == ["Final metrics", "History", "Model summary", "Configuration", "Environment"]
    assert {region["tabindex"] for region in regions} == {"0"}
    assert len(full_page.all("table")) == 4


def test_text_and_elements_keep_their_order() -> None:
    made = element("p", "a", "b", element("b", "c"), "d", "e")
    assert tostring(made, encoding="unicode") == "<p>ab<b>c</b>de</p>"


def test_the_page_needs_nothing_from_elsewhere(full_page: Node, tmp_path: Path) -> None:
    assert full_page.all("script", "link", "iframe", "object", "base", "a") == []

    def check(node: Node) -> None:
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                assert value.startswith("data:image/")
        for child in node.children:
            if isinstance(child, Node):
                check(child)

    check(full_page)
    (style,) = full_page.all("style")
    assert not re.search(r"url\(|@import|//", style.text)
    policy = [meta.attributes["content"] for meta in full_page.all("meta") if "http-equiv" in meta.attributes]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


# Markup in values

EVIL = "</title><script>alert('1')</script>&amp;\"><img src=x onerror=alert(2)>"


def test_markup_in_any_value_is_shown_as_text(tmp_path: Path) -> None:
    metrics = {
        "test": {EVIL: 0.5, "kind": EVIL},
        "seconds": 1.0,
        "versions": {EVIL: EVIL},
        "platform": EVIL,
    }
    # The slash of an end tag cannot stand in a file's name.
    name = EVIL.replace("/", "")
    run = make_run(
        tmp_path, rows=[{"epoch": 1, "loss": 1.0, EVIL: 0.5}], metrics=metrics, workload=EVIL, data_dir=Path(name)
    )
    draw(run.pictures / f"{name}.png")
    run.model_summary.write_text(EVIL)
    page = report(run, description=EVIL)
    assert page.all("script") == []
    assert len(page.all("img")) == 1
    assert page.all("title")[0].text == f"{EVIL}: try"
    assert page.all("h1")[0].text == EVIL
    assert EVIL in page.all("header")[0].all("p")[0].text
    assert boxes(page)[f"test {EVIL}"] == "0.5000"
    assert boxes(page)["test kind"] == EVIL
    shown = sections(page)
    assert cells(shown["Environment"])[1:] == [[EVIL, EVIL], ["platform", EVIL]]
    assert ["data_dir", name] in [line[:2] for line in cells(shown["Configuration"])]
    assert cells(shown["History"])[0][2] == EVIL
    assert shown["Model"].all("pre")[0].text == EVIL
    assert shown["Pictures"].all("figcaption")[0].text == f"{name}."


def test_a_path_that_is_not_utf8_does_not_stop_the_report(tmp_path: Path) -> None:
    page = report(make_run(tmp_path, data_dir=Path("/data/\udcff")))
    assert "/data/" in sections(page)["Configuration"].text


# The command


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"use_gpu": True, "num_workers": 2, "precision": "float64", "seed": 0, "learning_rate": 1e-7},
        {"data_dir": Path('it\'s a "dir" $HOME `ls` \\ *')},
        {"data_dir": Path("-x")},
        {"data_dir": Path("--epochs=3 $HOME")},
        {"data_dir": Path("数据 ünï")},
    ],
)
def test_the_command_gives_the_same_configuration(tmp_path: Path, values: dict[str, Any]) -> None:
    run = make_run(tmp_path, **values)
    config = load_config({}, defaults={}, config_file=run.config, environment={})
    shown = sections(report(run))["Reproduce it"].all("code")[0].text
    words = shlex.split(shown)
    assert words == shlex.split(reproducing_command(config))
    assert words[:2] == ["python", "jobs/train.py"]
    parser = Parser()
    parser.add_argument("workload")
    add_run_flags(parser)
    given = given_values(parser.parse_args(words[2:]))
    assert not {"name", "storage"} & set(given)
    # The workload's defaults have changed since.
    defaults = {"epochs": 99, "global_batch_size": 99, "learning_rate": 0.99}
    again = load_config(given, defaults=defaults, environment={})
    assert again.model_copy(update={"name": config.name, "storage": config.storage}) == config


def test_a_shell_reads_the_command_as_it_was_meant(tmp_path: Path) -> None:
    name = 'it\'s a "dir" $HOME `ls` \\ *'
    shown = sections(report(make_run(tmp_path, data_dir=Path(name))))["Reproduce it"].all("code")[0].text
    program = "python() { printf '%s\\n' \"$@\"; }; " + shown
    printed = subprocess.run(["sh", "-c", program], capture_output=True, text=True, timeout=30, check=True).stdout
    assert name in printed.splitlines()


# The file


def test_the_page_is_written_whole_and_again(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    before = set(run.path.iterdir())
    assert write_report(run, workload_description="one") == run.report == run.path / "report.html"
    report(run, "two")
    assert set(run.path.iterdir()) - before == {run.report}
    assert "two" in run.report.read_text()


def test_neither_tensorflow_nor_matplotlib_is_imported(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    draw(run.learning_curves)
    program = (
        "import sys; from pathlib import Path; from annlib.artifacts import RunDirectory;"
        "from annlib.reporting.report import write_report;"
        f"write_report(RunDirectory(Path({str(run.path)!r})), workload_description='');"
        "print(sorted({'tensorflow', 'keras', 'matplotlib', 'ray'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert printed.stdout == "[]\n"


# Messages


def message_of(run: RunDirectory, kind: type[AnnlibError] = StorageError) -> str:
    with pytest.raises(kind) as caught:
        write_report(run, workload_description="")
    assert not run.report.exists()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "expected" in message
    assert "received" in message
    return message


@pytest.mark.parametrize("name", ["metrics.json", "history.csv", "config.yaml"])
def test_a_run_without_its_files_is_refused(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path)
    (run.path / name).unlink()
    message = message_of(run)
    assert f"the file {run.path / name}" in message
    assert f"--storage {tmp_path} --name try" in message


@pytest.mark.parametrize("content", ["{}", '{"test": 3}'])
def test_metrics_of_another_form_are_refused(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path)
    run.metrics.write_text(content)
    assert f"{run.metrics} has no metrics" in message_of(run)


@pytest.mark.parametrize("content", ['{"test": ', "null", "[1]", '"text"'])
def test_metrics_that_are_no_json_object_are_refused(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path)
    run.metrics.write_text(content)
    assert "expected a JSON object" in message_of(run)


@pytest.mark.parametrize("content", ["", "epoch,loss\n", "loss\n0.5\n", "epoch,loss\n1,0.5\nx,0.5\n"])
def test_a_history_without_epochs_is_refused(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path)
    run.history.write_text(content)
    assert f"{run.history} has no epochs" in message_of(run)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "another format"])
def test_a_damaged_picture_is_refused(tmp_path: Path, damage: str) -> None:
    run = make_run(tmp_path)
    path = run.pictures / "samples.png"
    draw(path, noise=True)
    content = path.read_bytes()
    jpeg = io.BytesIO()
    Image.new("RGB", (3, 2)).save(jpeg, "JPEG")
    damaged = {"truncated": content[: len(content) // 2], "text": b"no picture", "empty": b""}
    path.write_bytes(damaged.get(damage, jpeg.getvalue()))
    assert f"picture {path} cannot be read" in message_of(run)


def test_a_wrong_configuration_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.config.write_text(run.config.read_text().replace("epochs: 3", "epochs: 0"))
    assert "epochs" in message_of(run, ConfigError)
