"""The options of the plugin: on the command line, or for good in the configuration of pytest."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from slmconform.standard.files import WAIVERS

# name -> (placeholder on the command line, help); the command line wins over the configuration.
VALUES = {
    "profile": ("NAME", "judge by this profile instead of the declared one"),
    "device": ("NAME", "auto, cpu, cuda, cuda:N, mps, ..."),
    "timeout": ("S", "wall limit of the model's process in seconds (600)"),
}
WAIVERS_HELP = f"the file of waivers (default: {WAIVERS} in the root folder, where it is there)"
FLAGS = {"trust_code": "run code that the package brings; read it first"}


def add(parser: pytest.Parser) -> None:
    """Declare ``--slm-...`` and the keys of the same names."""
    group = parser.getgroup("slmconform", "conformance of small language models")
    for name, (placeholder, text) in VALUES.items():
        group.addoption(_flag(name), metavar=placeholder, help=text)
        parser.addini(f"slm_{name}", text, default="")
    for name, text in FLAGS.items():
        group.addoption(_flag(name), action="store_true", default=None, help=text)
        parser.addini(f"slm_{name}", text, type="bool", default=False)
    group.addoption("--slm-waivers", metavar="FILE", type=Path, help=WAIVERS_HELP)
    parser.addini("slm_waivers", WAIVERS_HELP, type="paths", default=[])
    text = "whether slm.toml files are collected (default: true)"
    parser.addini("slmconform", text, type="bool", default=True)


def chosen(config: pytest.Config) -> dict[str, Any]:
    """What was chosen, under the names of `CheckOptions`."""
    values = {name: config.getoption(_flag(name)) for name in (*VALUES, *FLAGS)}
    found = {
        name: config.getini(f"slm_{name}") if value is None else value
        for name, value in values.items()
    }
    found["waivers"] = _waivers(config)
    return checked({name: value for name, value in found.items() if value})


def _waivers(config: pytest.Config) -> Path | None:
    if (given := config.getoption("--slm-waivers")) is not None:
        return Path(config.invocation_params.dir, given)
    standing = config.rootpath / WAIVERS
    declared: list[Path] = config.getini("slm_waivers")
    return next(iter(declared), standing if standing.exists() else None)


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with seconds as a number."""
    if "timeout" in options:
        options = options | {"timeout": _seconds(options["timeout"])}
    return options


def repeated(config: pytest.Config) -> list[str]:
    """The options of the command line, for the command that repeats a failure."""
    words: list[str] = []
    for name in VALUES:
        if (value := config.getoption(_flag(name))) is not None:
            words += [_flag(name), value]
    if (file := config.getoption("--slm-waivers")) is not None:
        words += ["--slm-waivers", str(file)]
    return words + [_flag(name) for name in FLAGS if config.getoption(_flag(name))]


def _flag(name: str) -> str:
    return f"--slm-{name.replace('_', '-')}"


def _seconds(given: str | float) -> float:
    from slmconform.arguments import seconds

    try:
        return seconds(given)
    except argparse.ArgumentTypeError as error:
        raise pytest.UsageError(f"slm_timeout: {error}") from None
