"""Shared by all tests; standing here, it puts the builders beside it on the import path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slmconform.isolation.client import ForkServer, shared_server


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """The process that starts candidates, with torch and transformers in it."""
    server = shared_server()
    yield server
    server.close()
