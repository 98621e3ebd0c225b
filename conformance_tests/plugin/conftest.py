"""A repository with one package, and a run over all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_runs import Ran, make_repository, run


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run(make_repository(tmp_path_factory.mktemp("whole") / "repository"), "-rs")
