"""What the regressions have in common: SGD, the MLP of 30 ReLU neurons, moments of the training split."""

from typing import TYPE_CHECKING, Any

from annlib.config import RunConfig

if TYPE_CHECKING:
    import keras

    from annlib.data import Dataset

METRICS = ("root_mean_squared_error", "mae")
BOOK_MLP = {"hidden": (30,), "activation": "relu", "optimizer": "sgd"}


def moments(data: "Dataset", columns: tuple[int, ...] | None = None) -> tuple[Any, Any]:
    """Returns mean and variance of the features, or of these columns, over the training split."""
    assert data.scaler is not None
    chosen = slice(None) if columns is None else list(columns)
    return data.scaler.mean[chosen], data.scaler.scale[chosen] ** 2


def sgd(data: "Dataset", config: RunConfig) -> "keras.optimizers.Optimizer":
    """Returns stochastic gradient descent with the run's learning rate and schedule."""
    import keras

    from annlib.training.schedule import learning_rate

    return keras.optimizers.SGD(learning_rate(config, len(data.train)))


def build_mlp(data: "Dataset", config: RunConfig) -> "keras.Model":
    """Returns a standardisation, the hidden layers and a linear neuron, compiled with MSE."""
    from annlib.models.mlp import regression_mlp
    from annlib.models.optimizers import make_optimizer
    from annlib.training.schedule import learning_rate

    assert config.hidden is not None
    assert config.activation is not None
    assert config.optimizer is not None
    return regression_mlp(
        data.train.x.shape[1],
        hidden=config.hidden,
        hidden_activation=config.activation,
        optimizer=make_optimizer(config.optimizer, learning_rate(config, len(data.train))),
        moments=moments(data),
    )
