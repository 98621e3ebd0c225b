"""Shared by all tests; standing here, it puts the builders beside it on the import path.

The records of defects and of hostile packages are read by more tests than their own.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slmconform.isolation.client import ForkServer, shared_server

if TYPE_CHECKING:
    from bases import Bases

HERE = Path(__file__).parent
sys.path += [str(HERE / name) for name in ("defects", "hostile", "near_misses", "real")]


def pytest_configure(config: pytest.Config) -> None:
    """The same tests everywhere: no variable of a CI system, and no report in a user's cache."""
    os.environ.pop("CI", None)
    os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / "slmconform-tests-cache")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the sweep be shared out."""
    parser.addoption("--shard", default="1/1", help="the part of the sweep to run, such as 2/8")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes half an hour, unless it is asked for."""
    for mark in ("long", "sweep"):
        if mark not in config.option.markexpr:
            left_out = [item for item in items if item.get_closest_marker(mark)]
            items[:] = [item for item in items if item not in left_out]
            config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """The process that starts candidates, with torch and transformers in it."""
    server = shared_server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def bases(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Bases:
    """The sound packages that defects and near misses are made of."""
    from bases import Bases

    return Bases(tmp_path_factory.mktemp("bases"), server)
