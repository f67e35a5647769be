import subprocess
import sys
import textwrap
import time
from pathlib import Path

PROGRAM = """
    import logging, os, sys
    from pathlib import Path
    from annlib.training.distributed.worker_log import log_to

    log_to(Path(sys.argv[1]), "run attempt 2 rank 1 node b")
    logging.getLogger("annlib.some").info("a message\\nof two lines")
    os.write(2, b"from C++\\n")
    print("from Python", file=sys.stderr)
    os.write(2, b"last words")
    os.abort()
"""


def test_every_line_has_its_place_and_the_last_words_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("an earlier line\n")
    subprocess.run([sys.executable, "-c", textwrap.dedent(PROGRAM), str(log)], check=False, timeout=60)
    deadline = time.monotonic() + 30
    # The writer is a process of its own, which may end after the worker.
    while "last words" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    first, *lines = log.read_text().splitlines()
    assert first == "an earlier line"
    place = "run attempt 2 rank 1 node b "
    assert [line.removeprefix(place) for line in lines if line.startswith(place)][1:] == [
        "of two lines",
        "from C++",
        "from Python",
        "last words",
    ]
    assert lines[0].endswith(" INFO annlib.some: a message")
    assert all(line.startswith(place) for line in lines)
