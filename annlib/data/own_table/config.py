"""The configuration of a run on a table: what `RunConfig` has, and the columns."""

from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, ValidationInfo, field_validator

from annlib.config import RunConfig, split_values
from annlib.storage import check_storage

Fraction = Annotated[float, Field(gt=0, lt=1)]
Names = tuple[str, ...]
# What a worker takes for a table of any size: 1.2 GiB for TensorFlow, Keras, the compiled step and streamed rows.
FEWEST_BYTES = 3 * 2**29


class TableConfig(RunConfig):
    """A run on a table of the user's own. Lists are written `a,b`, a name with a comma as `"a,b",c`."""

    data: str = Field(
        description="CSV or Parquet: a file, a directory of them, a glob in quotes, or s3:// or gs:// of these"
    )
    target: Names = Field(min_length=1, description="column to predict; several columns of 0 and 1 are labels")
    features: Names | None = Field(default=None, description="columns to predict from (default: all others)")
    drop: Names = Field(default=(), description="columns to leave out")
    weight: str | None = Field(default=None, description="column with the weight of each row in the loss, 0 or more")
    split: str | None = Field(default=None, description="column that says train, validation or test of each row")
    validation_fraction: Fraction = Field(default=0.2, description="share of the rows to validate on")
    test_fraction: Fraction = Field(default=0.2, description="share of the rows to test on")
    split_seed: int = Field(
        default=42, ge=0, lt=2**32, description="seed of the random split, the same for runs of any --seed"
    )
    task: Literal["auto", "regression", "binary", "multiclass", "multilabel"] = Field(
        default="auto", description="regression, binary, multiclass or multilabel; auto: what the target looks like"
    )
    model: Literal["mlp", "wide-deep"] = Field(default="mlp", description="mlp, a multilayer perceptron, or wide-deep")
    loss: Literal["mse", "mae", "huber"] = Field(
        default="mse", description="of a regression: mse, mae or huber, in standard deviations of the target"
    )

    streaming: bool = Field(
        default=False, description="read the rows from disk while training; done anyway where they do not fit in memory"
    )
    memory_limit: ByteSize | None = Field(
        default=None, description="memory of each worker, as 2GiB (default: this machine's or container's share)"
    )

    @field_validator("memory_limit")
    @classmethod
    def _check_memory_limit(cls, limit: ByteSize | None) -> ByteSize | None:
        if limit is not None and limit < FEWEST_BYTES:
            raise ValueError(f"a value of {FEWEST_BYTES // 2**20} MiB or more, which TensorFlow and streaming take")
        return limit

    @field_validator("target", "features", "drop", mode="before")
    @classmethod
    def _split_lists(cls, value: Any) -> Any:
        return split_values(value)

    @field_validator("data")
    @classmethod
    def _check_data(cls, data: str) -> str:
        # A worker may have another working directory.
        return check_storage(data, name="--data")

    @field_validator("validation_fraction", "test_fraction", "split_seed")
    @classmethod
    def _check_is_drawn(cls, value: float, info: ValidationInfo) -> float:
        # config.yaml of a run has all values.
        if info.data.get("split") is not None and value != cls.model_fields[str(info.field_name)].default:
            raise ValueError("no value with --split, whose column says which row is where")
        return value

    @field_validator("test_fraction")
    @classmethod
    def _check_fractions(cls, test: float, info: ValidationInfo) -> float:
        validation = info.data.get("validation_fraction", 0.0)
        if test + validation >= 1:
            raise ValueError(f"less than {1 - validation:g}, for --validation-fraction is {validation:g}")
        return test

    @property
    def identity(self) -> dict[str, Any]:
        """What else decides about the model and cannot change when a run goes on."""
        streaming = {"streaming": True} if self.streaming else {}
        return {**super().identity, "architecture": self.model, "loss": self.loss, **streaming}
