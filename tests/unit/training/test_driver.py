import os
import signal
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from annlib.training import driver


def test_a_second_sigterm_changes_nothing_and_ctrl_c_stops_at_once() -> None:
    output = StringIO()
    with driver.collect_signals(Console(file=output)) as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM, signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert output.getvalue() == "SIGTERM: stopping with a checkpoint; Ctrl-C stops at once\n"


def test_lines_of_a_shared_file_stay_whole_where_they_are_written_in_parts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "run.log"
    with driver.output_to(log, place="driver"):
        # As C++ libraries do: the end of a line comes by itself, and another process may write in between.
        os.write(2, b"from C++")
        with log.open("a") as other:
            other.write("rank 1 a line\n")
        os.write(2, b"\n")
        sys.stdout.write("from Python\n")
    os.write(2, b"to the terminal\n")
    assert log.read_text().splitlines() == ["rank 1 a line", "driver from C++", "driver from Python"]
    assert capfd.readouterr() == ("", "to the terminal\n")
