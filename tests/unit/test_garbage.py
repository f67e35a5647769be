import subprocess
import sys

# Functions that are registered first run last.
SCRIPT = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 0))
default = gc.get_threshold()
from annlib.command import run_command
run_command(lambda: 0)
print(gc.get_threshold()[0] > default[0], gc.get_threshold()[1:] == default[1:], gc.isenabled())
"""


def test_commands_look_for_garbage_seldom_and_not_at_their_end():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "True", "True", "True"]
