"""The order of the sources, and one line for each wrong value."""

from pathlib import Path
from typing import Any

import pytest

from annlib.config import RunConfig, load_config
from annlib.errors import ConfigError

DEFAULTS = {"epochs": 30, "global_batch_size": 32, "learning_rate": 0.01}


def load(
    file: Path | None = None,
    environment: dict[str, str] | None = None,
    config_class: type[RunConfig] = RunConfig,
    **arguments: Any,
) -> Any:
    return load_config(
        {"workload": "digits", **arguments},
        defaults=DEFAULTS,
        config_file=file,
        environment=environment or {},
        config_class=config_class,
    )


def test_each_source_beats_the_next(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("epochs: 7\nseed: 7\nlearning_rate: 0.7\n")
    config = load(file, {"ANNLIB_EPOCHS": "8", "ANNLIB_SEED": "8"}, epochs="9")
    assert (config.epochs, config.seed, config.learning_rate, config.global_batch_size) == (9, 8, 0.7, 32)


def test_the_resolved_yaml_gives_the_same_configuration(tmp_path: Path) -> None:
    config = load(name="run", num_workers="2")
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert load_config({}, defaults={}, config_file=file, environment={}) == config


@pytest.mark.parametrize(("given", "hidden"), [("300,100", (300, 100)), (30, (30,)), ([5, 6], (5, 6)), ("30", (30,))])
def test_hidden_layers_are_read_and_written(given: Any, hidden: tuple[int, ...], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    config = load(hidden=given, name="run")
    assert config.hidden == hidden
    file.write_text(config.to_yaml())
    assert load(file, name="run") == config


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        load().epochs = 3


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"epochs": "-1"}, ["epochs", "greater than or equal to 1", "'-1'", "--epochs"]),
        ({"epochs": "two"}, ["epochs", "integer", "'two'"]),
        ({"learning_rate": "nan"}, ["learning_rate", "finite", "'nan'", "--learning-rate"]),
        ({"learning_rate": "0"}, ["learning_rate", "greater than 0", "'0'"]),
        ({"global_batch_size": "0"}, ["global_batch_size", "greater than or equal to 1"]),
        ({"num_workers": "-2"}, ["num_workers", "0 or more, or two as 1:4", "'-2'"]),
        ({"num_workers": "4:2"}, ["num_workers", "1 <= fewest <= most", "'4:2'"]),
        ({"num_workers": "0:2"}, ["num_workers", "1 <= fewest <= most"]),
        ({"num_workers": "1:2:3"}, ["num_workers", "1:4"]),
        ({"hidden": "300,"}, ["hidden", "valid integer", "--hidden"]),
        ({"hidden": "0"}, ["hidden", "greater than or equal to 1"]),
        ({"formats": 5}, ["formats", "expected a text such as 'a,b' or a list such as ['a', 'b'], received 5"]),
        ({"hidden": ()}, ["hidden", "at least one value"]),
        ({"activation": "rleu"}, ["activation", "'relu'", "'rleu'"]),
        ({"optimizer": "sdg"}, ["optimizer", "'sgd'", "'sdg'"]),
        ({"seed": "-1"}, ["seed", "greater than or equal to 0"]),
        ({"name": "a/b"}, ["name", "letters", "'a/b'"]),
        ({"epoch": "3"}, ["'epoch'", "did you mean epochs?"]),
        ({"sync_every": "4"}, ["sync_every", "no value without --num-workers 2 or more", "'4'"]),
        ({"sync_every": "0", "num_workers": "2"}, ["sync_every", "greater than or equal to 1"]),
        ({"gradient_compression": "float16"}, ["gradient_compression", "without --num-workers 2"]),
        ({"gradient_compression": "int8", "num_workers": "2"}, ["gradient_compression", "'bfloat16'", "'int8'"]),
        ({"gradient_accumulation": "33"}, ["gradient_accumulation", "at most the global batch size 32", "'33'"]),
        ({"precision": "mixed_bfloat16"}, ["precision", "batch size of 32", "faster from 256 on"]),
        ({"precision": "mixed_float16"}, ["precision", "batch size of 32", "faster from 256 on"]),
        ({"precision": "float16"}, ["precision", "'mixed_bfloat16'", "'float16'"]),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(arguments: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_an_unknown_key_of_the_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("epoch: 7\n")
    with pytest.raises(ConfigError, match=r"run\.yaml is unknown \(did you mean epochs\?\)"):
        load(file)


def test_an_unknown_variable_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"ANNLIB_EPOCH is unknown \(did you mean ANNLIB_EPOCHS\?\)"):
        load(environment={"ANNLIB_EPOCH": "7"})


def test_the_variable_of_the_cache_is_none_of_the_run() -> None:
    assert load(environment={"ANNLIB_CACHE_DIR": "/x"}).epochs == 30
    with pytest.raises(ConfigError, match=r"epochs from the environment is wrong: .* Correct ANNLIB_EPOCHS\.$"):
        load(environment={"ANNLIB_EPOCHS": "x"})


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.yaml")


class OwnConfig(RunConfig):
    flag: bool | int = False
    rates: tuple[float, ...] = ()


@pytest.mark.parametrize(
    "line",
    [
        "epochs: yes",
        "learning_rate: on",
        "early_stopping_patience: true",
        "keep: no",
        "seed: false",
        "num_workers: yes",
        "hidden: true",
        "hidden: [5, yes]",
        "rates: [0.5, true]",
    ],
)
def test_a_boolean_is_no_number(line: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"{line}\n")
    name = line.split(":")[0]
    with pytest.raises(
        ConfigError, match=rf"{name} from the file .*run\.yaml is wrong: expected .*, received .*(Tru|Fals)e"
    ):
        load(tmp_path / "run.yaml", config_class=OwnConfig)


def test_what_may_be_a_boolean_stays_one(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("flag: yes\nuse_gpu: no\n")
    config = load(tmp_path / "run.yaml", config_class=OwnConfig)
    assert (config.flag, config.use_gpu) == (True, False)


@pytest.mark.parametrize("content", ["- 1\n", "a: [\n", "just text\n"])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def test_the_default_name_is_the_books() -> None:
    import datetime

    assert datetime.datetime.strptime(load().name, "run_%Y_%m_%d-%H_%M_%S")


def test_a_range_of_workers_survives_yaml(tmp_path: Path) -> None:
    # YAML 1.1 takes an unquoted 1:4 for 64.
    file = tmp_path / "run.yaml"
    file.write_text("num_workers: 1:4\n")
    config = load(file)
    assert (config.num_workers, config.uses_ray) == ((1, 4), True)
    file.write_text(config.to_yaml().replace("workload: digits\n", ""))
    assert load(file).num_workers == (1, 4)
    assert load(num_workers="2").num_workers == (2, 2)
    assert not load().uses_ray
