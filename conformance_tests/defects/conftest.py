"""Recorded packages, made once a session and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import training_packages
from packages import recorded


@pytest.fixture(scope="session")
def originals(tmp_path_factory, server) -> Callable[[str], Path]:
    """The folder of a recorded package by its name; not to be changed."""
    made: dict[str, Path] = {}

    def original(name: str) -> Path:
        if name not in made:
            made[name] = recorded(name, tmp_path_factory.mktemp("recorded") / name, server)
        return made[name]

    return original


@pytest.fixture
def package(originals, tmp_path) -> Callable[[str], Path]:
    """A copy of a recorded package, to be changed."""

    def copied(name: str) -> Path:
        return Path(shutil.copytree(originals(name), tmp_path / name))

    return copied


@pytest.fixture(scope="session")
def learners(tmp_path_factory, server) -> Callable[[str], Path]:
    """The folder of a recorded package with a training recipe; not to be changed."""
    made: dict[str, Path] = {}

    def original(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("learners") / name
            made[name] = training_packages.recorded(name, folder, server)
        return made[name]

    return original


@pytest.fixture
def learner(learners, tmp_path) -> Callable[[str], Path]:
    """A copy of a recorded package with a training recipe, to be changed."""

    def copied(name: str) -> Path:
        return Path(shutil.copytree(learners(name), tmp_path / name))

    return copied
