"""The README shows what the program prints, and what it tells a newcomer to run works."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from own_code import own_code

from slmconform.cli import main
from slmconform.standard.catalogue import catalogue

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of a check but those that name the versions and layers of this machine."""
    main(["check", *arguments])
    return portable(capsys.readouterr().out.splitlines())


def portable(lines: list[str]) -> list[str]:
    """The first line and all from the first empty one on."""
    return [*lines[:1], *lines[lines.index("") :]]


def test_the_first_screen_is_real(capsys: pytest.CaptureFixture[str]):
    shown = FENCES[0][1].splitlines()
    assert shown[0] == "$ slmconform check reference_models/llama-assistant"
    real = printed(capsys, str(ROOT / "reference_models" / "llama-assistant"))
    assert portable(shown[1:]) == real


def test_the_failure_is_real(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    model = shutil.copytree(ROOT / "reference_models" / "llama-assistant", tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    real = printed(capsys, str(model))
    shown = FENCES[1][1].replace("./model", str(model)).splitlines()
    start = real.index(shown[0])
    assert real[start : start + len(shown)] == shown


def test_what_a_strangers_code_reaches_for_is_real(capsys: pytest.CaptureFixture[str], tmp_path):
    (shown,) = [text for _, text in FENCES if text.startswith("FAIL  SLM-IFC-011")]
    look_up = "import socket\ntry:\n    socket.getaddrinfo('weights.example', 443)\n"
    model = own_code(tmp_path / "model", build=f"{look_up}except OSError:\n    pass")
    real = printed(capsys, str(model), "--trust-code")
    wanted = shown.replace("./model", str(model)).splitlines()
    start = real.index(wanted[0])
    assert real[start : start + len(wanted)] == wanted


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.chdir(ROOT)
    (example,) = [text for language, text in FENCES if language == "python"]
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "conformant 0 []\n"


def test_the_number_of_requirements_is_true():
    count = len(catalogue().requirements)
    assert f"There are {count} requirements" in README
    assert f"for each of the {count} requirements" in README


def test_the_numbers_of_defects_and_models_are_those_of_their_pages():
    totals = dict(re.findall(r"^\| ([a-z ,]+) \| (\d+) \|$", page("kill-matrix"), re.MULTILINE))
    assert f"{totals['defects']} defects" in README
    assert f"{totals['told by it and by nothing else']} by nothing else" in README
    assert f"{totals['legal neighbours and other legal variants']} legal neighbours" in README
    swept = re.findall(r"^\| ([45]\.[\d.]+) \| \d+ \| (\d+) ", page("sweep"), re.MULTILINE)
    assert all(f"{count} on {version}" in README for version, count in swept)
    mutants = re.findall(r"^\| `[a-z_/]+\.py` \| (\d+) ", page("mutation"), re.MULTILINE)
    assert f"changed in {sum(map(int, mutants))} places" in README


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")
