from __future__ import annotations

from pathlib import Path

import pytest

from slmconform.isolation.client import ForkServer, Job

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def candidates_path():
    """Let the processes of the tests import ``isolation_candidates``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        yield str(HERE)


@pytest.fixture(scope="session")
def server(candidates_path):
    """One server with torch in it, for all tests that leave it alive."""
    with ForkServer(preload=("torch",)) as server:
        yield server


@pytest.fixture(scope="session")
def light(candidates_path):
    """A server without preloaded modules, for tests that kill it."""
    with ForkServer(preload=()) as server:
        yield server


@pytest.fixture
def run(server):
    def run(name, *, timeout=30.0, on=server, **arguments):
        records = []
        job = Job(f"isolation_candidates:{name}", arguments)
        return on.run(job, timeout=timeout, on_record=records.append), records

    return run
