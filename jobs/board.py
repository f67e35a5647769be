"""Shows runs in TensorBoard, also while they train: `python jobs/board.py s3://bucket/runs`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not

from annlib import board
from annlib.command import Parser, run_command, whole_number


def port(text: str) -> int:
    """Parses the number of a port, for `type=`."""
    number = whole_number(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, received {text!r}")
    return number


def main() -> int:
    """Parses the command line and serves until Ctrl-C; returns the exit code."""
    parser = Parser(prog="jobs/board.py", description="Show runs in TensorBoard, on this machine alone.")
    parser.add_argument("storage", nargs="?", default="runs", help="directory of runs, a path or a URI (default: runs)")
    parser.add_argument("--port", type=port, default=6006, help="port to serve on (default: 6006)")
    arguments = parser.parse_args()
    return run_command(lambda: board.serve(arguments.storage, port=arguments.port))


if __name__ == "__main__":
    sys.exit(main())
