"""The model of a finished run, without what only training needs."""

import contextlib
from typing import TYPE_CHECKING

from annlib.artifacts import RunDirectory
from annlib.errors import AnnlibError, CheckpointError
from annlib.loading import load_core, read_config
from annlib.signature import Signature
from annlib.workloads import find

if TYPE_CHECKING:
    import keras


def load_uncompiled(run: RunDirectory, signature: Signature) -> "keras.Model":
    """Returns what takes the signature's arrays; raises as `annlib.load`.

    A loss and an optimizer are not needed, and an HDF5 file may have none.
    """
    try:
        return load_core(run, signature, compile=False)
    except CheckpointError:
        # Importing the workload of the user's own registers the classes of its model.
        with contextlib.suppress(AnnlibError):
            read_config(run, lambda name: find(name).config_class)
        return load_core(run, signature, compile=False)
