"""A chat template parsed and read; it is never rendered here.

Jinja's own parser reads it, with the extensions that transformers enables. Whoever asks has found
a template: this module imports jinja2.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterator

from jinja2 import Environment, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.tests import TESTS

from slmconform.package.chat_templates import ChatTemplate
from slmconform.package.problem import PackageProblem, shown
from slmconform.package.template_constants import Constants

DEPTH_LIMIT = 200  # levels of a parsed template
BY_ATTRIBUTE = frozenset(
    {"attr", "map", "selectattr", "rejectattr", "groupby", "sort", "unique", "sum", "min", "max"}
)
FROM_ELSEWHERE: dict[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from … import",
    nodes.Extends: "extends",
}
# Ways from an object to its frames and classes that do not begin with an underscore.
INTERNALS = frozenset(
    {"mro", "gi_frame", "gi_code", "cr_frame", "cr_code", "ag_frame", "ag_code", "tb_frame"}
    | {"tb_next", "f_back", "f_globals", "f_locals", "f_builtins", "f_code", "func_globals"}
)
PYTHON = frozenset({"__builtins__", "__import__"}).union(
    *(dir(kind) for kind in (type, types.FunctionType, types.MethodType, types.ModuleType))
)
FIELD = re.compile(r"\{[^{}]*?[.\[]_")  # of str.format: an attribute that begins with _
FIX = "take the template that the model was trained with"


class _Generation(Extension):
    """The block around what an assistant says, which transformers adds."""

    tags = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.lru_cache(maxsize=8)
def parsed(template: ChatTemplate) -> nodes.Template:
    """The tree of a template; raises `PackageProblem`."""
    environment = Environment(  # noqa: S701 - nothing is rendered
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControlExtension]
    )
    try:
        tree = environment.parse(template.text)
    except Exception as error:  # the parser was written for templates that one trusts
        line = getattr(error, "lineno", None)
        where = f"{template.where}:{line}" if line else template.where
        raise PackageProblem(
            "template-syntax",
            where,
            f"{type(error).__name__}: {str(error)[:200]}",
            "a Jinja template",
            FIX,
            why="no conversation can be put into the form that the model knows",
        ) from None
    deepest = max((depth for _, depth in walk(tree)), default=0)
    if deepest > DEPTH_LIMIT:
        got, want = f"nested {deepest} deep", f"at most {DEPTH_LIMIT} levels"
        raise PackageProblem("too-deep", template.where, got, want, FIX)
    return tree


def walk(tree: nodes.Node) -> Iterator[tuple[nodes.Node, int]]:
    """Every node with its depth, without recursion."""
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        stack += [(child, depth + 1) for child in node.iter_child_nodes()]


def in_order(tree: nodes.Node) -> list[nodes.Node]:
    """Every node, by its line."""
    return sorted((node for node, _ in walk(tree)), key=lambda node: node.lineno or 0)


def problems(template: ChatTemplate) -> list[PackageProblem]:
    """Why a template may not be rendered; none where it may."""
    try:
        tree = parsed(template)
    except PackageProblem as problem:
        return [problem]
    listed = in_order(tree)
    constants, guarded = Constants(listed), any(_asks_for_filters(node) for node in listed)
    found = []
    for node in listed:
        where = f"{template.where}:{node.lineno}"
        if type(node) in FROM_ELSEWHERE:
            got, want = f"{{% {FROM_ELSEWHERE[type(node)]} %}}", "a template that is whole"
            why = "the file would come from wherever the template is rendered"
            found.append(PackageProblem("includes-file", where, got, want, FIX, why=why))
        for name in _reached(node, constants):
            why = "it leads out of the sandbox to whatever python can do"
            want = "what conversations and tools hold"
            found.append(PackageProblem("sandbox-escape", where, name, want, FIX, why=why))
        if unknown := not guarded and _unknown(node):
            want = "the filters and tests of Jinja"
            found.append(PackageProblem("template-syntax", where, str(unknown), want, FIX))
    return found


def _reached(node: nodes.Node, constants: Constants) -> list[str]:
    """The internals of objects that a node reaches for, or names."""
    names: list[str] = []
    if isinstance(node, nodes.Getattr):
        names = [node.attr]
    elif isinstance(node, nodes.Getitem):
        names = constants.texts(node.arg)
    elif isinstance(node, nodes.Filter) and node.name in BY_ATTRIBUTE:
        named = [pair.value for pair in node.kwargs if pair.key == "attribute"]
        first = node.args if node.name == "map" else node.args[:1]
        paths = [path for part in (*first, *named) for path in constants.texts(part)]
        names = [name for path in paths for name in path.split(".")]
    inner = [shown(name) for name in names if name.startswith("_") or name in INTERNALS]
    if inner or not isinstance(node, nodes.Const | nodes.Concat | nodes.Add | nodes.Filter):
        return inner
    texts = constants.texts(node)
    return [shown(text) for text in texts if _is_internal(text)]


def _is_internal(text: str) -> bool:
    """Whether a text names what python itself puts into objects, or a format that does."""
    return (text.startswith("__") and text in PYTHON) or bool(FIELD.search(text))


def _asks_for_filters(node: nodes.Node) -> bool:
    """Whether a template finds out which filters there are, and so may do without one."""
    return isinstance(node, nodes.Test) and node.name in ("filter", "test")


def _unknown(node: nodes.Node) -> str:
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        return f"the filter {shown(node.name)}"
    if isinstance(node, nodes.Test) and node.name not in TESTS:
        return f"the test {shown(node.name)}"
    return ""
