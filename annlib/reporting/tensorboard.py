"""What TensorBoard shows: pictures, a run as a row of the HParams table, and what an event file is made of.

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
    has_failed: bool = False,
) -> None:
    """Writes a run that has ended as a row of the tab "HParams".

    The columns are what TensorBoard finds in all runs below its log directory. No experiment summary names them:
    TensorBoard takes just one such summary, so one workload's columns would hide those of the others.

    Args:
        directory: where the event file goes, of its own, so that the curves do not become columns. Made when it is
            missing.
        hparams: value of each hyperparameter.
        metrics: final value of each metric; they are written as scalars of step 0, float32.
        run_name: what the table calls the run. Runs of the same name become one row.
        has_failed: what the table says of how it ended.

    Raises:
        ConfigError: a hyperparameter is of another type.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
    from tensorboard.plugins.hparams import metadata as hparams_metadata

    start = plugin_data_pb2.SessionStartInfo(group_name=run_name, start_time_secs=time.time())
    for name, value in hparams.items():
        _set_value(start.hparams[name], name, value)
    status = api_pb2.STATUS_FAILURE if has_failed else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
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
    summaries += [scalar(name, metric) for name, metric in metrics.items()]
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
    directory.mkdir(parents=True, exist_ok=True)
    events = [first_event(), *(summary_event(0, [summary]) for summary in summaries)]
    write_atomically(directory / event_file_name(), records(events))


def event_file_name() -> str:
    """Returns a name that TensorBoard looks for; it reads the files in their order, so the time comes first."""
    return f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"


def first_event() -> Any:
    """Returns the event that begins a file."""
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=time.time(), file_version="brain.Event:2")


def summary_event(step: int, values: Iterable[Any]) -> Any:
    """Returns an event of now with values such as those of `scalar`."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Event(wall_time=time.time(), step=step, summary=Summary(value=values))


def scalar(tag: str, value: float) -> Any:
    """Returns a value for the tab "Scalars", float32."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_FLOAT
    from tensorboard.plugins.scalar import metadata

    # A tenth of the time that TensorBoard's own function takes, for a training whose epochs take milliseconds.
    tensor = TensorProto(dtype=DT_FLOAT, tensor_shape={}, float_val=[value])
    kind = metadata.create_summary_metadata(display_name=None, description=None)
    return Summary.Value(tag=tag, tensor=tensor, metadata=kind)


def records(events: Iterable[Any]) -> bytes:
    """Returns events as a file holds them."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    return file.getvalue()
