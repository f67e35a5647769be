"""Runs on an object store: what they leave there, going on from there, outages, wrong credentials."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fault_runs import ROOT, Faulty, assert_same, errors_of, finish, start, wait_for
from object_store import SECRET_KEY, ObjectStore, object_store

import annlib
from annlib.config import load_config
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.files import find_table, read_table
from annlib.errors import ConfigError, DataError, StorageError
from annlib.mirror import Mirror
from annlib.storage import Remote
from annlib.workloads import find
from annlib.workloads.table import settle

DEFAULTS = find("digits").defaults


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture
def environment(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return store.environment


def start_remote(place: Path, fault: str, moment: str, *flags: str) -> Faulty:
    """Starts a run on the object store, under the name of the test's directory."""
    return start(place, fault, moment, "--storage", f"s3://bucket/{place.name}", *flags)


def fetch(place: Path) -> Path:
    """Copies the run from the object store."""
    remote = Remote(f"s3://bucket/{place.name}/run")
    for name in remote.list():
        remote.download(name, place / "fetched" / name)
    return place / "fetched"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("num_workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_a_run_leaves_everything_there_and_goes_on_from_there(
    tmp_path: Path, undisturbed: Path, num_workers: str
) -> None:
    flags = ["--num-workers", num_workers]
    out = finish(start_remote(tmp_path, "sigterm", "first-epoch", *flags), code=143)
    assert "interrupted after epoch" in out
    out = finish(start_remote(tmp_path, "sigterm", "first-epoch", *flags))
    assert "resuming after epoch" in out
    assert f"\ns3://bucket/{tmp_path.name}/run\n" in out
    run = fetch(tmp_path)
    assert_same(run, undisturbed)
    names = {path.name for path in run.iterdir()}
    assert names >= {path.name for path in undisturbed.iterdir()}
    # Two checkpoints and the best one stay, whole.
    assert len(list((run / "checkpoints").glob("epoch-*/manifest.json"))) == 2
    assert len(list((run / "checkpoints").glob("epoch-*"))) == 2
    for path in run.rglob("*"):
        if path.is_file():
            assert SECRET_KEY.encode() not in path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_the_run_is_evaluated_and_loaded_from_there(tmp_path: Path) -> None:
    finish(start_remote(tmp_path, "none", "never"))
    uri = f"s3://bucket/{tmp_path.name}/run"
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs/evaluate.py"), uri], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == uri
    model = annlib.load(f"{uri}/model.keras")
    assert [w.tolist() for w in annlib.load(uri).get_weights()] == [w.tolist() for w in model.get_weights()]
    with pytest.raises(StorageError, match=f"s3://bucket/{tmp_path.name}/none does not exist"):
        annlib.load(f"s3://bucket/{tmp_path.name}/none")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("moment", "seconds", "num_workers"),
    [
        pytest.param("first-epoch", 5.0, "0", marks=pytest.mark.slow),
        *(
            pytest.param(moment, 20.0, "2", marks=pytest.mark.slow)
            for moment in ("first-epoch", "checkpoint", "evaluation", "last-epoch")
        ),
    ],
)
def test_an_outage_is_waited_for(
    tmp_path: Path, undisturbed: Path, store: ObjectStore, moment: str, seconds: float, num_workers: str
) -> None:
    process = start_remote(tmp_path, "wait", moment, "--num-workers", num_workers)
    try:
        wait_for((tmp_path / "marker").exists, "the fault's moment")
        store.stop()
        (tmp_path / "marker").unlink()
        time.sleep(seconds)
        store.start()
        out = finish(process)
    finally:
        process.kill()
    # On the terminal, too.
    assert " is away, training goes on: no answer" in out
    assert " is back after " in out
    run = fetch(tmp_path)
    assert_same(run, undisturbed)
    logs = "".join(path.read_text() for path in [run / "run.log", *run.glob("logs/*rank-0.log")])
    assert " is away, training goes on: no answer" in logs
    assert " is back after " in logs


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_an_outage_for_good_is_one_error_and_loses_nothing(
    tmp_path: Path, undisturbed: Path, store: ObjectStore, num_workers: str
) -> None:
    flags = ["--num-workers", num_workers, "--storage-timeout-s", "3"]
    remote = Remote(f"s3://bucket/{tmp_path.name}/run")
    process = start_remote(tmp_path, "wait", "last-epoch", *flags)
    try:
        wait_for((tmp_path / "marker").exists, "the fault's moment")
        while not any(name.endswith("manifest.json") for name in remote.list()):
            time.sleep(0.1)
        store.stop()
        (tmp_path / "marker").unlink()
        _, errors = process.communicate(timeout=180)
    finally:
        process.kill()
        store.start()
    assert process.returncode == 2, errors
    assert len(errors_of(errors)) == 1, errors
    assert f"error: s3://bucket/{tmp_path.name}/run could not be written for" in errors
    out = finish(start_remote(tmp_path, "none", "never", "--num-workers", num_workers))
    assert "resuming after epoch" in out
    assert_same(fetch(tmp_path), undisturbed)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong-secret-51b7", "a wrong secret key"),
        ("AWS_ACCESS_KEY_ID", "nobody", "an unknown access key"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "no answer"),
    ],
)
def test_a_store_that_cannot_be_written_is_one_line(
    environment: dict[str, str], tmp_path: Path, name: str, value: str, reason: str
) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs/train.py"), "digits", "--storage", f"s3://bucket/{tmp_path.name}"],
        env={**os.environ, **environment, name: value},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"received {reason}." in done.stderr
    assert "wrong-secret" not in done.stdout + done.stderr
    assert environment["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr


@pytest.mark.usefixtures("environment")
def test_a_checkpoints_manifest_comes_last_and_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote(f"s3://bucket/{tmp_path.name}")
    calls: list[str] = []
    for name in ("upload", "delete"):
        original = getattr(remote, name)

        def noted(*arguments: object, name: str = name, original: object = original) -> None:
            calls.append(f"{name} {Path(str(arguments[-1])).name}")
            original(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(remote, name, noted)
    directory = tmp_path / "run" / "checkpoints/epoch-00001"
    directory.mkdir(parents=True)
    for name in ("manifest.json", "model.keras", "state.npz"):
        (directory / name).write_text(name)
    (directory / ".state.npz.tmp").write_text("half")
    with Mirror(tmp_path / "run", remote, timeout_s=5.0) as mirror:
        mirror.flush()
        assert calls == ["upload model.keras", "upload state.npz", "upload manifest.json"]
        calls.clear()
        for path in list(directory.iterdir()):
            path.unlink()
        mirror.flush()
    assert calls[0] == "delete manifest.json"
    assert remote.list() == {}


@pytest.mark.usefixtures("environment")
def test_a_file_that_grows_is_copied_again(tmp_path: Path) -> None:
    remote = Remote(f"s3://bucket/{tmp_path.name}")
    (tmp_path / "run").mkdir()
    log = tmp_path / "run/run.log"
    with Mirror(tmp_path / "run", remote, timeout_s=5.0) as mirror, log.open("a") as file:
        for line in range(3):
            file.write(f"line {line}\n")
            file.flush()
            mirror.flush()
            assert remote.list() == {"run.log": log.stat().st_size}
    remote.download("run.log", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "line 0\nline 1\nline 2\n"


@pytest.mark.usefixtures("environment")
def test_a_configuration_is_read_from_the_object_store(tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text("workload: digits\nepochs: 7\n")
    Remote("s3://bucket/searches").upload(tmp_path / "best.yaml", "first/best.yaml")
    config = load_config({}, defaults=DEFAULTS, config_file="s3://bucket/searches/first/best.yaml", environment={})
    assert (config.workload, config.epochs) == ("digits", 7)
    for uri, message in (
        ("s3://bucket/searches/none.yaml", "received No such file or directory"),
        ("s3://:secret@bucket/best.yaml", "holds credentials or options"),
    ):
        with pytest.raises(ConfigError, match=rf"^--config .*{message}") as caught:
            load_config({}, defaults=DEFAULTS, config_file=uri, environment={})
        assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("file", ["config.yaml", "search.yaml"])
def test_a_table_is_streamed_where_the_run_or_search_on_the_object_store_is(tmp_path: Path, file: str) -> None:
    (tmp_path / "a.csv").write_text("size,price\n1,2\n")
    (tmp_path / file).write_text("streaming: true\n")
    place = f"s3://bucket/{tmp_path.name}"
    Remote(f"{place}/begun").upload(tmp_path / file, file)
    values = {"workload": "table", "data": str(tmp_path / "a.csv"), "target": "price", "storage": place}
    for name in ("begun", "new"):
        config = load_config({**values, "name": name}, defaults=DEFAULTS, environment={}, config_class=TableConfig)
        assert isinstance(config, TableConfig)
        assert settle(config).streaming == (name == "begun")


@pytest.mark.usefixtures("environment")
def test_a_table_is_read_from_the_object_store(tmp_path: Path) -> None:
    frame = pd.DataFrame({"size": np.arange(30) % 7, "price": np.arange(30) / 3})
    for part, start_row in enumerate((0, 10, 20)):
        frame[start_row : start_row + 10].to_parquet(tmp_path / "part.parquet")
        Remote("s3://bucket/sales").upload(tmp_path / "part.parquet", f"year=2024/part-{part}.parquet")
    for pattern in ("s3://bucket/sales/*/part-[0-2].parquet", "s3://bucket/sales", "s3://bucket/sales/**/*.parquet"):
        found = find_table(pattern)
        table = read_table(found, found.names)
        assert table.column("price").to_pylist() == frame["price"].tolist()
    with pytest.raises(DataError, match=r"s3://bucket/none/\*\.parquet does not exist: expected a file that matches"):
        find_table("s3://bucket/none/*.parquet")
    with pytest.raises(DataError, match=r"nobucket/a\.csv"):
        find_table("s3://nobucket/a.csv")
