"""R01: whatever a stranger writes into names and values, a report stays a report.

Each word stands in each place where a package can put it. Of text: one report, no control or
format character, nothing that a CI system takes for a command, no line that poses as ours. Of
JSON: it parses, and holds no more results than there are.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from own_code import own_code
from package_builders import MANIFEST
from sound_package import ROLES, TOKENIZER, sound

import slmconform
from slmconform.engine.examine import CheckOptions, examine
from slmconform.report.json_text import as_json
from slmconform.report.text import WIDTH, View, render
from slmconform.standard.report import Report

FORGED = "verdict: conformant"
WORDS = {
    "html": "<script>alert(1)</script>",
    "escape": "\x1b[31mred\x1b]0;title\x07",
    "null": "a\x00b",
    "bidirectional": "a\u202eb\u2066c",
    "workflow": "::error::x",
    "workflow-line": "x\n::error file=a::x\r\n::set-output name=a::b",
    "azure": "##[error]x ##vso[task.setvariable variable=a]b",
    "cdata": "]]>",
    "surrogate": "a\ud800b",
    "long": "x" * 10_000,
    "long-words": f"{'y ' * 70}{FORGED} {'z ' * 70}",
    "workflow-words": "::error::x " * 30,
    "pipe": "a | b || c",
    "backticks": "```\n# Title\n`code`",
    "markup": "[/] [bold red]x[/bold red] [link=https://example.org]y[/link]",
    "separators": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "format": "{0} %s %(x)s {self.__class__} ${HOME} $(id)",
    "tags": "a\U000e0041b\ufeffc\u200bd",
    "forged": f"x\n{FORGED}\nPASS  SLM-IFC-001  all is well",
}
MARK = "quokka"  # a word that no message of ours holds


def file_name(word: str) -> str:
    """The word as a file system allows it."""
    return os.fsdecode(re.sub(r"[\x00/]", "-", word).encode("utf-8", "surrogatepass")[:200])


def toml(word: str) -> str:
    """The word inside a basic string of TOML, which has no halves of characters."""
    return json.dumps(word.replace("\ud800", "?"))


def in_config(**changes: Any) -> Callable[[Path, str], Path]:
    """A place in config.json; ``WORD`` stands for the word."""

    def build(folder: Path, word: str) -> Path:
        def put(value: Any) -> Any:
            if isinstance(value, dict):
                return {put(k): put(v) for k, v in value.items()}
            if isinstance(value, list):
                return [put(one) for one in value]
            return word if value == "WORD" else value

        return sound(folder, config=put(changes))

    return build


def in_manifest(old: str, new: str) -> Callable[[Path, str], Path]:
    """A place in slm.toml; ``WORD`` stands for the word in quotes."""
    assert old in MANIFEST, old
    return lambda folder, word: sound(folder, replace={old: new.replace("WORD", toml(word))})


def in_file(name: str, content: str) -> Callable[[Path, str], Path]:
    """A place in another file; ``WORD`` stands for the word as JSON."""
    return lambda folder, word: sound(
        folder, files={name: content.replace('"WORD"', json.dumps(word))}
    )


def named(ending: str, content: bytes = b"{") -> Callable[[Path, str], Path]:
    """A file that the word names."""

    def build(folder: Path, word: str) -> Path:
        sound(folder)
        (folder / f"{file_name(word)}{ending}").write_bytes(content)
        return folder

    return build


def tensor_name(folder: Path, word: str) -> Path:
    """A safetensors header that names a tensor by the word."""
    sound(folder)
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}
    header = json.dumps({word: entry}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(8)
    (folder / "model.safetensors").write_bytes(data)
    return folder


def folder_name(folder: Path, word: str) -> Path:
    """A package whose own folder is named by the word."""
    return sound(folder / file_name(word), config={"hidden_size": "8"})


PLACES: dict[str, Callable[[Path, str], Path]] = {
    "folder": folder_name,
    "file": named(".json"),
    "source-file": named(".py"),
    "pickle": named(".bin", pickle.dumps({"a": 1})),
    "tensor": tensor_name,
    "config-value": in_config(hidden_size="WORD"),
    "config-key": in_config(text_config={"WORD_size": 1, "auto_map": {"WORD": "WORD"}}),
    "config-class": in_config(architectures=["WORD"]),
    "config-code": in_config(_attn_implementation={"WORD": "a/b", "x": "WORD/x"}),
    "config-duplicate": in_file("generation_config.json", '{"WORD": 1, "WORD": 2}'),
    "model-name": in_manifest('name = "tiny-llama"', "name = WORD"),
    "model-version": in_manifest('version = "1.0.0"', "version = WORD"),
    "task": in_manifest('task = "causal-lm"', "task = WORD"),
    "licence": in_manifest('license = "MIT"', "license = WORD"),
    "dependency": in_manifest('"torch>=2.10"', "WORD"),
    "python": in_manifest('python = ">=3.11"', "python = WORD"),
    "unknown-key": in_manifest("[model]", "[model]\nWORD = 1"),
    "output": in_manifest('dtype = "float32"\naxes', "dtype = WORD\naxes"),
    "token": in_file("tokenizer_config.json", json.dumps(ROLES | {"bos_token": "WORD"})),
    "vocabulary": in_file(
        "tokenizer.json",
        json.dumps(TOKENIZER).replace('"l": 15', '"WORD": 99'),
    ),
    "index": in_file("model.safetensors.index.json", '{"weight_map": {"WORD": "WORD"}}'),
    "lock": in_file("Pipfile.lock", '{"default": {"WORD": {}}}'),
}


def texts(report: Report) -> Iterator[str]:
    """The report in each form of text, colours taken off."""
    for view in (View(), View(quiet=True), View(verbose=True, timings=True)):
        yield render(report, view)
    yield re.sub(r"\x1b\[[0-9;]*m", "", render(report, View(verbose=True, colour=True)))


def assert_harmless(text: str) -> None:
    """Nothing in it moves a cursor, hides, or commands."""
    bad = {c for c in text if not c.isprintable() and c != "\n"}
    assert not bad, ascii(bad)
    for line in text.split("\n"):
        assert not line.lstrip().startswith("::"), line
        assert "##[" not in line, line
        assert "##vso[" not in line, line


def assert_one_report(text: str, report: Report) -> None:
    """The lines at the margin are ours: one verdict, one line a result that is told."""
    lines = text.split("\n")
    verdicts = [line for line in lines if re.match(r"(provisional )?verdict: ", line)]
    assert len(verdicts) == 1, verdicts
    told = [line for line in lines if re.match(r"(PASS|WARN|FAIL|ERROR|BLOCKED) ", line)]
    ids = {result.id for result in report.results}
    assert all(re.match(r"[A-Z]+ +(SLM-[A-Z]{3}-\d{3})  ", line)[1] in ids for line in told)
    assert len(set(told)) == len(told)
    for line in lines:
        ours = line.lstrip().startswith(("again ", "next: ", "slmconform: "))
        assert ours or len(line) <= WIDTH, line


def assert_parses(text: str, report: Report) -> None:
    """The JSON is ASCII, harmless, and the report that it was made of."""
    assert text.isascii()
    assert_harmless(text)
    parsed = json.loads(text)
    assert [one["id"] for one in parsed["results"]] == [one.id for one in report.results]
    assert parsed == report.model_dump(mode="json")


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_word_in_a_file_stays_a_word(place, word, tmp_path):
    try:
        folder = PLACES[place](tmp_path, word)
    except (OSError, UnicodeError) as error:
        pytest.skip(f"no such name on this file system: {error}")
    report = slmconform.check(folder, profile="packaged")
    for text in texts(report):
        assert_harmless(text)
        assert_one_report(text, report)
    assert_parses(as_json(report), report)


@pytest.mark.parametrize("place", PLACES)
def test_each_place_does_reach_the_report(place, tmp_path):
    """Or the test above would say nothing."""
    report = slmconform.check(PLACES[place](tmp_path, MARK), profile="packaged")
    assert MARK in as_json(report)


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_a_word_that_the_model_prints_or_raises_stays_a_word(word, tmp_path):
    said = f"import os, sys\nword = {word!r}\n"
    said += "os.write(1, (word + chr(10) + word).encode('utf-8', 'surrogatepass'))\n"
    said += "sys.stderr.write(ascii(word))\nraise ValueError(word)"
    folder = own_code(tmp_path / "own", build=said)
    report = examine(folder, CheckOptions(trust_code=True, device="cpu", only=("IFC-002",)))
    assert report.failures
    for text in texts(report):
        assert_harmless(text)
        assert_one_report(text, report)
    assert_parses(as_json(report), report)


@pytest.mark.parametrize("word", ["escape", "workflow", "azure", "markup", "forged", "format"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_log_of_a_ci_system_receives(word, form, tmp_path):
    folder = folder_name(tmp_path, WORDS[word])
    (folder / file_name(f"{WORDS[word]}.py")).write_text("x = 1\n")
    arguments = ["check", str(folder), "--profile", "packaged", "--format", form]
    ran = subprocess.run(
        [sys.executable, "-m", "slmconform.cli", *arguments],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    out, told = ran.stdout.decode(), ran.stderr.decode()
    assert ran.returncode == 1, told
    assert_harmless(out)
    assert_harmless(told)
    if form == "json":
        assert json.loads(out)["verdict"] == "not conformant"
