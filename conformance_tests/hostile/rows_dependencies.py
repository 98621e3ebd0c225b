"""D: dependencies that are undeclared, idle, unbounded, contradictory, fetched or not fixed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hostile_row import Row
from package_builders import MANIFEST
from sound_package import sound

USUAL = ("torch>=2.10", "transformers>=4.57,<6")
CLASS = 'class = "LlamaForCausalLM"'
REQUIRES = 'requires = ["torch>=2.10", "transformers>=4.57,<6"]'
PYTHON = 'python = ">=3.11"'
SHA = "0123456789abcdef" * 4
IDLE = "pytest>=7"  # installed where these tests run, and no part of any model

Build = Callable[[Path], object]


def requiring(*more: str, only: bool = False, python: str = ">=3.11", code: str = "") -> Build:
    """A package that declares these dependencies, after the usual ones, and ships this code."""
    requires = list(more) if only else [*USUAL, *more]
    replace = {REQUIRES: f"requires = {json.dumps(requires)}", PYTHON: f'python = "{python}"'}
    files: dict[str, str | bytes] = {}
    if code:
        replace[CLASS] = f'{CLASS}\ncode = ["helper.py"]'
        files["helper.py"] = code
    return lambda folder: sound(folder, replace=replace, files=files)


def locked(name: str, content: str | bytes) -> Build:
    """A package with one more file."""
    return lambda folder: sound(folder, files={name: content})


def row(name: str, says: str, kills: str, code: str, build: Build, twin: Build) -> Row:
    """A row that fails."""
    return Row(name, says, build, f"SLM-DEP-{kills}", code, twin=twin)


def idle(name: str, says: str, build: Build, twin: Build) -> Row:
    """A row of a dependency that nothing uses."""
    return Row(name, says, build, "SLM-DEP-006", "unused-dependency", "warn", twin)


def lock(name: str, file: str, hashed: str, without: str) -> Row:
    """A row of a lock file without hashes, and its twin with them."""
    build, twin = locked(file, without), locked(file, hashed)
    says = f"{file} pins without a hash"
    return Row(f"D07-{name}", says, build, "SLM-DEP-007", "lock-without-hashes", "warn", twin)


def malformed(name: str, file: str, content: str | bytes, code: str = "malformed-lock") -> Row:
    """A row of a lock file that cannot be read."""
    build = locked(file, content)
    return Row(f"D07-{name}", f"{file} is broken", build, "SLM-DEP-007", code, "warn")


assert CLASS in MANIFEST
HASHED = f"--hash=sha256:{SHA}"
WHEEL = f'{{ url = "https://example.org/a.whl", hash = "sha256:{SHA}" }}'
BARE = '{ url = "https://example.org/a.whl" }'
FILE = f'{{ file = "a.whl", hash = "sha256:{SHA}" }}'
SOURCE = 'source = { registry = "https://pypi.org/simple" }'
UV = f'version = 1\n[[package]]\nname = "a"\nversion = "1.0"\n{SOURCE}\nwheels = [WHEEL]\n'
POETRY = '[[package]]\nname = "a"\nversion = "1.0"\nfiles = [FILE]\n'
OLD = '[[package]]\nname = "a"\nversion = "1.0"\n[metadata.files]\n"KEY" = [FILE]\n'
PYLOCK = (
    'lock-version = "1.0"\n[[packages]]\nname = "a"\n[[packages.wheels]]\nname = "a.whl"\nHASHES\n'
)
PIPFILE = {"default": {"a": {"version": "==1.0", "hashes": [f"sha256:{SHA}"]}}}

ROWS = [
    row(
        "D01-import",
        "code imports what is not declared",
        "005",
        "undeclared-import",
        requiring(code="import pytest\n"),
        requiring(IDLE, code="import pytest\n"),
    ),
    row(
        "D01-function",
        "a function imports what is not declared",
        "005",
        "undeclared-import",
        requiring(code="def f():\n    from pytest import raises\n    return raises\n"),
        requiring(code="try:\n    import pytest\nexcept ImportError:\n    pytest = None\n"),
    ),
    row(
        "D01-call",
        "code imports by a call what is not declared",
        "005",
        "undeclared-import",
        requiring(code="import importlib\nx = importlib.import_module('pytest')\n"),
        requiring(IDLE, code="import importlib\nx = importlib.import_module('pytest')\n"),
    ),
    row(
        "D01-loader",
        "the loader's own library is not declared",
        "005",
        "undeclared-loader",
        requiring("torch>=2.10", only=True),
        requiring(),
    ),
    idle(
        "D02-idle",
        "a dependency that nothing imports",
        requiring(IDLE, code="import torch\n"),
        requiring(IDLE, code="import torch\nimport pytest\n"),
    ),
    idle(
        "D02-commented",
        "a dependency that only a comment imports",
        requiring(IDLE, code="import torch  # import pytest\n"),
        requiring(IDLE, code="def f(name):\n    return __import__(name)\n"),
    ),
    idle(
        "D02-marked",
        "an idle dependency of this python",
        requiring(f"{IDLE}; python_version > '3'", code="import torch\n"),
        requiring(f"{IDLE}; python_version < '3'", code="import torch\n"),
    ),
    idle(
        "D02-beside-companions",
        "an idle dependency among those that libraries load by themselves",
        requiring("safetensors>=0.4", IDLE, code="import torch\n"),
        requiring("tokenizers>=0.1", "safetensors>=0.4", "numpy>=1", code="import torch\n"),
    ),
    idle(
        "D02-beside-bounds",
        "an idle dependency beside a bound on what another one requires",
        requiring("pluggy>=1", code="import torch\n"),
        requiring(IDLE, "pluggy>=1", code="import pytest\n"),
    ),
    row(
        "D03-upper",
        "transformers has an upper bound alone",
        "004",
        "no-lower-bound",
        requiring("torch>=2.10", "transformers<6", only=True),
        requiring("torch>=2.10", "transformers<6", "transformers>=4.57", only=True),
    ),
    row(
        "D03-name",
        "a name without a range",
        "004",
        "no-lower-bound",
        requiring("torch", "transformers>=4.57", only=True),
        requiring("torch~=2.10", "transformers>=4.57", only=True),
    ),
    row(
        "D03-exclusion",
        "one version is excluded, and no bound given",
        "004",
        "no-lower-bound",
        requiring("torch!=2.0", "transformers>=4.57", only=True),
        requiring("torch!=2.0,>=2", "transformers>=4.57", only=True),
    ),
    row(
        "D04-disjoint",
        "two ranges of one name have no version in common",
        "002",
        "disjoint",
        requiring("torch<2.10"),
        requiring("torch<99"),
    ),
    row(
        "D04-empty",
        "a range that allows nothing",
        "002",
        "empty-range",
        requiring("torch>=3,<2", "transformers>=4.57", only=True),
        requiring("torch>=2,<3", "transformers>=4.57", only=True),
    ),
    row(
        "D04-python",
        "a range of python that allows nothing",
        "002",
        "empty-range",
        requiring(python=">=3.12,<3.10"),
        requiring(python=">=3.10,<4"),
    ),
    row(
        "D04-installed",
        "what an installed dependency itself rules out",
        "002",
        "disjoint-with-installed",
        requiring("huggingface-hub>=90"),
        requiring("huggingface-hub>=0.1"),
    ),
    *(
        row(f"D05-{name}", f"a dependency is {name}", "001", "url", requiring(text), requiring())
        for name, text in (
            ("url", "a @ https://example.org/a.whl"),
            ("repository", "git+https://example.org/a.git"),
            ("named-repository", "a @ git+https://example.org/a.git@main"),
            ("file", "a @ file:///tmp/a.whl"),
            ("path", "./wheels/a.whl"),
        )
    ),
    row(
        "D06-later",
        "a python that does not exist yet",
        "003",
        "python",
        requiring(python=">=3.99"),
        requiring(python=">=3.8"),
    ),
    row(
        "D06-earlier",
        "a python of the past",
        "003",
        "python",
        requiring(python=">=3.8,<3.11"),
        requiring(python=">=3.8,<4"),
    ),
    lock("pip", "requirements.txt", f"a==1.0 {HASHED}\n", "a==1.0\nb==2.0  # why\n"),
    lock(
        "pip-one",
        "requirements-lock.txt",
        f"a==1.0 \\\n    {HASHED} \\\n    {HASHED}\nb==2.0 {HASHED}\n",
        f"a==1.0 \\\n    {HASHED}\nb==2.0\n",
    ),
    lock("pip-range", "dev-requirements.txt", "a>=1.0\nb==2.0\n-r x.txt\n", "a===1.0\nb==2.0\n"),
    lock(
        "pip-commit",
        "requirements.txt",
        f"a @ git+https://example.org/a.git@{SHA}\nb==1.0 {HASHED}\n",
        f"a @ git+https://example.org/a.git@{SHA}\nb==1.0\n",
    ),
    lock(
        "pylock",
        "pylock.toml",
        PYLOCK.replace("HASHES", f'hashes = {{ sha256 = "{SHA}" }}'),
        PYLOCK.replace("HASHES", "hashes = {}"),
    ),
    lock(
        "pylock-named",
        "pylock.dev.toml",
        PYLOCK.replace("HASHES", f'hashes = {{ sha256 = "{SHA}" }}'),
        PYLOCK.replace("HASHES", 'url = "https://example.org/a.whl"'),
    ),
    lock("uv", "uv.lock", UV.replace("WHEEL", WHEEL), UV.replace("WHEEL", BARE)),
    lock(
        "uv-one-wheel",
        "uv.lock",
        UV.replace("WHEEL", f"{WHEEL}, {WHEEL}"),
        UV.replace("WHEEL", f"{WHEEL}, {BARE}"),
    ),
    lock("poetry", "poetry.lock", POETRY.replace("FILE", FILE), POETRY.replace("FILE", "")),
    lock(
        "poetry-old",
        "poetry.lock",
        OLD.replace("KEY", "a").replace("FILE", FILE),
        OLD.replace("KEY", "a").replace("FILE", '{ file = "a.whl" }'),
    ),
    lock("pdm", "pdm.lock", POETRY.replace("FILE", FILE), POETRY.replace("FILE", BARE)),
    lock(
        "pdm-old",
        "pdm.lock",
        OLD.replace("KEY", "a 1.0").replace("FILE", FILE),
        OLD.replace("KEY", "b 1.0").replace("FILE", FILE),
    ),
    lock(
        "pipfile",
        "Pipfile.lock",
        json.dumps(PIPFILE),
        json.dumps({"default": {"a": {"version": "==1.0"}}, "_meta": {}}),
    ),
    lock("inner-folder", "env/uv.lock", UV.replace("WHEEL", WHEEL), UV.replace("WHEEL", BARE)),
    lock("pip-many", "requirements.txt", f"a==1 {HASHED}\n" * 20_000, "a==1\n" * 400_000),
    malformed("no-toml", "uv.lock", "[[package", "not-toml"),
    malformed("long-key", "uv.lock", "a" + ".a" * 500_000 + " = 1", "not-toml"),
    malformed("binary", "poetry.lock", b"\xff\xfe\x00", "not-utf8"),
    malformed("binary-pip", "requirements.txt", b"a==1.0\n\xff\n", "not-utf8"),
    malformed("no-json", "Pipfile.lock", "{", "not-json"),
    malformed("deep-json", "Pipfile.lock", "[" * 100_000, "too-deep"),
    malformed("json-list", "Pipfile.lock", "[1, 2]"),
    malformed("json-text", "Pipfile.lock", '{"default": "all"}'),
    malformed("text-for-packages", "pylock.toml", 'packages = "all"'),
    malformed("numbers-for-packages", "uv.lock", "package = [1, 2]"),
    malformed("no-name", "poetry.lock", '[[package]]\nversion = "1"\n'),
    malformed("name-is-a-list", "pdm.lock", "[[package]]\nname = [1]\n"),
    malformed("source-is-a-number", "uv.lock", '[[package]]\nname = "a"\nsource = 1\n'),
    malformed("files-are-text", "pdm.lock", '[[package]]\nname = "a"\nfiles = ["a.whl"]\n'),
    malformed("too-large", "uv.lock", b" " * (2 * 2**20 + 1), "too-large"),
]
