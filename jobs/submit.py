"""Runs a command as a job of a Ray cluster: `python jobs/submit.py -- python jobs/train.py fashion-mnist`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not

from annlib.command import Parser, positive_integer, run_command
from annlib.submission import DEFAULT_ADDRESS, submit


def main() -> int:
    """Parses the command line and submits; returns the job's exit code."""
    parser = Parser(
        prog="jobs/submit.py",
        usage="%(prog)s [options] -- COMMAND ...",
        description="Run a command as a job of a Ray cluster, show its log, and end with its exit code.",
    )
    parser.add_argument(
        "--address",
        metavar="URL",
        help=f"job server (default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS if it is http, {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--working-dir", metavar="DIR", type=Path, default=Path(), help="directory the job gets a copy of (default: .)"
    )
    parser.add_argument("--submission-id", metavar="ID", help="name of the job (default: Ray chooses one)")
    parser.add_argument(
        "--timeout-s", metavar="S", type=positive_integer, help="stop the job after this long, exit code 124"
    )
    # Not left to argparse: its versions differ in which `--` of a command they take away.
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:end])
    return run_command(lambda: submit(words[end + 1 :], **vars(arguments)))


if __name__ == "__main__":
    sys.exit(main())
