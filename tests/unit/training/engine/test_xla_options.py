import os

import pytest

from annlib.training.engine.compilation import Compilation
from annlib.training.engine.xla_options import compiling

OPTION, OTHER = "--xla_cpu_one=1", "--xla_cpu_other="


def test_options_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with compiling([OPTION, OTHER]):
        assert os.environ["XLA_FLAGS"] == f"{OPTION} {OTHER}"
    assert "XLA_FLAGS" not in os.environ
    with compiling([]):
        assert "XLA_FLAGS" not in os.environ


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=there")
    with compiling([OPTION]):
        assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=there {OPTION}"
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=there"
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_one=2")
    with compiling([OPTION, OTHER]):
        assert os.environ["XLA_FLAGS"] == f"--xla_cpu_one=2 {OTHER}"


@pytest.mark.parametrize(
    ("compilation", "options"),
    [
        (Compilation(mode="graph", reason=""), []),
        (Compilation(mode="xla", reason="", loops="function"), ["small_while_loop"]),
        (Compilation(mode="xla", reason="", loops="calls"), ["small_while_loop"]),
        (Compilation(mode="xla", reason="", loops="calls", steps_at_once=5), ["small_while_loop", "ynn_fusion"]),
    ],
)
def test_options_of_a_compilation(compilation: Compilation, options: list[str]) -> None:
    assert len(compilation.xla_options) == len(options)
    assert all(name in option for name, option in zip(options, compilation.xla_options, strict=True))
