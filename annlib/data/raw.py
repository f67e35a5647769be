"""The raw files of each data set: their names, their addresses and what they must hold."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from annlib.data.idx import IdxFormat
from annlib.data.table import TableFormat
from annlib.data.verification import DamagedError


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """One file of raw data.

    Args:
        names: Paths under which it is accepted in a directory. The first that exists is read, so the one that is
            read fastest comes first.
        download_name: The one of `names` that the download has.
        url: Where it is downloaded.
        format: What it must hold.
    """

    names: tuple[str, ...]
    download_name: str
    url: str
    format: IdxFormat | TableFormat

    def path_in(self, directory: Path) -> Path | None:
        """Return the path of this file in `directory`, or None where it has none.

        Raises:
            OSError: It cannot be told, for example because the directory may not be searched.
        """
        for name in self.names:
            path = directory / name
            try:
                # Not `exists`, for which a broken link is no file: the user put it there and has to be told.
                path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            return path
        return None

    def read(self, path: Path) -> npt.NDArray[Any]:
        """Read and verify the file at `path`.

        Raises:
            DamagedError: It is not what it should be.
            OSError: It cannot be read.
        """
        # Looked at before it is opened: opening a named pipe waits for ever.
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise DamagedError("a regular file", "a directory" if stat.S_ISDIR(mode) else stat.filemode(mode))
        with path.open("rb") as file:
            raw = file.read(self.format.limit_bytes + 1)
        if len(raw) > self.format.limit_bytes:
            raise DamagedError(f"at most {self.format.limit_bytes:,} bytes", "a larger file")
        return self.format.decode(raw)


@dataclass(frozen=True, kw_only=True)
class RawData:
    """The raw files of one data set.

    Args:
        name: Name of the data set, and of its directory in the cache.
        files: What the files are, by a name for the array that each holds.
        system_dir: Where a package of the system puts the files, if there is such a package.
        system_install: The command that installs this package.
    """

    name: str
    files: Mapping[str, RawFile]
    system_dir: Path | None = None
    system_install: str | None = None


def _idx_file(name: str, *, shape: tuple[int, ...], sha256: str, maximum: int = 255) -> RawFile:
    return RawFile(
        names=(name, f"{name}.gz"),
        download_name=f"{name}.gz",
        # The address that keras.datasets.fashion_mnist.load_data uses.
        url=f"https://storage.googleapis.com/tensorflow/tf-keras-datasets/{name}.gz",
        format=IdxFormat(shape=shape, sha256=sha256, maximum=maximum),
    )


# H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
# 2017, arXiv:1708.07747. Images are 28 by 28 pixels, 0 (white) to 255; labels are 0 to 9.
FASHION_MNIST = RawData(
    name="fashion-mnist",
    files={
        "train_images": _idx_file(
            "train-images-idx3-ubyte",
            shape=(60_000, 28, 28),
            sha256="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        "train_labels": _idx_file(
            "train-labels-idx1-ubyte",
            shape=(60_000,),
            sha256="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            maximum=9,
        ),
        "test_images": _idx_file(
            "t10k-images-idx3-ubyte",
            shape=(10_000, 28, 28),
            sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        "test_labels": _idx_file(
            "t10k-labels-idx1-ubyte",
            shape=(10_000,),
            sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            maximum=9,
        ),
    },
    system_dir=Path("/usr/share/datasets/fashion-mnist"),
    system_install="apt-get install dataset-fashion-mnist",
)

# R. K. Pace, R. Barry, "Sparse Spatial Autoregressions", Statistics and Probability Letters 33 (1997) 291-297: the
# block groups of the 1990 census. Columns: longitude, latitude, housing median age, total rooms, total bedrooms,
# population, households, median income, median house value.
CALIFORNIA_HOUSING = RawData(
    name="california-housing",
    files={
        "table": RawFile(
            names=("cal_housing.data", "CaliforniaHousing/cal_housing.data", "cal_housing.tgz"),
            download_name="cal_housing.tgz",
            # The address that sklearn.datasets.fetch_california_housing uses.
            url="https://ndownloader.figshare.com/files/5976036",
            format=TableFormat(
                shape=(20_640, 9),
                sha256="a2f4f55ff91c67e60391318ea4d61d247d09f8fef119ec6f44a1eb727d7f1f7b",
                member="CaliforniaHousing/cal_housing.data",
                # The text has 2.1 MB.
                limit_bytes=2**23,
            ),
        )
    },
)
