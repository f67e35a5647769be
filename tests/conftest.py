"""How the tests are shared between processes: a file at a time, and all that start Ray in one of them.

Two clusters at once would wait for each other's processors until the tests' time is up.
"""

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_WITH_RAY = (_TESTS / "distributed", _TESTS / "jobs/test_submit.py")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Names the group of each test for `--dist loadgroup`; the longest group comes first."""
    with_ray = {item for item in items if any(item.path.is_relative_to(place) for place in _WITH_RAY)}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if item in with_ray else str(item.path)))
    items.sort(key=lambda item: item not in with_ray)
