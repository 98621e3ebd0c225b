"""The texts that expressions of a template can come to, as far as its constants show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

from jinja2 import nodes

TEXT_LIMIT = 1000  # characters
CHOICES = 8  # texts that one expression may come to
NESTING = 60
ON_TEXTS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "trim": str.strip,
    "string": str,
    "safe": str,
    "reverse": lambda text: text[::-1],
}


class Constants:
    """Evaluates what is made of constants alone, names that are set to constants among them."""

    def __init__(self, listed: Iterable[nodes.Node]) -> None:
        self._set: dict[str, list[nodes.Node]] = {}
        self._known: dict[int, list[str]] = {}
        for node in listed:
            if isinstance(node, nodes.Assign) and isinstance(node.target, nodes.Name):
                self._set.setdefault(node.target.name, []).append(node.node)

    def texts(self, node: nodes.Node, nesting: int = 0) -> list[str]:
        """The texts that an expression can come to; none where they are not constant."""
        if nesting > NESTING:
            return []
        if id(node) not in self._known:
            self._known[id(node)] = []  # names that are set to each other come to nothing
            found = self._evaluated(node, nesting)
            short = [text for text in dict.fromkeys(found) if len(text) <= TEXT_LIMIT]
            self._known[id(node)] = short[:CHOICES]
        return self._known[id(node)]

    def _evaluated(self, node: nodes.Node, nesting: int) -> list[str]:
        found: list[str] = []
        match node:
            case nodes.Const(value=str(text)):
                found = [text]
            case nodes.Name():
                for one in self._set.get(node.name, [])[:CHOICES]:
                    found += self.texts(one, nesting + 1)
            case nodes.Concat():
                found = self._joined(node.nodes, "", nesting)
            case nodes.Add():
                found = self._joined([node.left, node.right], "", nesting)
            case nodes.CondExpr():
                for branch in (node.expr1, node.expr2):
                    found += self.texts(branch, nesting + 1) if branch is not None else []
            case nodes.Getitem(arg=nodes.Slice() as part) if _is_reversed(part):
                found = [text[::-1] for text in self.texts(node.node, nesting + 1)]
            case nodes.Filter():
                found = self._filtered(node, nesting)
        return found

    def _joined(self, parts: list[nodes.Expr], between: str, nesting: int) -> list[str]:
        if len(parts) > TEXT_LIMIT:
            return []
        choices = [self.texts(part, nesting + 1)[:2] for part in parts]
        if not all(choices) or sum(len(one) > 1 for one in choices) > 3:
            return []
        if sum(len(one[0]) for one in choices) > TEXT_LIMIT:
            return []
        return [between.join(each) for each in product(*choices)]

    def _filtered(self, node: nodes.Filter, nesting: int) -> list[str]:
        if node.node is None:
            return []
        if node.name == "join" and isinstance(node.node, nodes.List | nodes.Tuple):
            between = self.texts(node.args[0], nesting + 1) if node.args else [""]
            return self._joined(node.node.items, between[0], nesting) if between else []
        if node.name == "replace" and len(node.args) >= 2:
            old, new = (self.texts(part, nesting + 1) for part in node.args[:2])
            texts = self.texts(node.node, nesting + 1) if old and new else []
            return [text.replace(old[0], new[0])[: TEXT_LIMIT + 1] for text in texts]
        if node.name in ON_TEXTS:
            return [ON_TEXTS[node.name](text) for text in self.texts(node.node, nesting + 1)]
        return []


def _is_reversed(part: nodes.Slice) -> bool:
    step = part.step
    negative = isinstance(step, nodes.Neg) and isinstance(step.node, nodes.Const)
    return negative and part.start is None and part.stop is None
