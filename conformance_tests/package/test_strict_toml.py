"""TOML of strangers: a long dotted key is refused before the library reads it, strings are not."""

from __future__ import annotations

import time

import pytest

from slmconform.package import strict_toml
from slmconform.package.problem import PackageProblem

KEY = ".".join("k" * 65)
HUGE = "a" + ".a" * 500_000

LONG_KEYS = {
    "plain": f"{KEY} = 1",
    "huge": f"{HUGE} = 1",
    "header": f"[{KEY}]",
    "array": f"x = 1\n[[ {KEY} ]]",
    "inline": f"x = {{ {KEY} = 1 }}",
    "spaced": f"{' . '.join('k' * 65)} = 1",
    "quoted": ".".join(['"k.k"'] * 65) + " = 1",
    "literal": ".".join(["'k'"] * 65) + " = 1",
    "escaped": ".".join(['"\\""'] * 65) + " = 1",
    "behind a string": f'x = {{ b = """a"b\'""", {KEY} = 1 }}',
    "behind a comment": f'x = 1 # "\n{KEY} = 1',
}
LEGAL = {
    "64 parts": ".".join("k" * 64) + " = 1",
    "dots in a string": f'x = "{KEY}"',
    "dots in a literal": f"x = '{KEY}'",
    "dots in lines": f'x = """\n{KEY} = 1\n"""',
    "dots in literal lines": f"x = '''\n\"{KEY}''''\n",
    "dots in a comment": f"# {KEY}\nx = 1 # {KEY}",
    "dots in quoted keys": '"' + KEY + '"."' + KEY + '" = 1',
    "escaped quotes": f'x = "\\"{KEY}\\""',
    "numbers": f"x = [{', '.join(['1.5'] * 100)}]",
}


@pytest.mark.parametrize("text", LONG_KEYS.values(), ids=LONG_KEYS)
def test_a_long_key_is_refused_at_once(text):
    start = time.monotonic()
    with pytest.raises(PackageProblem) as caught:
        strict_toml.loads(text.encode(), "x.toml")
    assert caught.value.code == "not-toml"
    assert caught.value.got == "a key of more than 64 parts"
    assert caught.value.where.startswith("x.toml:")
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("text", LEGAL.values(), ids=LEGAL)
def test_what_only_looks_like_one_is_read(text):
    assert strict_toml.loads(text.encode(), "x.toml")


@pytest.mark.parametrize(
    "text", ['"' * 10**6, '"\\' * 500_000, "'''" + "''x" * 300_000, "a " * 500_000]
)
def test_what_is_left_open_costs_no_more_than_what_is_closed(text):
    start = time.monotonic()
    with pytest.raises(PackageProblem):
        strict_toml.loads(text.encode(), "x.toml")
    assert time.monotonic() - start < 4
