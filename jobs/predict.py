"""Predicts with a finished run: `python jobs/predict.py runs/NAME input.csv -o output.csv`."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from annlib.command import Parser, run_command
from annlib.loading import open_run
from annlib.prediction import predict_file


def main() -> int:
    """Parses the command line and predicts; returns the exit code."""
    parser = Parser(prog="jobs/predict.py", description="Predict the samples of a file with a finished run.")
    parser.add_argument("run", metavar="RUN", help="run directory that jobs/train.py made, a path or a URI")
    parser.add_argument(
        "input",
        type=Path,
        metavar="INPUT",
        help=".csv or .parquet with the features by name; .npy; .png or a directory of them",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help=".csv or .parquet file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    arguments = parser.parse_args()

    def command() -> int:
        started = time.perf_counter()
        run = open_run(arguments.run)
        num_samples = predict_file(run, arguments.input, arguments.output, overwrite=arguments.overwrite)
        print(f"predicted {num_samples:,} samples in {time.perf_counter() - started:.1f} s")
        print(arguments.output.absolute())
        return 0

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
