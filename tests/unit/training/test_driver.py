import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from annlib.training import driver


def test_a_second_sigterm_changes_nothing_and_ctrl_c_stops_at_once() -> None:
    output = StringIO()
    with driver.collect_signals(Console(file=output)) as signals:
        signals.phase = "training"
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == [signal.SIGTERM, signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert output.getvalue() == "SIGTERM: stopping with a checkpoint; Ctrl-C stops at once\n"


@pytest.fixture
def sighup() -> Iterator[Callable[[signal.Handlers], object]]:
    """Sets how SIGHUP is handled; the tests themselves may run below `nohup`."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    signal.signal(signal.SIGHUP, before)


def test_the_end_of_a_terminal_stops_with_a_checkpoint_and_shows_nothing_more(
    sighup: Callable[[signal.Handlers], object],
) -> None:
    sighup(signal.SIG_DFL)
    output = StringIO()
    console = Console(file=output)
    with driver.collect_signals(console) as signals:
        signals.phase = "training"
        os.kill(os.getpid(), signal.SIGHUP)
        console.print("an epoch")
    assert signals.received == [signal.SIGHUP]
    assert output.getvalue() == ""


def test_below_nohup_the_end_of_a_terminal_changes_nothing(sighup: Callable[[signal.Handlers], object]) -> None:
    sighup(signal.SIG_IGN)
    with driver.collect_signals(Console(file=StringIO())) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
    assert signals.received == []


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_before_the_training_a_signal_ends_the_process_at_once(
    sent: signal.Signals, code: int, sighup: Callable[[signal.Handlers], object]
) -> None:
    sighup(signal.SIG_DFL)
    with driver.collect_signals(Console(file=StringIO())) as signals:
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), sent)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.code == code
    assert signals.received == []


def test_after_the_training_the_last_files_are_written_whatever_comes() -> None:
    output = StringIO()
    with driver.collect_signals(Console(file=output)) as signals:
        signals.phase = "ending"
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert output.getvalue() == ""


def test_work_goes_on_when_nobody_reads_the_output(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from annlib.training.driver import DriverConsole\n"
        "console = DriverConsole(file=sys.stdout)\n"
        "for epoch in range(5000): console.print('epoch', epoch)\n"
        "Path(sys.argv[1]).write_text('done')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "end"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"epoch 0\n"
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "end").read_text() == "done"


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
