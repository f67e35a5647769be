import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import schemas


@pytest.fixture(scope="session")
def kuberay_schemas() -> Path:
    """The directory with the schemas of KubeRay's resources, which are not part of the checkout."""
    directory = schemas.shared()
    if directory is None:
        pytest.skip(
            "KubeRay's schemas are not beside this checkout: ANNLIB_TEST_SHARED may name the directory of kuberay/"
        )
    return directory
