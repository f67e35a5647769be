"""The errors a user can meet. Every message says what is wrong, what was expected, what was received, and what to do.

Entry points print the message as one line and exit with `exit_code`; they never show a traceback for these.
"""

import re


class AnnlibError(Exception):
    """Base of all errors that a user can cause or mend."""

    exit_code = 2


class ConfigError(AnnlibError):
    """A value of the configuration is unknown, of the wrong type or out of range."""


class DataError(AnnlibError):
    """A data file is missing, truncated or not what its checksum says, or an array has the wrong shape or values."""


class StorageError(AnnlibError):
    """The run directory cannot be written or read."""


class CheckpointError(AnnlibError):
    """A checkpoint is damaged, or belongs to another model, data set or seed."""


class ClusterError(AnnlibError):
    """The cluster cannot give what the run asks for."""


class TrainingError(AnnlibError):
    """Training started and could not go on."""

    exit_code = 1


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


# Of a value, which may be a page of text.
_MOST_SHOWN = 40


def quoted(value: object) -> str:
    """Returns a value as Python writes it, a long one cut short."""
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
    return repr(text) if isinstance(value, str) else text


# Keras tells in a few lines what differs between two structures.
_SHORT = 200


def last_line(error: Exception) -> str:
    """Returns what another library's message is about: a short paragraph, else its last line, at most 400 characters.

    The nodes of TensorFlow's graph and the arguments of Keras' call, which come after it, are left out.
    """
    text = str(error).split("[[{{node")[0].split("\n\nArguments received by")[0]
    # Keras prints some in bold.
    text = re.sub(r"\x1b\[\d+m", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "\n\n" not in text and 0 < len(" ".join(lines)) <= _SHORT:
        lines = [" ".join(lines)]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")[:400]
