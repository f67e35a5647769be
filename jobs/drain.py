"""Leaves this machine's Ray node before it goes: `python jobs/drain.py --deadline-s 30`, for a pod's preStop hook."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not

from annlib.command import Parser, positive_integer, run_command


def main() -> int:
    """Parses the command line and drains the node; returns 0 when all have left, else 1."""
    parser = Parser(
        prog="jobs/drain.py",
        description="Let training leave this Ray node: save, and go on elsewhere when the deadline has come.",
    )
    parser.add_argument(
        "--deadline-s", metavar="S", type=positive_integer, required=True, help="seconds until the node is gone"
    )
    arguments = parser.parse_args()

    def command() -> int:
        from annlib.draining import drain

        left = drain(deadline_s=arguments.deadline_s)
        for line in left:
            print(f"still here: {line}")
        print("the node may go" if not left else "the node may go, but the above have not left in time")
        return 1 if left else 0

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
