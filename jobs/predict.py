"""Predicts with a finished run: `python jobs/predict.py runs/NAME input.csv -o output.csv`, or many files at once."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console

from annlib.command import Parser, run_command, whole_number
from annlib.prediction import predict


def main() -> int:
    """Parses the command line and predicts; returns the exit code."""
    parser = Parser(
        prog="jobs/predict.py", description="Predict the samples of a file, or of many, with a finished run."
    )
    parser.add_argument("run", metavar="RUN", help="run directory that jobs/train.py made, a path or a URI")
    parser.add_argument(
        "input",
        metavar="INPUT",
        help=".csv or .parquet with the features by name; .npy; .png or a directory of them. Or many .csv, .parquet "
        "and .npy files: a directory, a glob in quotes such as 'new/**/*.parquet', or a URI of either",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help=".csv or .parquet file to write; for many files a directory or URI, where files of this model are kept",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    parser.add_argument(
        "--num-workers",
        type=whole_number,
        default=0,
        metavar="N",
        help="processes on Ray that share the files, of one CPU each (default: 0, this process without Ray)",
    )
    parser.add_argument(
        "--max-bad-rows",
        type=whole_number,
        metavar="N",
        help="of many files: end when more rows than this are set aside (default: any number)",
    )
    arguments = parser.parse_args()
    return run_command(
        lambda: predict(
            arguments.run,
            arguments.input,
            arguments.output,
            num_workers=arguments.num_workers,
            overwrite=arguments.overwrite,
            max_bad_rows=arguments.max_bad_rows,
            console=Console(),
            error_console=Console(stderr=True),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
