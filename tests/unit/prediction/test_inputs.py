"""Which files a glob or a directory stands for."""

import os
from pathlib import Path

import pytest
from pyarrow import fs

from annlib import storage
from annlib.errors import ConfigError, DataError
from annlib.prediction.inputs import _is_meant, find_inputs, is_many, without_input


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.csv", "b.parquet", "day=1/c.parquet", "day=1/_d.csv", "day=2/h=1/e.npy", ".f.csv", "notes.txt"):
        path = tmp_path / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "new"


def names(location: object, output: Path) -> list[str]:
    return sorted(file.name for file in find_inputs(str(location), str(output)))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["a.csv", "b.parquet", "day=1/c.parquet", "day=2/h=1/e.npy"]),
        ("*", ["a.csv", "b.parquet", "day=1/c.parquet", "day=2/h=1/e.npy", "notes.txt"]),
        ("*.csv", ["a.csv"]),
        ("[ab].*", ["a.csv", "b.parquet"]),
        ("**/*.parquet", ["b.parquet", "day=1/c.parquet"]),
        ("day=*/*.parquet", ["day=1/c.parquet"]),
        ("day=*", ["day=1/c.parquet", "day=2/h=1/e.npy"]),
        ("b.parquet", ["b.parquet"]),
    ],
)
def test_a_pattern_gives_the_same_files_here_and_on_an_object_store(
    tree: Path, tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    assert names(tree / pattern, tmp_path / "out") == expected
    files = [path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()]
    found = [name for name in files if _is_meant(name.split("/"), pattern)]
    assert sorted(name for name in found if not any(part[0] in "._" for part in name.split("/"))) == expected


@pytest.mark.parametrize("pattern", ["day=2", "day=2/h=1", "day=2/h=1/*", "day=2/h=1/e.npy"])
def test_directories_of_keys_are_kept_whatever_part_is_given(tree: Path, tmp_path: Path, pattern: str) -> None:
    (file,) = find_inputs(str(tree / pattern), str(tmp_path / "out"))
    assert (file.root, file.output_name) == (str(tree), "day=2/h=1/e.parquet")


def test_the_largest_file_comes_first_and_outputs_keep_the_path(tree: Path, tmp_path: Path) -> None:
    files = find_inputs(str(tree), str(tmp_path / "out"))
    assert [file.num_bytes for file in files] == sorted((file.num_bytes for file in files), reverse=True)
    by_name = {file.name: file for file in files}
    assert by_name["day=2/h=1/e.npy"].output_name == "day=2/h=1/e.parquet"
    assert by_name["a.csv"].location == str(tree / "a.csv")


def test_a_changed_file_is_another_version(tree: Path, tmp_path: Path) -> None:
    (before,) = find_inputs(str(tree / "*.csv"), str(tmp_path / "out"))
    os.utime(tree / "a.csv", ns=(1, 1))
    (after,) = find_inputs(str(tree / "*.csv"), str(tmp_path / "out"))
    assert before.version != after.version


def test_the_output_is_no_input(tree: Path) -> None:
    assert names(tree, tree / "day=1") == ["a.csv", "b.parquet", "day=2/h=1/e.npy"]
    with pytest.raises(ConfigError, match="is in the directory of the output"):
        names(tree / "*.csv", tree)
    with pytest.raises(ConfigError, match="is in the directory of the output"):
        names(tree / "day=1/*.parquet", tree)


def test_the_output_is_no_input_by_another_name(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    rest = ["a.csv", "b.parquet", "day=2/h=1/e.npy"]
    assert names(tree, tmp_path / "link/day=1") == rest
    assert names(tmp_path / "link", tree / "day=1") == rest
    assert names(tree, tree / "../new/day=1") == rest
    # A file of the output is none either, by a link to it.
    (tree / "c.parquet").symlink_to(tree / "day=1/c.parquet")
    assert names(tree, tree / "day=1") == rest
    for output in (tmp_path / "link", tree / "day=2/.."):
        with pytest.raises(ConfigError, match="is in the directory of the output"):
            names(tree / "*.csv", output)


def test_outputs_whose_input_is_gone_are_found_here_and_on_an_object_store(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = ["a.parquet", "day=2/h=1/e.parquet", "f.parquet", "notes.parquet", ".g.parquet.0.tmp.parquet"]
    assert without_input(str(tree), outputs) == outputs[2:4]
    files = fs.SubTreeFileSystem(str(tree.parent), fs.LocalFileSystem())
    monkeypatch.setattr(storage, "_filesystem", lambda scheme, bucket: files)
    assert without_input("s3://new", outputs) == outputs[2:4]


def test_two_files_for_one_output_are_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "a.npy").write_text("")
    with pytest.raises(ConfigError, match=r"two files for one output: .* a\.parquet, received .*a\.\w+ and a\.\w+"):
        names(tree, tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "other"), [("x.csv", "x.parquet/part-0.csv"), ("x.npy", "x.parquet/a/b.csv"), ("x.npy", "x.csv/b.csv")]
)
def test_a_file_and_a_directory_for_one_output_are_refused(tmp_path: Path, file: str, other: str) -> None:
    for name in (file, other):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("")
    with pytest.raises(ConfigError, match=f"a file and a directory for one output: .* received {file} and {other}"):
        names(tmp_path / "in", tmp_path / "out")


def test_directories_that_are_named_as_files_are_taken(tmp_path: Path) -> None:
    expected = ["x.csv/0.csv", "x.parquet/0.csv", "x/0.csv", "y.csv", "y/0.csv", "z.parquet/z.csv"]
    for name in expected:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("")
    assert names(tmp_path / "in", tmp_path / "out") == expected


@pytest.mark.parametrize("pattern", ["*.json", "none/*.csv", "day=1/_*"])
def test_no_files_are_refused(tree: Path, tmp_path: Path, pattern: str) -> None:
    with pytest.raises(DataError, match="matches no files"):
        names(tree / pattern, tmp_path / "out")


@pytest.mark.parametrize(
    ("uri", "expected"), [("http://x/y", "the input has the scheme http://"), ("s3://", "names no bucket")]
)
def test_a_wrong_uri_is_refused(uri: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        find_inputs(uri, "/out")


def test_what_may_be_many(tree: Path) -> None:
    (tree / "[x].csv").write_text("")
    (tree / "pictures").mkdir()
    assert is_many("s3://bucket/a.csv")
    assert is_many(str(tree))
    assert is_many(str(tree / "*.csv"))
    assert not is_many(str(tree / "a.csv"))
    assert not is_many(str(tree / "[x].csv"))
    assert not is_many(str(tree / "pictures"))
    assert not is_many(str(tree / "none.csv"))
