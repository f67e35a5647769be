"""What the entry points share."""

import argparse

import pytest

from annlib.command import Parser, add_run_flags, given_values, positive_integer, run_command
from annlib.config import RunConfig
from annlib.errors import ConfigError, NonFiniteLossError


def test_every_field_of_the_configuration_has_a_flag() -> None:
    parser = Parser()
    add_run_flags(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    expected = {"--" + name.replace("_", "-") for name in RunConfig.model_fields if name != "workload"}
    assert expected | {"--config"} <= flags


def test_only_given_values_are_passed_on() -> None:
    parser = Parser()
    add_run_flags(parser)
    values = given_values(parser.parse_args(["--epochs", "3", "--use-gpu"]))
    assert values == {"epochs": "3", "use_gpu": True}


@pytest.mark.parametrize("arguments", [["--epoch", "3"], ["--epochs"], ["more"]])
def test_a_wrong_flag_is_one_line_and_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser()
    add_run_flags(parser)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert arguments[0] in message


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "²"])
def test_positive_integer_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="whole number of 1 or more"):
        positive_integer(text)


@pytest.mark.parametrize(("error", "code"), [(ConfigError("a\n b"), 2), (NonFiniteLossError("c"), 1)])
def test_an_error_becomes_one_line_and_its_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        raise error

    assert run_command(command) == code
    assert capsys.readouterr().err == f"error: {' '.join(str(error).split())}\n"


def test_ctrl_c_is_exit_code_130() -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert run_command(command) == 130
