"""Tiny packages, built once a session and copied for each test; a bench over one of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from evaluation_packages import build

from slmconform.measure.bench import Bench
from slmconform.measure.opening import opened


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Callable[..., Path]:
    """The folder of a package by task; not to be changed."""
    made: dict[tuple[object, ...], Path] = {}

    def original(task: str, **options: object) -> Path:
        key = (task, *sorted(options.items()))
        if key not in made:
            made[key] = build(tmp_path_factory.mktemp("built") / task, task, **options)
        return made[key]

    return original


@pytest.fixture
def package(built, tmp_path) -> Callable[..., Path]:
    """A copy of a package, to be changed."""

    def copied(task: str, **options: object) -> Path:
        return Path(shutil.copytree(built(task, **options), tmp_path / task, dirs_exist_ok=True))

    return copied


@pytest.fixture
def bench(tmp_path) -> Iterator[Callable[[Path], Bench]]:
    """Opens a bench over a folder in this process."""
    with ExitStack() as stack:

        def open_one(folder: Path) -> Bench:
            arguments = {"package": str(folder), "device": "cpu", "scratch": str(tmp_path)}
            return stack.enter_context(opened(arguments))[0]

        yield open_one
