"""`jobs/benchmark.py` as a user runs it. What it measures is tested in tests/unit/benchmark."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Job = Callable[..., subprocess.CompletedProcess[str]]


def test_help_and_bad_flags_import_no_framework(imports: Callable[..., set[str]]) -> None:
    for arguments in (["--help"], ["--rounds", "0"]):
        found = imports("benchmark", *arguments)
        assert "annlib" in found
        assert not found & {"tensorflow", "keras", "ray", "pandas", "sklearn", "matplotlib", "jax", "torch", "scipy"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "expected a whole number of 1 or more, received '0'"),
        (["--case", "nothing"], "invalid choice: 'nothing'"),
        (["--record"], "--record writes the file of --compare, which is missing"),
        (
            ["--compare", "x.json", "--plot", "x.png"],
            "--compare goes without --json, --plot, and --case scaling or streaming",
        ),
        (["--compare", "x.json", "--case", "streaming"], "--compare goes without --json, --plot, and --case scaling"),
        (
            ["--compare", "x.json", "--case", "scaling"],
            "--compare goes without --json, --plot, and --case scaling or streaming",
        ),
        (["--compare", "/nowhere/x.json"], "/nowhere/x.json cannot be read: expected the JSON file"),
        (["--compare", "/nowhere/x.json", "--record"], "expected a file in a writable directory"),
        (["--json", "/nowhere/x.json"], "expected a file in a writable directory"),
        (["--plot", "/"], "Give the name of a file"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_measured(job: Job, arguments: list[str], message: str) -> None:
    done = job("benchmark", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_a_named_case_without_its_data_is_one_line(job: Job, tmp_path: Path) -> None:
    done = job("benchmark", "--case", "regressor", "--data-dir", tmp_path / "nowhere")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "nowhere" in done.stderr
