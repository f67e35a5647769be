import subprocess
import sys
import textwrap
import time
from pathlib import Path

PROGRAM = """
    import logging, os, sys
    from pathlib import Path
    from annlib.training.distributed.worker_log import log_to

    with log_to(Path(sys.argv[1]), "run attempt 2 rank 1 node b"):
        logging.getLogger("annlib.some").info("a message\\nof two lines")
        os.write(2, b"from C++\\n")
        print("from Python", file=sys.stderr)
        os.write(2, b"last words")
        os.abort()
"""
ENDING = """
    import logging, sys
    from pathlib import Path
    from annlib.training.distributed.worker_log import log_to

    with log_to(Path(sys.argv[1]), "run"):
        for number in range(2000):
            logging.getLogger("annlib.some").info("line %d", number)
    print(len(Path(sys.argv[1]).read_text().splitlines()))
    print("outside of it", file=sys.stderr)
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


def test_the_file_has_all_lines_when_the_log_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ENDING), str(tmp_path / "run.log")],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "2000\n"
    assert done.stderr == "outside of it\n"
