"""What own code may do without a word: the near misses of SLM-IFC-011 and of the seal."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_code import own_code

import slmconform
from slmconform.standard.report import Outcome

LEGAL = {
    "reads its own files": "open(__file__).read()",
    "lists its own folder": "import os\nos.listdir(os.path.dirname(__file__))",
    "reads a library": "import json, pathlib\npathlib.Path(json.__file__).read_text()",
    "keeps a file in the scratch folder": (
        "import tempfile\nwith tempfile.TemporaryFile() as file:\n    file.write(b'x')"
    ),
    "logs and warns": (
        "import logging, warnings\n"
        "logging.getLogger(__name__).warning('slow path')\n"
        "warnings.warn('slow path')"
    ),
    "makes classes": (
        "import collections, dataclasses, enum, typing\n"
        "@dataclasses.dataclass\nclass Shape:\n    width: int = 3\n"
        "Pair = collections.namedtuple('Pair', 'a b')\n"
        "class Kind(enum.Enum):\n    ONE = 1\n"
        "Shape(), Pair(1, 2), Kind.ONE, typing.NamedTuple('N', [('a', int)])"
    ),
    "looks at signatures": (
        "import inspect\ninspect.signature(Model.forward)\nModel.forward.__code__.co_varnames"
    ),
    "catches and shows an error": (
        "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.format_exc()"
    ),
    "compiles a template": "exec(compile('a = 1 + 1', '<made>', 'exec'), {})",
    "registers an operator": (
        "@torch.library.custom_op('tiny::twice', mutates_args=())\n"
        "def twice(x: torch.Tensor) -> torch.Tensor:\n    return x + x\n"
        "torch.ops.tiny.twice(torch.ones(2))"
    ),
    "caches what it computed": "import functools\nfunctools.cache(abs)(-1)",
    "sets seeds and the default dtype": (
        "torch.manual_seed(0)\ntorch.set_default_dtype(torch.float64)\n"
        "torch.set_default_dtype(torch.float32)"
    ),
    "uses a mode and leaves it": (
        "with torch.no_grad(), torch.random.fork_rng():\n    torch.rand(2)"
    ),
    "makes and removes a tree in the scratch folder": (
        "import os, tempfile\nwith tempfile.TemporaryDirectory() as made:\n"
        "    os.makedirs(made + '/a/b')\n    open(made + '/a/x', 'w').close()"
    ),
    "imports a library that tries the network out": (
        "try:\n    import urllib3\nexcept ImportError:\n    pass"
    ),
    "maps a function over a batch": "torch.vmap(lambda row: row * 2)(torch.ones(2, 2))",
    "makes a kernel of attention": (
        "from torch.nn.attention.flex_attention import flex_attention\n"
        "one = torch.ones(1, 1, 16, 16)\nflex_attention(one, one, one)"
    ),
    "adds what an older torch lacks": (
        "torch.nn.functional.made_up = torch.made_up = lambda one: one"
    ),
    "sets how torch multiplies": (
        "torch.set_float32_matmul_precision('high')\ntorch.use_deterministic_algorithms(False)"
    ),
    "reaches itself by signal 0": "import os\nos.kill(os.getpid(), 0)",
}


@pytest.mark.parametrize("code", LEGAL.values(), ids=LEGAL)
def test_legal_code_reaches_for_nothing(code, tmp_path):
    folder = own_code(tmp_path / "own", build=code)
    report = slmconform.check(folder, profile="runnable", trust_code=True, device="cpu")
    assert report.failures == [], report.log
    outcomes = {one.id: one.outcome for one in report.results}
    assert outcomes["SLM-IFC-011"] is Outcome.PASS


def test_what_was_run_is_listed_with_its_digest(tmp_path):
    folder = own_code(tmp_path / "own", build="helper.used()")
    code = folder / "modeling.py"
    code.write_text(f"import helper\n{code.read_text()}")
    (folder / "helper.py").write_text("def used():\n    pass\n")
    (folder / "other.py").write_text("def unused():\n    pass\n")
    manifest = folder / "slm.toml"
    text = manifest.read_text().replace(
        'entry = "modeling.py:build"',
        'entry = "modeling.py:build"\ncode = ["helper.py", "other.py"]',
    )
    manifest.write_text(text)
    report = slmconform.check(folder, profile="runnable", trust_code=True, device="cpu")
    assert report.failures == [], report.log
    assert [one["path"] for one in report.setting.code] == ["modeling.py", "helper.py"]
    assert all(len(one["sha256"]) == 64 for one in report.setting.code)


def test_it_can_be_asked_alone(tmp_path):
    folder = own_code(tmp_path / "own", forward="open('/etc/passwd').read()")
    options = {"trust_code": True, "device": "cpu", "only": ["IFC-011"]}
    failures = {one.id: one.finding.code for one in slmconform.check(folder, **options).failures}
    assert failures == {"SLM-IFC-005": "forward-raises", "SLM-IFC-011": "read"}
    report = slmconform.check(own_code(tmp_path / "legal"), **options)
    assert report.failures == []
    outcomes = {one.id: one.outcome for one in report.results}
    assert outcomes["SLM-IFC-011"] is Outcome.PASS


def test_the_place_of_an_offence_is_told(tmp_path):
    folder = own_code(tmp_path / "own", forward="open('/tmp/slm-left-behind', 'a')")
    report = slmconform.check(folder, profile="runnable", trust_code=True, device="cpu")
    (offence,) = [one for one in report.failures if one.id == "SLM-IFC-011"]
    assert offence.finding.where == "modeling.py:11"
    assert "/tmp/slm-left-behind" in offence.finding.got
    if "files" in report.setting.isolation:
        assert not Path("/tmp/slm-left-behind").exists()
