"""What a workload is: data, a model, and defaults, under one name."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from annlib.config import RunConfig
from annlib.errors import ConfigError
from annlib.training import own_code

if TYPE_CHECKING:
    import keras

    from annlib.data import Dataset
    from annlib.signature import Output, Signature

_DEFAULTS = {"epochs": 20, "global_batch_size": 32, "learning_rate": 0.001}


# Fields of the configuration that shape an MLP.
MLP_FIELDS = ("hidden", "activation", "optimizer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """Something to train.

    Args:
        load_data: returns the data set for a configuration.
        build_model: returns a compiled model for a data set and a configuration.
        name: what the command line calls it; one of a file of your own is called by that file.
        description: one line for `--list` and the report.
        defaults: values of `config_class` fields that differ from workload to workload.
        metrics: names of the model's metrics beside the loss; the progress shows the first that there is, without
            names any. Without names, a wrong `--monitor` is found when the model is built, not before.
        output: how the model's output reads, as in `Signature`; None finds it in data and model.
        inputs: for a model with several inputs, the name and the columns of x of each; None passes x as it is.
        config_class: the configuration, with the fields that this workload alone has.
        settle: returns a configuration in which is decided what depends on data and machine, before workers get it;
            None takes it as it is.
        origin: where `import_workload` found it. Workers get this and import it again, for a file's functions cannot
            be pickled by the name of a module that the workers do not have.
    """

    load_data: "Callable[[Any], Dataset]"
    build_model: "Callable[[Dataset, Any], keras.Model]"
    name: str = ""
    description: str = ""
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(_DEFAULTS))
    metrics: tuple[str, ...] = ()
    output: "Output | None" = None
    inputs: tuple[tuple[str, tuple[int, ...]], ...] | None = None
    config_class: type[RunConfig] = RunConfig
    settle: Callable[[Any], Any] | None = None
    origin: own_code.Origin | None = None

    @property
    def is_mlp(self) -> bool:
        """The configuration shapes the model: the defaults have `hidden`, `activation` and `optimizer`."""
        return all(name in self.defaults for name in MLP_FIELDS)

    @property
    def for_workers(self) -> "Workload | own_code.Origin":
        """What goes to another process, which takes it by `receive_workload`."""
        return self if self.origin is None else self.origin

    def check(self, config: RunConfig) -> None:
        """Checks what `RunConfig` cannot know alone.

        Raises:
            ConfigError: the monitored metric is none of the workload's, or a value is for an MLP and this is none.
        """
        for name in MLP_FIELDS:
            value = getattr(config, name)
            if self.is_mlp and value is None:
                raise ConfigError(f"{name} is missing: expected a value, received null. Give --{name}.")
            if not self.is_mlp and value is not None:
                raise ConfigError(
                    f"{name} does not fit {self.name}: expected no value, for its model is no MLP of hidden layers, "
                    f"received {value!r}. Leave --{name} out."
                )
        self.check_monitor(config, self.metrics)

    def settled(self, config: RunConfig) -> RunConfig:
        """Checks a configuration as `check` does, and returns it with all decided that depends on data and machine."""
        self.check(config)
        return config if self.settle is None else self.settle(config)

    def load(self, config: RunConfig) -> "Dataset":
        """Returns what `load_data` returns.

        Raises:
            ConfigError: that is no data set, or code of the user's own failed.
            DataError: the data is missing or wrong.
        """
        from annlib.data import Dataset

        with own_code.errors_of_one_line(self.origin, "load_data"):
            data = self.load_data(config)
        if not isinstance(data, Dataset):
            raise ConfigError(
                f"load_data of {config.workload} returned no data set: expected an annlib.Dataset, received "
                f"{type(data).__name__}. Return Dataset(train=Split(x=..., y=...), validation=..., test=...)."
            )
        return data

    def build(self, data: "Dataset", config: RunConfig) -> "keras.Model":
        """Returns the model that `build_model` returns.

        Raises:
            ConfigError: that is no compiled Keras model, or code of the user's own failed.
        """
        import keras

        with own_code.errors_of_one_line(self.origin, "build_model"):
            model = self.build_model(data, config)
        if not isinstance(model, keras.Model):
            raise ConfigError(
                f"build_model of {config.workload} returned no model: expected a keras.Model, received "
                f"{type(model).__name__}. Return the model that you compiled."
            )
        if not model.compiled:
            raise ConfigError(
                f"build_model of {config.workload} returned a model that is not compiled: expected a loss and an "
                "optimizer. Call model.compile before you return it."
            )
        if not model.built:
            model.build((None, *data.train.x.shape[1:]))
        return model

    def check_monitor(self, config: RunConfig, metrics: tuple[str, ...]) -> None:
        """Checks what `RunConfig` cannot know alone.

        Args:
            config: the configuration.
            metrics: names of the model's metrics beside the loss; none are none that are known yet.

        Raises:
            ConfigError: the monitored metric is none of these.
        """
        names = ["loss", *metrics]
        known = [*names, *(f"val_{name}" for name in names)]
        if metrics and config.monitor not in known:
            raise ConfigError(
                f"monitor is unknown: expected one of {', '.join(known)}, received {config.monitor!r}. "
                "Correct --monitor."
            )

    def signature(self, data: "Dataset", model: "keras.Model") -> "Signature":
        """Returns what the model for a data set takes and gives."""
        from annlib.signature import Signature

        output = self.output
        # A classifier of one output neuron: the probability of class 1.
        if output is None and data.task is None and data.class_names is not None and model.output_shape[1:] == (1,):
            output = "sigmoid"
        return Signature.from_dataset(data, self.inputs, output=output)


def receive_workload(sent: Workload | own_code.Origin) -> Workload:
    """Returns the workload whose `for_workers` came here; raises what `import_workload` raises."""
    return import_workload(sent) if isinstance(sent, own_code.Origin) else sent


def import_workload(origin: own_code.Origin) -> Workload:
    """Imports a workload of the user's own.

    Args:
        origin: where it stands.

    Raises:
        ConfigError: the file, module or name does not exist, is no `Workload`, or the import fails.
    """
    from annlib.loading import import_keras

    # The user's code will, and TensorFlow would then tell on the terminal about CUDA and CPU flags.
    import_keras()
    module, name = own_code.import_module(origin), origin.attribute
    found = getattr(module, name, None)
    if isinstance(found, Workload):
        return dataclasses.replace(found, name=found.name or origin.reference, origin=origin)
    there = [key for key, value in vars(module).items() if isinstance(value, Workload)]
    received = f"no {name!r}" if found is None else f"a {type(found).__name__}"
    hint = f"Give {origin.module}:{there[0]}." if there else f"Write `{name} = annlib.Workload(...)` there."
    raise ConfigError(f"workload {origin.reference} is none: expected an annlib.Workload, received {received}. {hint}")
