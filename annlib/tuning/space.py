"""What a search varies: the grammar of `--space`, its checks, and the points that are tried.

A line a hyperparameter, each with one distribution:

    layers: {integer: [1, 5]}                 # hidden layers, all with the same number of neurons, as in the book
    neurons: {log_integer: [10, 100]}         # both bounds belong to it
    learning_rate: {log_uniform: [1e-4, 1e-1]}
    optimizer: {choice: [sgd, adam]}

What is not named keeps the value of the configuration. `hidden: {choice: ["300,100", "100,100"]}` takes the place of
`layers` and `neurons`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from annlib.config import RunConfig, did_you_mean, read_yaml
from annlib.errors import ConfigError
from annlib.training.workload import Workload

Value = int | float | str

# By hyperparameter, what a distribution of numbers may be. All take `choice`.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "layers": ("integer", "log_integer"),
    "neurons": ("integer", "log_integer"),
    "hidden": (),
    "activation": (),
    "optimizer": (),
    "learning_rate": ("uniform", "log_uniform"),
    "learning_rate_schedule": (),
    "global_batch_size": ("integer", "log_integer"),
}
# As many as the configuration takes.
_MOST_LAYERS = 100
_LARGEST = 2**31


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The values of one hyperparameter.

    Args:
        kind: "uniform", "log_uniform", "integer", "log_integer" or "choice".
        values: the lowest and the highest value, or all choices.
    """

    kind: str
    values: tuple[Value, ...]

    def at(self, u: float) -> Value:
        """Returns the value below which a fraction u of all lies, 0 <= u < 1."""
        if self.kind == "choice":
            return self.values[int(u * len(self.values))]
        low, high = float(self.values[0]), float(self.values[1])
        if self.kind == "uniform":
            return low + u * (high - low)
        if self.kind == "log_uniform":
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
            return min(max(value, low), high)
        if self.kind == "integer":
            return int(low + u * (high + 1 - low))
        # Each whole number n has the weight of the interval from n to n + 1.
        return min(int(low * ((high + 1) / low) ** u), int(high))


Space = Mapping[str, Distribution]


def default_space(workload: Workload, base: RunConfig) -> Space:
    """Returns what is worth to try, by the chapter's tables 10-1 and 10-2 and its example of a randomised search.

    One to five layers of 10 to 100 neurons. Where the book's own model is wider than its table, as for images, 100 to
    300 as there: narrower layers lose what the pixels tell. The learning rates are those of the book's search. Other
    optimizers than SGD, and rates that fall, are what the book's models do without.

    Of a model that the configuration does not shape, learning rate and batch size alone, around those of `base`.
    """
    if not workload.is_mlp:
        rate = base.learning_rate
        space = {
            "learning_rate": Distribution("log_uniform", (rate / 10, rate * 10)),
            "global_batch_size": Distribution("choice", (16, 32, 64, 128, 256)),
        }
        return _without_refused(space, base)
    widths = configure(base, {"hidden": workload.defaults["hidden"]}).hidden
    is_wide = widths is not None and max(widths) > 100
    space = {
        "layers": Distribution("integer", (1, 5)),
        "neurons": Distribution("log_integer", (100, 300) if is_wide else (10, 100)),
        "activation": Distribution("choice", ("relu", "selu")),
        "optimizer": Distribution("choice", ("sgd", "momentum", "nesterov", "rmsprop", "adam", "nadam", "adamw")),
        "learning_rate": Distribution("log_uniform", (3e-4, 3e-2)),
        "learning_rate_schedule": Distribution("choice", ("constant", "exponential", "cosine")),
        "global_batch_size": Distribution("choice", (32, 64, 128, 256)),
    }
    return _without_refused(space, base)


def _without_refused(space: Space, base: RunConfig) -> Space:
    """Returns a space without the choices that the base refuses, as small batches of mixed precision."""
    kept = {}
    for name, distribution in space.items():
        if distribution.kind == "choice":
            distribution = Distribution(
                "choice", tuple(value for value in distribution.values if _is_taken(base, name, value))
            )
        # One value is no choice: the base's own stays.
        if len(distribution.values) > 1:
            kept[name] = distribution
    return kept


def _is_taken(base: RunConfig, name: str, value: Value) -> bool:
    try:
        configure(base, {name: value})
    except ValidationError:
        return False
    return True


def read_space(file: str, base: RunConfig) -> Space:
    """Reads and checks a file of `--space`.

    Raises:
        ConfigError: it cannot be read, or the first wrong line: what was expected and received, what to do.
    """
    values = read_yaml(file, flag="--space")
    if not values:
        raise ConfigError(
            f"--space {file} names no hyperparameter: expected one or more of {', '.join(_KINDS)}. "
            "Write a line such as `learning_rate: {log_uniform: [1e-4, 1e-1]}`."
        )
    space = {name: _distribution(name, value, file) for name, value in values.items()}
    if ("layers" in space) != ("neurons" in space) or ("hidden" in space and "layers" in space):
        raise ConfigError(
            f"--space {file} has {', '.join(n for n in ('layers', 'neurons', 'hidden') if n in space)}: expected "
            "layers and neurons, or hidden alone. A fixed one of the two is `layers: {choice: [2]}`."
        )
    check_space(space, base, f"--space {file}")
    return space


def check_space(space: Space, base: RunConfig, place: str) -> None:
    """Raises ConfigError where the configuration refuses the lowest, the highest or one of the chosen values."""
    for name, distribution in space.items():
        for value in distribution.values:
            shape = {"layers": 1, "neurons": 1} if name in ("layers", "neurons") else {}
            try:
                configure(base, {**shape, name: value})
            except ValidationError as error:
                first = error.errors(include_url=False, include_context=False)[0]
                expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
                raise ConfigError(
                    f"{name} of {place} is wrong: expected {expected.removeprefix('expected ')}, received {value!r}. "
                    "Correct it."
                ) from None


def _distribution(name: str, value: Any, file: str) -> Distribution:
    if name not in _KINDS:
        raise ConfigError(
            f"{name!r} of --space {file} is unknown{did_you_mean(name, _KINDS)}: expected one of {', '.join(_KINDS)}. "
            "Correct or remove it."
        )
    kinds = (*_KINDS[name], "choice")
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in kinds:
        raise ConfigError(
            f"{name} of --space {file} has no distribution that fits: expected one of {', '.join(kinds)}, as "
            f"`{name}: {{{kinds[0]}: [...]}}`, received {value!r}. Correct it."
        )
    ((kind, values),) = value.items()
    if not isinstance(values, list) or not values:
        raise ConfigError(
            f"{name} of --space {file} has no values: expected a list such as `{name}: {{{kind}: [...]}}`, received "
            f"{values!r}. Correct it."
        )
    if kind == "choice":
        return Distribution(kind, tuple(_choice(name, item, file) for item in values))
    return Distribution(kind, _bounds(name, kind, values, file))


def _choice(name: str, item: Any, file: str) -> Value:
    """Returns a choice as the configuration takes it; a list is the neurons of hidden layers."""
    if name == "hidden" and isinstance(item, list):
        return ",".join(map(str, item))
    if not isinstance(item, bool) and isinstance(item, int if name == "layers" else (int, float, str)):
        value: Value = item
        _check_size(name, value, file)
        return value
    kind = "a whole number" if name == "layers" else "a number or a text"
    raise ConfigError(f"{name} of --space {file} has a wrong choice: expected {kind}, received {item!r}. Correct it.")


def _check_size(name: str, value: Value, file: str) -> None:
    """Raises ConfigError where a whole number is larger than any model or batch, before something is made of it."""
    largest = _MOST_LAYERS if name == "layers" else _LARGEST
    if isinstance(value, int) and value > largest:
        received = str(value) if value < 10**20 else f"one of {len(str(value))} digits"
        raise ConfigError(
            f"{name} of --space {file} is too large: expected at most {largest}, received {received}. Correct it."
        )


def _bounds(name: str, kind: str, values: list[Any], file: str) -> tuple[Value, ...]:
    convert = int if kind.endswith("integer") else float
    try:
        # YAML takes 1e-4 for text.
        bounds = tuple(convert(str(value)) for value in values)
    except ValueError:
        bounds = ()
    lowest = 0.0 if kind.startswith("log_") else -math.inf
    if len(bounds) == 2:
        _check_size(name, bounds[1], file)
    if len(bounds) != 2 or not lowest < bounds[0] < bounds[1] < math.inf:
        numbers = "whole numbers" if convert is int else "numbers"
        above = " above 0" if kind.startswith("log_") else ""
        raise ConfigError(
            f"{name} of --space {file} has wrong bounds: expected two {numbers}{above}, the smaller one first, "
            f"received {values!r}. Correct them."
        )
    return bounds


def configure(base: RunConfig, values: Mapping[str, Value], **fields: Any) -> RunConfig:
    """Returns the configuration of a trial: `base` with a point of the space, and with other fields."""
    changed: dict[str, Any] = {name: value for name, value in values.items() if name not in ("layers", "neurons")}
    if "layers" in values:
        changed["hidden"] = (values["neurons"],) * int(values["layers"])
    return type(base).model_validate({**base.model_dump(), **changed, **fields})


def draw(space: Space, base: RunConfig, count: int) -> list[dict[str, Value]]:
    """Returns points of the space that differ from each other and from `base`; fewer where it does not hold so many.

    They are those of a scrambled Halton sequence, which cover the space more evenly than independent ones (Bousquet et
    al., Critical Hyper-Parameters: No Random, No Cry, 2017). More of them begin with the same ones.
    """
    from scipy.stats import qmc

    sequence = qmc.Halton(len(space), rng=base.seed)
    # As text, for a field of the user's own may be a list.
    seen = {base.model_dump_json()}
    points: list[dict[str, Value]] = []
    # Where a space is small, most of its points come again and again.
    for _ in range(100):
        for row in sequence.random(max(count, 16)):
            point = {
                name: distribution.at(float(u)) for (name, distribution), u in zip(space.items(), row, strict=True)
            }
            text = configure(base, point).model_dump_json()
            if len(points) < count and text not in seen:
                seen.add(text)
                points.append(point)
        if len(points) >= count:
            break
    return points


def describe(config: RunConfig, space: Space) -> dict[str, Value]:
    """Returns the values of the hyperparameters in a configuration, of which a base need not be a point of the space.

    `neurons` is the number of the widest layer.
    """
    values: dict[str, Value] = {}
    for name in space:
        if name in ("layers", "neurons"):
            assert config.hidden is not None
            values[name] = len(config.hidden) if name == "layers" else max(config.hidden)
        else:
            values[name] = config.model_dump(mode="json")[name]
    return values


def as_yaml(space: Space) -> dict[str, Any]:
    """Returns the space as a file of `--space` has it."""
    return {name: {distribution.kind: list(distribution.values)} for name, distribution in space.items()}
