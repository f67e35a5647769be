"""What several modules compare with."""

from pathlib import Path

import pytest
from fault_runs import finish, start


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one process that nothing happened to."""
    storage = tmp_path_factory.mktemp("undisturbed")
    finish(start(storage, "none", "never"))
    return storage / "run"
