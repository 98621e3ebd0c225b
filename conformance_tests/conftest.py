"""Shared by all tests; standing here, it puts the builders beside it on the import path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slmconform.isolation.client import ForkServer, shared_server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes half an hour, unless it is asked for."""
    if "long" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """The process that starts candidates, with torch and transformers in it."""
    server = shared_server()
    yield server
    server.close()
