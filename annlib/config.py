"""The configuration of a run: typed, frozen, and checked as a whole before anything starts.

A value comes from the command line, else from an `ANNLIB_*` environment variable, else from the YAML file, else from
the workload's defaults. A key that nobody knows is an error wherever it stands.
"""

import csv
import datetime
import difflib
import io
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from annlib.errors import ConfigError
from annlib.storage import check_storage, describe, is_remote, read_text

ENVIRONMENT_PREFIX = "ANNLIB_"
# Numbers of processes come again, also in a container that was started again beside what the one before it has left.
_OF_THIS_PROCESS = uuid.uuid4().hex[:8]
# Read elsewhere: where downloads are kept.
_OTHER_VARIABLES = {"ANNLIB_CACHE_DIR"}

_LARGER_IS_BETTER = ("accuracy", "auc", "precision", "recall", "f1_score", "r2_score")

# Smaller products do not repay the conversions of mixed precision.
MIXED_PRECISION_BATCH_SIZE = 256

PositiveInt = Annotated[int, Field(ge=1)]
Activation = Literal["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "tanh", "sigmoid"]
Optimizer = Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamax", "nadam", "adamw"]
Compression = Literal["none", "float16", "bfloat16"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)


class RunConfig(BaseModel):
    """What one training run does. Frozen; every field is checked when it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    workload: str = Field(description="what to train; --list shows the workloads")
    epochs: PositiveInt = Field(description="passes over the training split")
    global_batch_size: PositiveInt = Field(description="samples of one step over all workers")
    learning_rate: float = Field(gt=0, description="learning rate of the optimizer")
    learning_rate_schedule: Literal["constant", "exponential", "cosine"] = Field(
        default="constant", description="how the rate falls until the last epoch: exponential to 1 %, cosine to 0"
    )
    hidden: tuple[PositiveInt, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="neurons of each hidden layer of an MLP, as 300,100 (default: the workload's)",
    )
    activation: Activation | None = Field(
        default=None, description=f"of an MLP's hidden layers: {', '.join(ACTIVATIONS)} (default: the workload's)"
    )
    optimizer: Optimizer | None = Field(
        default=None, description=f"that trains an MLP: {', '.join(OPTIMIZERS)} (default: the workload's)"
    )
    monitor: str = Field(default="val_loss", description="metric that tells the best epoch")
    monitor_mode: Literal["auto", "min", "max"] = Field(
        default="auto", description="min: smaller is better; auto: min, max for accuracy and the like"
    )
    early_stopping_patience: PositiveInt | None = Field(
        default=None, description="stop after that many epochs without a better one, and take the best epoch's weights"
    )
    reduce_lr_patience: PositiveInt | None = Field(
        default=None, description="lower the learning rate after that many epochs without a better one"
    )
    reduce_lr_factor: float = Field(default=0.1, gt=0, lt=1, description="what the learning rate is multiplied by then")
    formats: tuple[Literal["keras", "h5"], ...] = Field(
        default=("keras",), min_length=1, description="formats to save the model in, such as keras,h5"
    )
    histogram_freq: int = Field(default=0, ge=0, description="epochs between two histograms of weights in TensorBoard")
    num_workers: tuple[int, int] = Field(  # type: ignore[assignment]  # the default is parsed, too
        default=0,
        description="Ray workers, or the fewest and the most of them, as 1:4; 0 trains in this process, without Ray",
    )
    cpus_per_worker: PositiveInt = Field(default=1, description="CPUs of each Ray worker")
    use_gpu: bool = Field(default=False, description="give each Ray worker a GPU; locally, refuse to run without one")
    max_failures: int = Field(
        default=3, ge=0, description="times that Ray starts all workers again, from the last checkpoint, after a loss"
    )
    worker_timeout_s: float = Field(
        default=15.0, gt=0, description="seconds after which a Ray worker that does not answer counts as lost"
    )
    start_timeout_s: float = Field(
        default=600.0, gt=0, description="seconds to wait for the Ray workers to start, also after a loss"
    )
    precision: Literal["float32", "float64", "mixed_bfloat16", "mixed_float16"] = Field(
        default="float32",
        description="type of all computations; float64 gives any number of workers the same numbers; mixed_bfloat16 "
        "and mixed_float16 multiply in 16 bits where the processor or GPU is faster then",
    )
    gradient_accumulation: PositiveInt = Field(
        default=1, description="micro-batches in which each worker computes its part of a step, to take less memory"
    )
    gradient_compression: Compression = Field(
        default="none", description="type of the gradients on their way between Ray workers: none, float16 or bfloat16"
    )
    sync_every: PositiveInt = Field(
        default=1, description="steps that each Ray worker takes alone until their weights are averaged (local SGD)"
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="seed of initial weights and of the order of samples")
    storage: str = Field(
        default="runs",
        description="directory of all runs, shared by all nodes: a path or a URI such as s3://bucket/runs",
    )
    storage_timeout_s: float = Field(
        default=300.0, gt=0, description="seconds that the storage may be away or full before the run ends"
    )
    name: str = Field(default="", description="name of the run; the same name resumes it (default: the time)")
    data_dir: Path | None = Field(default=None, description="directory with the raw data files")
    keep: PositiveInt = Field(default=2, description="checkpoints that stay, the newest ones; the best model stays too")
    checkpoint_every_s: float = Field(
        default=30.0, gt=0, description="seconds between two checkpoints, at least; also within an epoch"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        values = value if isinstance(value, list | tuple) else (value,)
        types = list(_types_of(cls.model_fields[str(info.field_name)].annotation))
        takes_numbers = (int in types or float in types) and bool not in types
        if takes_numbers and any(isinstance(each, bool) for each in values):
            raise ValueError("a number, which yes, no, on and off are none of in YAML")
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not name:
            return datetime.datetime.now().strftime("run_%Y_%m_%d-%H_%M_%S")
        if name in (".", "..") or not all(c.isalnum() or c in "._-" for c in name) or len(name) > 200:
            raise ValueError("expected up to 200 letters, digits, '.', '_' or '-'")
        return name

    @field_validator("num_workers", mode="before")
    @classmethod
    def _parse_num_workers(cls, value: Any) -> tuple[int, int]:
        ends = value if isinstance(value, list | tuple) else str(value).split(":")
        if len(ends) not in (1, 2) or not all(str(end).isdecimal() for end in ends):
            raise ValueError("expected a whole number of 0 or more, or two as 1:4")
        fewest, most = int(ends[0]), int(ends[-1])
        if len(ends) == 2 and not (1 <= fewest <= most or fewest == most == 0):
            raise ValueError("expected fewest:most with 1 <= fewest <= most, as 1:4")
        return fewest, most

    @field_serializer("num_workers")
    def _show_num_workers(self, value: tuple[int, int]) -> int | str:
        return value[0] if value[0] == value[1] else f"{value[0]}:{value[1]}"

    @field_validator("hidden", mode="before")
    @classmethod
    def _split_hidden(cls, hidden: Any) -> Any:
        return tuple(hidden.split(",")) if isinstance(hidden, str) else (hidden,) if isinstance(hidden, int) else hidden

    @field_serializer("hidden")
    def _show_hidden(self, hidden: tuple[int, ...] | None) -> str | None:
        return None if hidden is None else ",".join(map(str, hidden))

    @field_validator("storage", mode="before")
    @classmethod
    def _check_storage(cls, value: str | Path) -> str:
        return check_storage(str(value))

    @field_validator("formats", mode="before")
    @classmethod
    def _split_formats(cls, formats: Any) -> Any:
        return split_values(formats)

    @field_validator("precision")
    @classmethod
    def _check_precision(cls, precision: str, info: ValidationInfo) -> str:
        batch = info.data.get("global_batch_size", MIXED_PRECISION_BATCH_SIZE)
        if precision.startswith("mixed") and batch < MIXED_PRECISION_BATCH_SIZE:
            raise ValueError(
                f"float32 with a global batch size of {batch}: {precision} is faster from "
                f"{MIXED_PRECISION_BATCH_SIZE} on"
            )
        return precision

    @field_validator("gradient_accumulation")
    @classmethod
    def _check_accumulation(cls, number: int, info: ValidationInfo) -> int:
        batch = info.data.get("global_batch_size", number)
        if number > batch:
            raise ValueError(f"at most the global batch size {batch}")
        return number

    @field_validator("gradient_compression", "sync_every")
    @classmethod
    def _check_has_several_workers(cls, value: str | int, info: ValidationInfo) -> str | int:
        if value not in ("none", 1) and info.data.get("num_workers", (0, 2))[1] < 2:
            raise ValueError("no value without --num-workers 2 or more")
        return value

    @field_validator("reduce_lr_patience")
    @classmethod
    def _check_reduction(cls, patience: int | None, info: ValidationInfo) -> int | None:
        schedule = info.data.get("learning_rate_schedule")
        if patience is not None and schedule != "constant":
            raise ValueError(f"expected no value with the learning rate schedule {schedule}")
        return patience

    @property
    def resolved_monitor_mode(self) -> str:
        """Either "min" or "max"."""
        if self.monitor_mode != "auto":
            return self.monitor_mode
        return "max" if any(part in self.monitor for part in _LARGER_IS_BETTER) else "min"

    @property
    def identity(self) -> dict[str, Any]:
        """What else decides about the model of one kind of workload and cannot change when a run goes on."""
        return {}

    @property
    def floatx(self) -> str:
        """Type of losses and metrics, and of weights."""
        return "float64" if self.precision == "float64" else "float32"

    @property
    def uses_ray(self) -> bool:
        """Workers of Ray train, not this process."""
        return self.num_workers[1] > 0

    @property
    def location(self) -> str:
        """Where the run is kept: an absolute path or a URI."""
        return f"{self.storage}/{self.name}"

    @property
    def run_path(self) -> Path:
        """The run directory, absolute; of a run on an object store, this process' copy of it."""
        if is_remote(self.storage):
            return Path(tempfile.gettempdir()) / f"annlib-{os.getpid()}-{_OF_THIS_PROCESS}" / self.name
        return Path(self.storage) / self.name

    def to_yaml(self) -> str:
        """Returns all values as YAML that `--config` reads again."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _types_of(annotation: Any) -> Iterator[Any]:
    """Yields all types that an annotation is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _types_of(part)


def load_config(
    arguments: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    config_file: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    config_class: type[RunConfig] = RunConfig,
) -> RunConfig:
    """Puts the configuration together and checks it.

    Args:
        arguments: values of the command line, by field name; what was not given is not in it.
        defaults: values of the workload.
        config_file: YAML file with values by field name: a path or a URI.
        environment: environment variables; those of the process when None.
        config_class: the workload's kind of configuration.

    Raises:
        ConfigError: the first wrong value: which, where it stands, what was expected and received, what to do.
    """
    file_values = read_yaml(config_file, flag="--config") if config_file is not None else {}
    environment_values = _read_environment(os.environ if environment is None else environment, config_class)
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for place, source in (
        ("the workload's defaults", defaults),
        (f"the file {config_file}", file_values),
        ("the environment", environment_values),
        ("the command line", arguments),
    ):
        values.update(source)
        places.update(dict.fromkeys(source, place))
    try:
        return config_class.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_describe(error, places, config_class)) from None


def split_values(value: Any) -> Any:
    """Returns the values of `a,b` as a tuple; one with a comma in it stands between double quotes. A list stays."""
    return tuple(next(csv.reader([value]), ())) if isinstance(value, str) else value


def join_values(values: Iterable[Any]) -> str:
    """Returns the text that `split_values` splits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


class _YamlLoader(yaml.SafeLoader):
    """Without YAML 1.1's numbers to the base of 60, which make 64 of `num_workers: 1:4`, and with each key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.YAMLError(f"{key.value} is given twice, again in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:int"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_YamlLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9][0-9_]*$"), list("-+0123456789"))


def read_yaml(file: str | Path, *, flag: str) -> dict[str, Any]:
    """Returns the values of a YAML file by name; an empty file has none.

    Args:
        file: a path, or a URI as `--storage` takes it.
        flag: what gave the file, for messages.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    location = check_storage(str(file), name=flag)
    try:
        content = yaml.load(read_text(location), Loader=_YamlLoader)  # a SafeLoader
    except OSError as error:
        raise ConfigError(
            f"{flag} {file} cannot be read: expected a YAML file, received "
            f"{error.strerror or describe(error)}. Correct the path."
        ) from None
    # Also numbers of more digits than Python reads, and days that no calendar has.
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{flag} {file} is not YAML: {reason}. Write it as `key: value` lines.") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(
            f"{flag} {file} holds a {type(content).__name__}: expected `key: value` lines. Write one line a value."
        )
    return content


def _read_environment(environment: Mapping[str, str], config_class: type[RunConfig]) -> dict[str, str]:
    fields = {ENVIRONMENT_PREFIX + name.upper(): name for name in config_class.model_fields if name != "workload"}
    found = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        if variable not in fields:
            raise ConfigError(
                f"environment variable {variable} is unknown{did_you_mean(variable, fields)}: expected one of "
                f"{', '.join(fields)}. Correct or unset it."
            )
        found[fields[variable]] = value
    return found


# By the type of pydantic's error, where its text is for programmers.
_EXPECTED = {
    "too_short": "at least one value",
    "tuple_type": "a text such as 'a,b' or a list such as ['a', 'b']",
    "byte_size": "a size such as 4GiB",
    "byte_size_unit": "a size such as 4GiB",
}


def _describe(error: ValidationError, places: Mapping[str, str], config_class: type[RunConfig]) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "configuration"
    place = places.get(name, "the command line")
    if first["type"] == "extra_forbidden":
        return (
            f"{name!r} from {place} is unknown{did_you_mean(name, config_class.model_fields)}: expected one of "
            f"{', '.join(config_class.model_fields)}. Correct or remove it."
        )
    if first["type"] == "missing":
        return f"{name} is missing: expected a value. Give --{name.replace('_', '-')}."
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if expected.startswith(("greater", "less")):
        expected = f"a value {expected}"
    expected = _EXPECTED.get(first["type"], expected)
    flag = ENVIRONMENT_PREFIX + name.upper() if place == "the environment" else f"--{name.replace('_', '-')}"
    return (
        f"{name} from {place} is wrong: expected {expected.removeprefix('expected ')}, received {first['input']!r}. "
        f"Correct {flag}."
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the known name that is nearest, as ` (did you mean NAME?)`; nothing where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    if not close:
        return ""
    # A space that is not seen may be what is wrong.
    return f" (did you mean {close[0] if close[0] == close[0].strip() else repr(close[0])}?)"
