"""Mutation testing of the code that decides whether numbers agree.

Usage: python benchmarks/mutation.py [--write] [MODULE ...]

Each small change of a module in ``mutation.toml`` is tried against that module's tests: one that
no test notices survives, and has to be explained there. ``--write`` renews ``docs/mutation.md``.
The exit status is 1 where a survivor has no explanation, or an explanation no survivor.

Torch is imported once; every mutant runs in a fork, and the source on the disk is never touched.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib.machinery
import os
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "slmconform"
TESTS = ROOT / "conformance_tests"
PAGE = ROOT / "docs" / "mutation.md"
RESULTS = "<!-- results -->\n\n"
SECONDS = 60  # a mutant that takes longer does not end: the tests of a module take a few seconds
LOADED = """pytest hypothesis numpy scipy.stats sklearn.metrics sklearn.dummy seqeval.metrics torch
transformers slmconform.model.transformers_loader slmconform.package.read
slmconform.standard.evidence slmconform.standard.report"""  # nothing that is mutated
WITHOUT = ("-p", "no:cacheprovider", "-p", "no:unraisableexception")  # a second each

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.RShift: ast.LShift,
    ast.LShift: ast.RShift,
}
NAMES = {
    "all": "any",
    "any": "all",
    "amax": "amin",
    "argmax": "argmin",
    "isfinite": "isnan",
    "isinf": "isnan",
    "isnan": "isinf",
    "isneginf": "isinf",
    "max": "min",
    "min": "max",
    "mean": "sum",
}
DROPPED = ("clamp", "nan_to_num")  # methods left out with their arguments; others if without any
UNWRAPPED = ("abs", "sorted", "set")
MESSAGES = ("got", "want", "where", "why", "fix")  # keywords that hold words for people


@dataclass(frozen=True)
class Target:
    """A module, the tests that have to notice its mutants, and what of it is left out."""

    module: str
    tests: list[str]
    without: dict[str, str]

    @property
    def path(self) -> Path:
        """The source file."""
        return SOURCE / f"{self.module}.py"


@dataclass(frozen=True)
class Mutant:
    """One change: where, the statement before and after, and the code."""

    name: str
    code: CodeType


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Every small change of one node of the syntax."""
    if isinstance(node, ast.stmt | ast.comprehension):
        yield from _statements(node)
        return
    match node:
        case ast.Compare(ops=[operator]):
            for kind in COMPARISONS[type(operator)]:
                yield ast.Compare(node.left, [kind()], node.comparators)
        case ast.BinOp(op=found) if type(found) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(found)](), node.right)
        case ast.BoolOp(op=found):
            yield ast.BoolOp(ast.Or() if isinstance(found, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1)):
            yield ast.Constant(0)  # not 1: of a matrix that is the last axis, too
        case ast.UnaryOp():
            yield node.operand
        case ast.IfExp() if not isinstance(node.test, ast.Compare):
            yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
        case ast.Constant():
            yield from map(ast.Constant, _constants(node.value))
        case ast.Name() | ast.Attribute():
            yield from _names(node)
        case ast.Call():
            yield from _calls(node)


def _statements(node: ast.stmt | ast.comprehension) -> Iterator[ast.AST]:
    match node:
        case ast.AugAssign(op=found) if type(found) in OPERATORS:
            yield ast.AugAssign(node.target, OPERATORS[type(found)](), node.value)
            yield ast.Pass()
        case ast.If() if not isinstance(node.test, ast.Compare):
            yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
        case ast.For():
            yield ast.For(node.target, ast.Tuple([], ast.Load()), node.body, node.orelse)
        case ast.comprehension() if node.ifs:
            yield ast.comprehension(node.target, node.iter, [], node.is_async)
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.Raise() | ast.Expr():
            yield ast.Pass()


def _constants(value: object) -> Iterator[Any]:
    match value:
        case bool():
            yield not value
        case int():
            yield value + 1
        case float():
            yield from (value * 2, value / 2) if value else (1.0,)
        case str() if " " not in value and not value.startswith("SLM-"):
            yield f"{value}x"  # not words for people, nor the prerequisites of a check


def _names(node: ast.Name | ast.Attribute) -> Iterator[ast.AST]:
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield ast.Name(NAMES[node.id], node.ctx)
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield ast.Attribute(node.value, NAMES[node.attr], node.ctx)


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    for left_out in (one for one in node.keywords if one.arg not in MESSAGES):
        rest = [keyword for keyword in node.keywords if keyword is not left_out]
        yield ast.Call(node.func, node.args, rest)
    match node.func:
        case ast.Attribute(value=inner, attr=name):
            if name in DROPPED or not (node.args or node.keywords):
                yield inner
        case ast.Name(id=name) if name in UNWRAPPED and node.args:
            yield node.args[0]


def children(node: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    """The parts of a node that are mutated: no annotation, decorator, or text of a message."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        if field == "args" and isinstance(node, ast.Call) and _is_signal(node):
            continue
        if isinstance(value, ast.AST):
            yield field, None, value
        elif isinstance(value, list):
            for index, part in enumerate(value):
                if isinstance(part, ast.AST) and not (_is_message(part) or _is_typing(part)):
                    yield field, index, part


def _is_signal(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in (
        "Inconclusive",
        "NotApplicable",
        "NotExamined",
        "NoReference",
        "RuntimeError",
    )


def _is_message(node: ast.AST) -> bool:
    if isinstance(node, ast.keyword):
        return node.arg in MESSAGES
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)  # a docstring


def _is_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def mutants(target: Target) -> Iterator[Mutant]:
    """Every mutant of a module, by its function and the line before and after."""
    tree = ast.parse(target.path.read_text(encoding="utf-8"))
    seen: Counter[str] = Counter()

    def visit(node: ast.AST, function: str, statement: ast.AST) -> Iterator[Mutant]:
        for field, index, part in children(node):
            if isinstance(part, ast.JoinedStr) and not _is_code(node):
                continue
            inside, around = function, statement
            if isinstance(part, ast.stmt):
                around = part
            if isinstance(part, ast.FunctionDef | ast.ClassDef):
                inside = f"{function}.{part.name}".lstrip(".")
                if inside in target.without:
                    continue
            for new in replacements(part):
                before = line(around)
                put(node, field, index, new)
                after = line(new if part is around else around)
                code = compile(ast.fix_missing_locations(tree), str(target.path), "exec")
                put(node, field, index, part)
                name = f"{inside or 'module'}: {changed(before, after)}"
                seen[name] += 1
                many = f" ({seen[name]})" if seen[name] > 1 else ""
                yield Mutant(name + many, code)
            yield from visit(part, inside, around)

    yield from visit(tree, "", tree)


def _is_code(node: ast.AST) -> bool:
    return isinstance(node, ast.keyword) and node.arg == "code"


def put(holder: ast.AST, field: str, index: int | None, new: ast.AST) -> None:
    """Set a part of a node."""
    if index is None:
        setattr(holder, field, new)
    else:
        getattr(holder, field)[index] = new


def line(statement: ast.AST) -> str:
    """A statement without its body, in one line."""
    text = ast.unparse(ast.fix_missing_locations(statement))
    if isinstance(statement, ast.If | ast.For | ast.With | ast.FunctionDef | ast.ClassDef):
        text = text.partition(":\n")[0]
    return " ".join(text.split())


def changed(before: str, after: str) -> str:
    """The words that differ, with two around them to find the place."""
    old, new = before.split(" "), after.split(" ")
    start = _alike(old, new)
    end = _alike(old[start:][::-1], new[start:][::-1])
    first, last = max(0, start - 2), max(0, end - 2)
    parts = [" ".join(words[first : len(words) - last]) for words in (old, new)]
    return " -> ".join(parts)


def _alike(one: list[str], other: list[str]) -> int:
    """How many words two lines begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


class _Mutated(importlib.machinery.SourceFileLoader):
    """Finds one module before anything else does, and gives it the code of a mutant."""

    def __init__(self, target: Target, code: CodeType) -> None:
        super().__init__("slmconform." + target.module.replace("/", "."), str(target.path))
        if self.name in sys.modules:
            raise SystemExit(f"{self.name} was imported before it could be mutated")
        self._code = code

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The mutated module, None for every other."""
        if name != self.name:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=self.path)

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - as the loader has it
        """The mutant instead of what stands in the file."""
        return self._code


def survives(target: Target, code: CodeType) -> bool:
    """Whether the tests of a module pass with this code in its place."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(SECONDS)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            import pytest

            sys.meta_path.insert(0, _Mutated(target, code))
            tests = [str(TESTS / name) for name in target.tests]
            status = int(pytest.main(["-x", "-q", *WITHOUT, *tests]))
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def survivors(target: Target) -> tuple[int, list[str]]:
    """How many mutants a module has, and the names of those that no test notices."""
    plain = compile(target.path.read_text(encoding="utf-8"), str(target.path), "exec")
    if not survives(target, plain):
        raise SystemExit(f"{target.module}: the tests fail without any mutation")
    count, found = 0, []
    for mutant in mutants(target):
        count += 1
        if survives(target, mutant.code):
            found.append(mutant.name)
            print(f"  {mutant.name}", flush=True)
    return count, found


def page(rows: Sequence[tuple[Target, int, list[str]]], reasons: dict[str, dict[str, str]]) -> str:
    """The page with the results of some modules renewed."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(RESULTS)
    kept, *parts = rest.split("\n## ")
    table = {line.split(" ")[1]: line for line in kept.splitlines() if line.startswith("| `")}
    sections = {part.partition("\n")[0]: part.rstrip() + "\n" for part in parts}
    for target, count, found in rows:
        name = f"`{target.module}.py`"
        table[name] = _row(name, count, len(found))
        sections[name] = "\n".join(_section(name, target, found, reasons)).rstrip() + "\n"
    figures = [[int(cell) for cell in line.split("|")[2:5:2]] for line in table.values()]
    total = _row("all", *map(sum, zip(*figures, strict=True)))
    top = "| Module | Mutants | Killed | Survived | Killed, % |\n|---|---:|---:|---:|---:|"
    body = "\n".join([top, *(table[name] for name in sorted(table)), total])
    return head + RESULTS + "\n".join([body, *(f"\n## {sections[n]}" for n in sorted(sections))])


def _row(name: str, count: int, left: int) -> str:
    return f"| {name} | {count} | {count - left} | {left} | {100 * (1 - left / count):.1f} |"


def _section(
    name: str, target: Target, found: list[str], reasons: dict[str, dict[str, str]]
) -> Iterator[str]:
    yield f"{name}\n"
    if target.without:
        left_out = ", ".join(f"`{one}` ({why})" for one, why in target.without.items())
        yield f"Not mutated: {left_out}.\n"
    if not found:
        yield "No mutant survives.\n"
        return
    yield "| Survivor | Why no test notices it |\n|---|---|"
    for mutant in found:
        words = mutant.replace("|", "\\|")
        yield f"| `{words}` | {reasons.get(target.module, {}).get(mutant, '**unexplained**')} |"
    yield ""


def main() -> int:
    """Run, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew these in docs/mutation.md")
    parser.add_argument("modules", nargs="*", help="such as measure/compare")
    asked = parser.parse_args()
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HF_HUB_OFFLINE": "1"}
    os.chdir(ROOT)
    for name in LOADED.split():
        importlib.import_module(name)
    from hypothesis import Phase
    from hypothesis import settings as hypothesis

    hypothesis.register_profile("mutation", phases=[Phase.explicit, Phase.generate])
    hypothesis.load_profile("mutation")  # a mutant is dead at its first failure, however large
    gc.freeze()  # else every fork walks, and so copies, all of torch
    rows, wrong, reasons = [], 0, table.get("survivors", {})
    for row in table["module"]:
        target = Target(row["module"], row["tests"], row.get("without", {}))
        if asked.modules and target.module not in asked.modules:
            continue
        start = time.perf_counter()
        count, found = survivors(target)
        explained = reasons.get(target.module, {}).keys()
        rows.append((target, count, found))
        unlike = sorted(explained ^ set(found))
        wrong += len(unlike)
        seconds = time.perf_counter() - start
        print(f"{target.module}: {count} mutants, {len(found)} survive, {seconds:.0f} s")
        for name in unlike:
            print(f"  {'killed now' if name in explained else 'unexplained'}: {name}")
    if asked.write:
        PAGE.write_text(page(rows, reasons), encoding="utf-8")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
