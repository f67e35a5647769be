"""Finds, verifies and caches data sets: `python jobs/prepare_data.py fashion-mnist`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not

from annlib import data
from annlib.command import Parser, run_command


def main() -> int:
    """Parses the command line and loads each data set once; returns the exit code."""
    parser = Parser(prog="jobs/prepare_data.py", description="Find, verify and cache data sets.")
    parser.add_argument("names", nargs="+", metavar="NAME", help="for example fashion-mnist california-housing")
    parser.add_argument("--data-dir", type=Path, help="directory with the raw data files")
    arguments = parser.parse_args()

    def command() -> int:
        for name in arguments.names:
            loaded = data.load(name, data_dir=arguments.data_dir)
            sizes = " / ".join(str(len(split)) for split in (loaded.train, loaded.validation, loaded.test))
            print(f"{name}: {sizes} rows for training / validation / test")
        return 0

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
