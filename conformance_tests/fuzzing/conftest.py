"""Property tests, the same in every run: no clock, no database, a bounded number of tries."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.function_scoped_fixture),
)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """The packages that are mutated."""
    from mutate import Bench

    return Bench(tmp_path_factory.mktemp("packages"))
