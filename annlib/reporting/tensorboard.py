"""What TensorBoard shows beside the curves: pictures, and the run as a row of the HParams table.

The event files are put together from TensorBoard's protocol buffers: its `EventFileWriter` and its HParams API both
import TensorFlow, which takes seconds and which a driver on Ray does without.
"""

import io
import socket
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from annlib.artifacts import write_atomically
from annlib.errors import ConfigError
from annlib.reporting.scaling import read_scaled


def write_pictures(directory: Path, pictures: Mapping[str, Path]) -> None:
    """Writes pictures for the tabs "Images" and "Time Series".

    Pictures that are written again replace the old ones there, because all have the step 0.

    Args:
        directory: where the event file goes; TensorBoard calls the run by its path. Made when it is missing.
        pictures: PNG file by tag; without any, nothing is written. Wider ones than 1400 pixels are scaled down.

    Raises:
        StorageError: a file is missing or is no whole PNG.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.image import metadata
    from tensorboard.util import tensor_util

    # Pillow lets other threads run while it scales.
    with ThreadPoolExecutor() as pool:
        scaled = list(pool.map(read_scaled, pictures.values()))
    summaries = []
    for tag, picture in zip(pictures, scaled, strict=True):
        # The tensor of an image summary: width, height, then the encoded images.
        parts = [str(picture.width).encode(), str(picture.height).encode(), picture.content]
        tensor = tensor_util.make_tensor_proto(parts)
        kind = metadata.create_summary_metadata(display_name=None, description=None)
        summaries.append(Summary.Value(tag=tag, tensor=tensor, metadata=kind))
    if summaries:
        _write_events(directory, summaries)


def write_hparams(
    directory: Path,
    *,
    hparams: Mapping[str, bool | int | float | str],
    metrics: Mapping[str, float],
    run_name: str,
) -> None:
    """Writes a finished run as a row of the tab "HParams".

    The columns are what TensorBoard finds in all runs below its log directory. No experiment summary names them:
    TensorBoard takes just one such summary, so one workload's columns would hide those of the others.

    Args:
        directory: where the event file goes, of its own, so that the curves do not become columns. Made when it is
            missing.
        hparams: value of each hyperparameter.
        metrics: final value of each metric; they are written as scalars of step 0, float32.
        run_name: what the table calls the run. Runs of the same name become one row.

    Raises:
        ConfigError: a hyperparameter is of another type.
    """
    import numpy as np
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
    from tensorboard.plugins.hparams import metadata as hparams_metadata
    from tensorboard.plugins.scalar import metadata as scalar_metadata
    from tensorboard.util import tensor_util

    start = plugin_data_pb2.SessionStartInfo(group_name=run_name, start_time_secs=time.time())
    for name, value in hparams.items():
        _set_value(start.hparams[name], name, value)
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
    sessions = {
        hparams_metadata.SESSION_START_INFO_TAG: plugin_data_pb2.HParamsPluginData(session_start_info=start),
        hparams_metadata.SESSION_END_INFO_TAG: plugin_data_pb2.HParamsPluginData(session_end_info=end),
    }
    summaries = [
        Summary.Value(
            tag=tag,
            tensor=hparams_metadata.NULL_TENSOR,
            metadata=hparams_metadata.create_summary_metadata(data),
        )
        for tag, data in sessions.items()
    ]
    kind = scalar_metadata.create_summary_metadata(display_name=None, description=None)
    for name, metric in metrics.items():
        tensor = tensor_util.make_tensor_proto(np.float32(metric))
        summaries.append(Summary.Value(tag=name, tensor=tensor, metadata=kind))
    _write_events(directory, summaries)


def _set_value(field: Any, name: str, value: bool | int | float | str) -> None:
    if isinstance(value, bool):  # before int, which it is too
        field.bool_value = value
    elif isinstance(value, int | float):
        field.number_value = value
    elif isinstance(value, str):
        field.string_value = value
    else:
        raise ConfigError(
            f"hyperparameter {name!r} cannot be shown by TensorBoard: expected bool, int, float or str, received "
            f"{type(value).__name__}. Convert it or leave it out."
        )


def _write_events(directory: Path, summaries: Iterable[Any]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    now = time.time()
    file = io.BytesIO()
    writer = RecordWriter(file)
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for summary in summaries:
        writer.write(Event(wall_time=now, step=0, summary=Summary(value=[summary])).SerializeToString())
    directory.mkdir(parents=True, exist_ok=True)
    # TensorBoard reads the files of a directory in the order of their names: the time comes first.
    write_atomically(directory / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}", file.getvalue())
