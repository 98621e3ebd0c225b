"""What source files import, by reading alone."""

from __future__ import annotations

import pytest

from slmconform.package import code
from slmconform.package.problem import PackageProblem


def demanded(source: str, own: frozenset[str] = frozenset()) -> list[str]:
    found = code.foreign(code.imports(source.encode(), "m.py"), own)
    return [one.top for one in found if not one.optional]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("import numpy", ["numpy"]),
        ("import numpy.linalg as la, torch", ["numpy", "torch"]),
        ("from torch import nn", ["torch"]),
        ("from . import helper\nfrom .x import y\nfrom .. import z", []),
        ("import os, sys, json.decoder\nfrom __future__ import annotations", []),
        ("def f():\n    import numpy", ["numpy"]),
        ("class A:\n    def f(self):\n        async def g():\n            import numpy", ["numpy"]),
        ("if x:\n    import numpy\nelse:\n    import torch", ["numpy", "torch"]),
        ("try:\n    import numpy\nexcept ImportError:\n    pass", []),
        ("try:\n    import numpy\nexcept (OSError, ImportError) as e:\n    import torch", []),
        ("try:\n    import numpy\nexcept ModuleNotFoundError:\n    numpy = None", []),
        ("try:\n    import numpy\nexcept:\n    pass", []),
        ("try:\n    f(lambda: __import__('numpy'))\nexcept Exception:\n    pass", []),
        ("try:\n    import numpy\nexcept OSError:\n    pass", ["numpy"]),
        ("try:\n    import numpy\nfinally:\n    import torch", ["numpy", "torch"]),
        ("try:\n    pass\nexcept ImportError:\n    pass\nfinally:\n    import torch", ["torch"]),
        ("if TYPE_CHECKING:\n    import numpy\nelse:\n    import torch", ["torch"]),
        ("import typing\nif typing.TYPE_CHECKING:\n    import numpy", []),
        ("__import__('numpy')\nimportlib.import_module('torch.nn')", ["numpy", "torch"]),
        ("importlib.import_module(name)\nimport_module('.local')\n__import__('a b')", []),
        ("x = 'import numpy'  # import torch", []),
        ("# -*- coding: latin-1 -*-\nimport numpy", ["numpy"]),
        ("x = '\\d'\nimport numpy", ["numpy"]),
        ("", []),
    ],
)
def test_imports(source, wanted):
    assert demanded(source) == wanted


def test_own_modules_are_not_foreign():
    own = code.own_modules(["modeling.py", "lib/__init__.py", "lib/layers.py"])
    assert demanded("import modeling, lib.layers, layers, numpy", own) == ["numpy"]


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (b"x = 1\nimport", "m.py:2"),
        (b"a\x00b", "m.py"),
        (b"\xff\xfe", "m.py"),
        (b"(" * 5000, "m.py"),
        (b"x = " + b"-" * 100_000 + b"1", "m.py"),
        (b"# coding: nothing\n", "m.py"),
    ],
)
def test_what_does_not_parse_is_said_with_its_line(source, where):
    with pytest.raises(PackageProblem) as caught:
        code.imports(source, "m.py")
    assert caught.value.code == "unparseable-code"
    assert caught.value.where.startswith(where)


def test_reading_runs_nothing(tmp_path):
    mark = tmp_path / "ran"
    code.imports(f"open({str(mark)!r}, 'w')\nimport numpy".encode(), "m.py")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "provider"),
    [
        ("yaml", "pyyaml"),
        ("sklearn.metrics", "scikit-learn"),
        ("PIL.Image", "pillow"),
        ("cv2", "opencv-python-headless"),
        ("google.protobuf.message", "protobuf"),
        ("not_installed_at_all", "not-installed-at-all"),
        ("torch.nn", "torch"),
        ("huggingface_hub", "huggingface-hub"),
    ],
)
def test_distributions(module, provider):
    assert provider in code.distributions(module)


def test_import_table_is_of_other_names_only():
    for name, providers in code.IMPORTED_AS.items():
        assert providers != (name,)
