"""Many files in this process: outputs against NumPy, going on, changes, other models, limits."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from rich.console import Console

from annlib import storage
from annlib.artifacts import RunDirectory
from annlib.errors import AnnlibError, ConfigError, DataError, StorageError
from annlib.prediction import many_files, predict, predictor
from annlib.prediction.many_files import predict_files


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Two sound files and one with two bad rows."""
    (tmp_path / "new/day=1").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, num_rows in (("day=1/one.parquet", 50), ("two.parquet", 20)):
        pd.DataFrame(rng.normal(size=(num_rows, 3)), columns=["c", "a", "b"]).assign(
            id=[f"{i:03d}" for i in range(num_rows)]
        ).to_parquet(tmp_path / "new" / name)
    (tmp_path / "new/three.csv").write_text("a,b,c,id\n1,1,1,007\nx,1,1,008\n1,1,1\n2,0,0,010\n")
    return tmp_path / "new"


def run_on(run: RunDirectory, source: object, output: Path, **options: Any) -> tuple[int, list[str], list[str]]:
    """Returns the exit code and the lines of output and errors."""
    console, errors = (Console(file=io.StringIO(), width=500) for _ in range(2))
    code = predict_files(str(run.path), str(source), str(output), console=console, error_console=errors, **options)
    printed = [each.file.getvalue().splitlines() for each in (console, errors)]  # type: ignore[attr-defined]
    return code, printed[0], printed[1]


def files_of(output: Path) -> list[str]:
    return sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())


def test_each_file_gets_one_of_its_own(run: RunDirectory, new: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, lines, errors = run_on(run, new, out)
    assert (code, errors) == (0, [])
    assert files_of(out) == ["_rejected/three.csv", "day=1/one.parquet", "three.parquet", "two.parquet"]
    for name in ("day=1/one.parquet", "two.parquet"):
        given, found = pd.read_parquet(new / name), pq.ParquetFile(out / name).read().to_pandas()
        expected = given["a"] + 2 * given["b"] + 4 * given["c"] + 0.5
        np.testing.assert_allclose(found.pop("predicted_price"), expected, rtol=1e-5, atol=1e-5)
        pd.testing.assert_frame_equal(found, given)
    three = pq.ParquetFile(out / "three.parquet").read().to_pydict()
    assert three == {"a": [1, 2], "b": [1, 0], "c": [1, 0], "id": ["007", "010"], "predicted_price": [7.5, 2.5]}
    assert pd.read_csv(out / "_rejected/three.csv").to_numpy().tolist() == [
        [str(new / "three.csv"), 2, "column 'a': expected a number that fits into float32, received 'x'"],
        [str(new / "three.csv"), 3, "expected 4 values, as many as names, received 3"],
    ]
    assert lines[0] == "3 files, 0 of them done before, 0 changed since"
    assert any(line.startswith("three.csv: 2 of 4 rows are set aside, the first: row 2: column 'a'") for line in lines)
    assert any(line.startswith("predicted 72 rows of 3 files in ") for line in lines)
    assert lines[-2:] == [f"2 rows are set aside, see {out}/_rejected", str(out)]
    # Together they read as one data set, without what was set aside.
    assert len(pd.read_parquet(out, columns=["id", "predicted_price"])) == 72


def test_what_is_done_is_not_done_again_and_what_changed_is(run: RunDirectory, new: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_on(run, new, out)
    before = {name: (out / name).stat().st_mtime_ns for name in files_of(out)}
    code, lines, _ = run_on(run, new, out)
    assert code == 0
    assert lines[0] == "3 files, 3 of them done before, 0 changed since"
    assert "2 rows are set aside" in lines[-2]
    assert {name: (out / name).stat().st_mtime_ns for name in files_of(out)} == before
    (new / "three.csv").write_text("a,b,c,id\n1,1,1,007\n")
    (new / "four.csv").write_text("a,b,c\n0,0,0\n")
    _, lines, _ = run_on(run, new, out)
    assert lines[0] == "4 files, 2 of them done before, 1 changed since"
    assert files_of(out) == ["day=1/one.parquet", "four.parquet", "three.parquet", "two.parquet"]
    assert pq.read_metadata(out / "three.parquet").num_rows == 1


def test_a_broken_file_is_left_out_and_the_rest_goes_on(run: RunDirectory, new: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_on(run, new, out)
    (new / "two.parquet").write_bytes(b"PAR1 broken")
    (new / "lacks.csv").write_text("a,b\n1,2\n")
    code, lines, errors = run_on(run, new, out)
    assert code == 2
    assert len(errors) == 3
    assert any(error.startswith(f"error: {new}/lacks.csv lacks the columns c") for error in errors)
    assert any(error.startswith(f"error: {new}/two.parquet cannot be read") for error in errors)
    assert errors[-1] == "error: 2 of 4 files were left out"
    # Not the predictions of what the file was before.
    assert files_of(out) == ["_rejected/three.csv", "day=1/one.parquet", "three.parquet"]
    assert lines[-1] == str(out)


def test_predictions_of_another_model_are_refused_or_replaced(
    run: RunDirectory, other_run: RunDirectory, new: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_on(run, new / "two.parquet", out)
    with pytest.raises(ConfigError, match=r"two\.parquet is of another model: .* --overwrite"):
        run_on(other_run, new, out)
    assert files_of(out) == ["two.parquet"]
    assert run_on(other_run, new, out, overwrite=True)[0] == 0
    given, found = pd.read_parquet(new / "two.parquet"), pq.ParquetFile(out / "two.parquet").read().to_pandas()
    expected = given["a"] + 2 * given["b"] + 5 * given["c"] + 0.5
    np.testing.assert_allclose(found["predicted_price"], expected, rtol=1e-5, atol=1e-5)


def test_a_file_of_something_else_is_refused(run: RunDirectory, new: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/two.parquet").write_text("mine")
    with pytest.raises(ConfigError, match=r"two\.parquet is not of this command"):
        run_on(run, new, tmp_path / "out")
    assert (tmp_path / "out/two.parquet").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_predictions_of_a_file_that_is_gone_are_told_of_and_stay(
    run: RunDirectory, new: Path, tmp_path: Path, overwrite: bool
) -> None:
    out = tmp_path / "out"
    run_on(run, new, out)
    (out / "mine.parquet").write_bytes((new / "two.parquet").read_bytes())
    # Not gone, but not meant this time.
    _, lines, _ = run_on(run, new / "day=1/*.parquet", out)
    assert not any("gone" in line for line in lines)
    (new / "two.parquet").unlink()
    _, lines, errors = run_on(run, new, out, overwrite=overwrite)
    assert lines[1] == ("predictions stay whose files are gone (1 in all): two.parquet. Remove what you do not want")
    assert errors == []
    assert (out / "two.parquet").exists()


@pytest.mark.parametrize("num_bytes", [0, 4, 500])
def test_an_output_whose_upload_was_broken_off_is_done_again(
    run: RunDirectory, new: Path, tmp_path: Path, num_bytes: int
) -> None:
    out = tmp_path / "out"
    run_on(run, new, out)
    whole = (out / "two.parquet").read_bytes()
    (out / "two.parquet").write_bytes(whole[:num_bytes])
    code, lines, _ = run_on(run, new, out)
    assert (code, lines[0]) == (0, "3 files, 2 of them done before, 0 changed since")
    assert (out / "two.parquet").read_bytes() == whole


def test_too_many_bad_rows_end_it_also_at_the_next_start(run: RunDirectory, new: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_on(run, new, out, max_bad_rows=2)[0] == 0
    with pytest.raises(DataError, match="expected 1 at most, received 2"):
        run_on(run, new, out, max_bad_rows=1)
    with pytest.raises(DataError, match="expected 1 at most, received 2"):
        run_on(run, new, tmp_path / "again", max_bad_rows=1)


def test_rows_that_the_model_gives_no_number_for_are_set_aside(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("a,b,c\n1,1,1\n1,1,3e38\n2,1,1\n")
    assert run_on(run, tmp_path / "in", tmp_path / "out")[0] == 0
    assert pd.read_parquet(tmp_path / "out/a.parquet")["predicted_price"].tolist() == [7.5, 8.5]
    assert "2,the model gives no finite number" in (tmp_path / "out/_rejected/a.csv").read_text()


def test_a_file_without_rows_is_done(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("a,b,c\n")
    (tmp_path / "in/b.csv").write_text("a,b,c\nx,1,1\n")
    assert run_on(run, tmp_path / "in", tmp_path / "out")[0] == 0
    for name in ("a", "b"):
        table = pd.read_parquet(tmp_path / f"out/{name}.parquet")
        assert len(table) == 0
        assert list(table.columns) == ["a", "b", "c", "predicted_price"]


def test_an_error_while_writing_ends_it_and_leaves_no_half_file(
    run: RunDirectory, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, table: Any) -> None:
        self._path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(predictor._Writer, "write", fail)
    with pytest.raises(AnnlibError, match="received No space left on device"):
        run_on(run, new, tmp_path / "out")
    assert files_of(tmp_path / "out") == []


def test_what_a_killed_process_left_goes_with_the_file(run: RunDirectory, new: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.two.parquet.0123456789abcdef.tmp").write_text("half")
    run_on(run, new / "two.parquet", tmp_path / "out")
    assert files_of(tmp_path / "out") == ["two.parquet"]


def test_the_output_is_written_only_when_the_input_is_found(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="matches no files"):
        run_on(run, tmp_path / "*.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "file"])
def test_an_output_that_is_a_file_is_refused(run: RunDirectory, new: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="expected a directory for the predictions of several files"):
        run_on(run, new, tmp_path / name)


def test_an_output_that_cannot_be_made_is_refused(run: RunDirectory, new: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="cannot be written: expected a directory for the predictions"):
        run_on(run, new, tmp_path / "file/out")


def test_flags_of_many_files_are_refused_with_one(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b,c\n1,1,1\n")
    silent = Console(file=io.StringIO())
    for options in ({"num_workers": 2}, {"max_bad_rows": 0}):
        with pytest.raises(ConfigError, match="is for several files"):
            predict(
                str(run.path),
                str(tmp_path / "in.csv"),
                str(tmp_path / "out.csv"),
                console=silent,
                error_console=silent,
                **options,
            )


def test_the_record_names_model_input_and_rows(run: RunDirectory, new: Path, tmp_path: Path) -> None:
    run_on(run, new / "three.csv", tmp_path / "out")
    record = json.loads(pq.read_metadata(tmp_path / "out/three.parquet").metadata[b"annlib.predicted"])
    status = os.stat(new / "three.csv")
    assert record["source"] == f"{status.st_size} bytes of {status.st_mtime_ns}"
    assert (record["num_rows"], record["num_rejected"]) == (2, 2)
    assert len(record["model"]) == 64
    assert many_files.model_version(run) == record["model"]


def test_files_of_the_same_names_from_elsewhere_replace_nothing(run: RunDirectory, new: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    run_on(run, new, out)
    before = (out / "two.parquet").read_bytes()
    other.mkdir()
    pd.DataFrame({"a": [1.0], "b": [1.0], "c": [1.0]}).to_parquet(other / "two.parquet")
    with pytest.raises(ConfigError, match=r"two\.parquet is of another input: .* received those of .*new/two\.parquet"):
        run_on(run, other, out)
    assert (out / "two.parquet").read_bytes() == before
    assert run_on(run, other, out, overwrite=True)[0] == 0
    assert (out / "two.parquet").read_bytes() != before


def test_a_file_that_vanishes_is_left_out_and_the_others_are_done(
    run: RunDirectory, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = many_files.find_inputs

    def find_then_lose(*arguments: Any) -> Any:
        found = find(*arguments)
        (new / "two.parquet").unlink()
        return found

    monkeypatch.setattr(many_files, "find_inputs", find_then_lose)
    code, _, errors = run_on(run, new, tmp_path / "out")
    assert code == 2
    assert "two.parquet" in errors[0]
    assert errors[-1] == "error: 1 of 3 files were left out"
    assert {"day=1/one.parquet", "three.parquet"} <= set(files_of(tmp_path / "out"))


def test_objects_that_vanish_are_left_out_and_a_store_that_is_away_is_waited_for(
    run: RunDirectory, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        storage, "_filesystem", lambda scheme, bucket: fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    )
    monkeypatch.setattr(storage, "PROBE_EVERY_S", 0.01)
    download, upload = storage.Remote.download, storage.Remote.upload
    names: list[str] = []

    def lose(self: storage.Remote, name: str, local: Path) -> None:
        names.append(name)
        if len(names) == 1:
            raise OSError("AWS Error NETWORK_CONNECTION")
        (new / "two.parquet").unlink(missing_ok=True)
        download(self, name, local)

    def fail_once(self: storage.Remote, local: Path, name: str) -> None:
        names.append(name)
        if names.count(name) == 1:
            raise OSError("AWS Error SLOW_DOWN")
        upload(self, local, name)

    monkeypatch.setattr(storage.Remote, "download", lose)
    monkeypatch.setattr(storage.Remote, "upload", fail_once)
    (tmp_path / "out/day=1").mkdir(parents=True)
    (tmp_path / "out/_rejected").mkdir()
    console, errors = (Console(file=io.StringIO(), width=500) for _ in range(2))
    code = predict_files(str(run.path), "s3://new", "s3://out", console=console, error_console=errors)
    assert code == 2
    assert errors.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "error: s3://new/two.parquet is gone: expected the file that was listed, received none. Put it back, or leave "
        "it out.",
        "error: 1 of 3 files were left out",
    ]
    assert files_of(tmp_path / "out") == ["_rejected/three.csv", "day=1/one.parquet", "three.parquet"]


def test_a_file_with_an_open_quote_is_left_out(run: RunDirectory, new: Path, tmp_path: Path) -> None:
    (new / "three.csv").write_text('a,b,c,id\n1,1,1,"007\n1,1,1,008\n')
    code, _, errors = run_on(run, new, tmp_path / "out")
    assert code == 2
    assert "three.csv cannot be read" in errors[0]
    assert 'a quote " that is not closed' in errors[0]
    assert "three.parquet" not in files_of(tmp_path / "out")
    (new / "three.csv").write_text('a,b,c,id\n1,1,1,"007\n and more"\n')
    assert run_on(run, new, tmp_path / "out")[0] == 0
