"""Where raw data comes from: the user's directory, the cache, Debian's package, the download. All of it is verified."""

import logging
from pathlib import Path
from typing import Any

import numpy.typing as npt

from annlib.data import cache
from annlib.data.download import download
from annlib.data.raw import RawData, RawFile
from annlib.data.verification import DamagedError
from annlib.errors import DataError

logger = logging.getLogger(__name__)

Arrays = dict[str, npt.NDArray[Any]]


def read(data: RawData, *, data_dir: Path | None = None) -> Arrays:
    """Return the verified arrays of a data set from the first place that has them all.

    The places are `data_dir`, the cache, the system's package and the download. Only a download is copied to the
    cache: the other places are on this machine already, and a copy would only take space.

    Args:
        data: The data set.
        data_dir: A directory of the user. Where it holds none of the files, the other places are tried.

    Returns:
        By the keys of `data.files`, the arrays that the formats decode.

    Raises:
        DataError: No place has the data, or `data_dir` is missing, incomplete or holds a damaged file.
    """
    tried = ["data_dir: not given"]
    if data_dir is not None:
        arrays = _from_data_dir(data, Path(data_dir))
        if arrays:
            return arrays
        tried = [f"data_dir {data_dir}: holds none of the files"]
    cached = _from_cache(data, tried)
    if len(cached) == len(data.files):
        return cached
    arrays = _from_system(data, tried)
    if arrays:
        return arrays
    # What the cache does hold is not downloaded again.
    return _from_download(data, cached, tried)


def _from_data_dir(data: RawData, directory: Path) -> Arrays:
    """Read all files from the user's directory, or none if it has none: half a data set is a mistake to be told."""
    try:
        if not directory.is_dir():
            received = "a file" if directory.exists() else "nothing"
            raise _error(
                f"data_dir {directory} is not a directory; expected a directory holding {_names(data)}; "
                f"received {received} at this path; correct --data-dir or ANNLIB_DATA_DIR, or leave it out"
            )
        paths = {key: file.path_in(directory) for key, file in data.files.items()}
    except OSError as error:
        raise _error(
            f"data_dir {directory} cannot be searched; expected a directory holding {_names(data)}; "
            f"received {error}; correct its path or its permissions"
        ) from error
    missing = [file.download_name for key, file in data.files.items() if paths[key] is None]
    if len(missing) == len(paths):
        logger.info("data_dir %s holds no file of %s; other places are tried", directory, data.name)
        return {}
    if missing:
        raise _error(
            f"data_dir {directory} holds only a part of {data.name}; expected {_names(data)}; "
            f"received all but {', '.join(missing)}; add these, or remove the others to try other places"
        )
    arrays = {key: _read_users_file(data.files[key], path) for key, path in paths.items() if path is not None}
    logger.info("%s read from data_dir %s", data.name, directory)
    return arrays


def _read_users_file(file: RawFile, path: Path) -> npt.NDArray[Any]:
    # Neither deleted nor passed over: it is the user's, and other data than the user pointed at would be a surprise.
    advice = f"replace it with the original, {file.url}"
    try:
        return file.read(path)
    except DamagedError as error:
        raise _error(f"{path} is damaged; {error}; {advice}") from error
    except OSError as error:
        expected = f"expected a file that holds {file.download_name}"
        raise _error(f"{path} cannot be read; {expected}; received {error}; make it readable or {advice}") from error


def _from_cache(data: RawData, tried: list[str]) -> Arrays:
    """Read the files that the cache holds, perhaps not all. A damaged one is removed."""
    arrays: Arrays = {}
    try:
        directory = cache.cache_directory() / data.name
    except OSError as error:
        tried.append(f"cache: {error}")
        return arrays
    reasons = []
    for key, file in data.files.items():
        try:
            path = file.path_in(directory)
            if path is None:
                reasons.append(f"no {file.download_name}")
                continue
            arrays[key] = _read_cached_file(file, path)
        except (DamagedError, OSError) as error:
            reasons.append(f"{file.download_name}: {error}")
    if reasons:
        tried.append(f"cache {directory}: {', '.join(reasons)}")
    else:
        logger.info("%s read from the cache %s", data.name, directory)
    return arrays


def _read_cached_file(file: RawFile, path: Path) -> npt.NDArray[Any]:
    try:
        return file.read(path)
    except DamagedError as error:
        logger.warning("removing %s, which is damaged; %s", path, error)
        # Another process may have put a sound file here by now. Then that one is removed, and fetched once more.
        path.unlink(missing_ok=True)
        raise


def _from_system(data: RawData, tried: list[str]) -> Arrays:
    """Read all files from the system's package, or none."""
    if data.system_dir is None:
        return {}
    arrays: Arrays = {}
    for key, file in data.files.items():
        try:
            path = file.path_in(data.system_dir)
            if path is None:
                tried.append(f"system package {data.system_dir}: no {file.download_name}")
                return {}
            arrays[key] = file.read(path)
        except (DamagedError, OSError) as error:
            logger.warning("%s of the system's package is not used: %s", file.download_name, error)
            tried.append(f"system package {data.system_dir}: {file.download_name}: {error}")
            return {}
    logger.info("%s read from the system's package in %s", data.name, data.system_dir)
    return arrays


def _from_download(data: RawData, cached: Arrays, tried: list[str]) -> Arrays:
    """Download the files that are not in `cached`, and store them."""
    arrays = dict(cached)
    for key, file in data.files.items():
        if key in arrays:
            continue
        logger.info("downloading %s", file.url)
        try:
            raw = download(file.url, limit_bytes=file.format.limit_bytes)
            # Verified before it is stored: a proxy's error page must not get into the cache.
            arrays[key] = file.format.decode(raw)
        except (DamagedError, OSError) as error:
            tried.append(f"download {file.url}: {error}")
            raise _not_found(data, tried) from error
        _store(data, file, raw)
    return arrays


def _store(data: RawData, file: RawFile, raw: bytes) -> None:
    try:
        # As it was downloaded: decompressed it would load 0.3 s sooner and take nearly twice the space.
        cache.store(cache.cache_directory() / data.name / file.download_name, raw)
    except OSError as error:
        logger.warning("%s is not cached and will be downloaded again: %s; set ANNLIB_CACHE_DIR", file.url, error)


def _not_found(data: RawData, tried: list[str]) -> DataError:
    install = f", or run `{data.system_install}`" if data.system_install else ""
    return _error(
        f"{data.name} was not found; expected {_names(data)} in one of the places tried; received "
        f"{' | '.join(tried)}; give --data-dir DIR holding these (or what is packed in them){install}"
    )


def _names(data: RawData) -> str:
    return ", ".join(file.download_name for file in data.files.values())


def _error(message: str) -> DataError:
    # Entry points print one line; a path or another library's message may hold more.
    return DataError(" ".join(message.splitlines()))
