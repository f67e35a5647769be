from pathlib import Path

from annlib.artifacts import RunDirectory
from annlib.config import RunConfig, load_config
from annlib.run import _with_free_name

DEFAULTS = {"workload": "digits", "epochs": 1, "global_batch_size": 32, "learning_rate": 0.1}


def config(storage: Path, **values: object) -> RunConfig:
    return load_config({"storage": storage, **values}, defaults=DEFAULTS, environment={})


def test_runs_that_begin_in_the_same_second_get_directories_of_their_own(tmp_path: Path) -> None:
    first = config(tmp_path)
    found = first, RunDirectory(first.run_path)
    for number in ("", "-2", "-3"):
        found = _with_free_name(first, RunDirectory(first.run_path))
        assert found[0].name == first.name + number
        assert found[1].path == found[0].run_path
        found[1].path.mkdir()


def test_a_name_that_is_given_stays(tmp_path: Path) -> None:
    given = config(tmp_path, name="mine")
    given.run_path.mkdir()
    assert _with_free_name(given, RunDirectory(given.run_path))[0] == given
