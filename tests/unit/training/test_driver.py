import os
import signal
from io import StringIO

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
