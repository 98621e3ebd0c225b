"""The packages of `bases`, built once a session and copied for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bases import Bases


@pytest.fixture
def package(bases: Bases, tmp_path) -> Callable[[str], Path]:
    """A copy of a recorded package, to be changed."""
    return lambda name: bases.copy(name, tmp_path / name)


@pytest.fixture
def learner(package) -> Callable[[str], Path]:
    """A copy of a recorded package with a training recipe, to be changed."""
    return lambda name: package(f"learner-{name}")
