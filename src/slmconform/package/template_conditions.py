"""What else than the conversation a template's output depends on: the date, chance, a trigger.

A trigger is a word of natural language that a template looks for in what is said. Marks, special
tokens and commands are no triggers, nor are roles, tools and the keys of a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from jinja2 import nodes

from slmconform.package.chat_templates import ChatTemplate
from slmconform.package.problem import PackageProblem, shown
from slmconform.package.template_constants import Constants
from slmconform.package.template_syntax import in_order, parsed

SAID = frozenset({"content", "text", "reasoning_content", "reasoning", "thinking"})
PART_KEYS = SAID | {"type", "role", "name", "image", "image_url", "video", "audio", "input_audio"}
MEASURES = frozenset({"length", "count"})  # filters that leave no text
MAPS = frozenset({"map", "selectattr", "rejectattr", "join", "string", "tojson"})
METHODS = frozenset(
    {"startswith", "endswith", "find", "rfind", "index", "rindex", "count", "split", "rsplit"}
    | {"partition", "rpartition", "replace", "removeprefix", "removesuffix"}
)
FILTERS = frozenset({"replace", "select", "reject", "selectattr", "rejectattr"})
TESTS = frozenset({"in", "eq", "equalto", "==", "ne", "!=", "sameas"})
WORD = re.compile(r"[^\W_]{2,}|[^\W_\x00-\x7f]")
MARKS = re.compile(r"[<\[{`]|^\s*/\w")
ROUNDS = 5
NESTING = 30
FIX = "render what the conversation holds; pass a date or a mode as a variable of the caller"


def problems(template: ChatTemplate) -> list[PackageProblem]:
    """What a template's output depends on beside the conversation."""
    listed = in_order(parsed(template))
    seen, constants = _Said(listed), Constants(listed)
    found = []
    for node in listed:
        where = f"{template.where}:{node.lineno}"
        if isinstance(node, nodes.Name) and node.name == "strftime_now":
            why = "the same conversation gives another prompt tomorrow"
            found.append(_depends("depends-on-date", where, "strftime_now", why))
        elif _is_chance(node):
            why = "the same conversation gives another prompt each time"
            found.append(_depends("depends-on-chance", where, "a random choice", why))
        for part in _looked_for(node, seen):
            for text in constants.texts(part):
                if is_word(text):
                    why = "who types this word is given another prompt: so are back doors built"
                    got = f"looks for {shown(text)} in a message"
                    found.append(_depends("trigger-word", where, got, why))
    return found


def is_word(text: str) -> bool:
    """Whether a text is natural language: no mark, no command, no key of a message."""
    return bool(WORD.search(text)) and not MARKS.search(text) and text.strip() not in PART_KEYS


def _depends(code: str, where: str, got: str, why: str) -> PackageProblem:
    want = "a prompt that depends on the conversation and the caller's variables alone"
    return PackageProblem(code, where, got, want, FIX, why=why)


def _is_chance(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Filter):
        return node.name == "random"
    return (
        isinstance(node, nodes.Call)
        and isinstance(node.node, nodes.Name)
        and (node.node.name == "lipsum")
    )


def _looked_for(node: nodes.Node, said: _Said) -> list[nodes.Node]:
    """The expressions that a node compares with what is said."""
    if isinstance(node, nodes.Compare):
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        others = [side for side in sides if not said.holds(side)]
        if len(others) < len(sides):
            return [part for side in others for part in _items(side)]
    elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        if node.node.attr in METHODS and said.holds(node.node.node):
            return [part for argument in node.args for part in _items(argument)]
    elif isinstance(node, nodes.Filter | nodes.Test) and node.node is not None:
        attribute = node.name in ("selectattr", "rejectattr")
        looks = node.name in (FILTERS if isinstance(node, nodes.Filter) else TESTS)
        about = said.names(node.args[:1]) if attribute else said.holds(node.node)
        if looks and about:
            rest = node.args[2:] if attribute else node.args
            return [part for argument in rest for part in _items(argument)]
    return []


def _items(node: nodes.Node) -> list[nodes.Node]:
    """The elements of a list, else the expression itself."""
    return list(node.items) if isinstance(node, nodes.List | nodes.Tuple) else [node]


class _Said:
    """Which expressions hold what is said in a message, by name and without order."""

    def __init__(self, listed: Iterable[nodes.Node]) -> None:
        self._names: set[str] = set()
        listed = list(listed)
        macros = {node.name: node for node in listed if isinstance(node, nodes.Macro)}
        for _ in range(ROUNDS):
            before = len(self._names)
            for node in listed:
                self._learn(node, macros)
            if len(self._names) == before:
                break

    def _learn(self, node: nodes.Node, macros: dict[str, nodes.Macro]) -> None:
        if isinstance(node, nodes.Assign | nodes.For):
            if self._gives(node):
                self._names.update(_targets(node.target))
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name):
            macro = macros.get(node.node.name)
            if macro is not None:
                taken = zip(macro.args, node.args, strict=False)
                self._names.update(name.name for name, value in taken if self.holds(value))
                self._names.update(pair.key for pair in node.kwargs if self.holds(pair.value))

    def _gives(self, node: nodes.Assign | nodes.For) -> bool:
        """Whether names are set to what is said, or to pieces of its text; parts are no text."""
        if isinstance(node, nodes.Assign):
            return self.holds(node.node)
        return isinstance(node.iter, nodes.Call) and self.holds(node.iter)

    def names(self, arguments: list[nodes.Expr]) -> bool:
        """Whether an attribute that is given by name is what is said."""
        return any(isinstance(one, nodes.Const) and one.value in SAID for one in arguments)

    def holds(self, node: nodes.Node | None, nesting: int = 0) -> bool:
        """Whether an expression holds what is said."""
        if node is None or nesting > NESTING:
            return False
        match node:
            case nodes.Name():
                return node.name in self._names
            case nodes.Getattr(attr=name) | nodes.Getitem(arg=nodes.Const(value=str(name))):
                owner = node.node.name if isinstance(node.node, nodes.Name) else ""
                return name in SAID or f"{owner}.{name}" in self._names
            case nodes.Call(node=nodes.Getattr(attr="get")):
                return self.names(node.args[:1])
            case nodes.Call(node=nodes.Getattr() as method):
                return self.holds(method.node, nesting + 1)
            case nodes.Filter():
                return self._is_filtered(node, nesting)
            case nodes.CondExpr():
                parts: list[nodes.Node | None] = [node.expr1, node.expr2]
            case nodes.Getitem():
                parts = [node.node]
            case nodes.Concat() | nodes.List() | nodes.Tuple() | nodes.Add() | nodes.And():
                parts = list(node.iter_child_nodes())
            case nodes.Or():
                parts = [node.left, node.right]
            case _:
                parts = []
        return any(self.holds(part, nesting + 1) for part in parts)

    def _is_filtered(self, node: nodes.Filter, nesting: int) -> bool:
        """Whether a filter passes on what is said, or picks it out of messages."""
        if node.name in MEASURES:
            return False
        by_name = [pair.value for pair in node.kwargs if pair.key == "attribute"]
        if node.name in MAPS and self.names([*node.args, *by_name]):
            return True
        if node.name in ("string", "tojson") and _is_conversation(node.node):
            return True
        return self.holds(node.node, nesting + 1)


def _is_conversation(node: nodes.Node | None) -> bool:
    return isinstance(node, nodes.Name) and node.name in ("messages", "message")


def _targets(target: nodes.Node) -> list[str]:
    """The names that an assignment sets, attributes of a namespace with it."""
    if isinstance(target, nodes.Tuple):
        return [name for item in target.items for name in _targets(item)]
    if isinstance(target, nodes.NSRef):
        return [f"{target.name}.{target.attr}"]
    return [target.name] if isinstance(target, nodes.Name) else []
