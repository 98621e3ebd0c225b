"""Chat templates: every one that a package carries, as text. Nothing of them is run here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from slmconform.package.folder import Folder
from slmconform.package.problem import PackageProblem, shown
from slmconform.package.tokenizer import CONFIG, TEMPLATES

ADDITIONAL = "additional_chat_templates/"
KEY = "chat_template"
TEMPLATE_LIMIT = 2**16  # bytes of one template
TOTAL_LIMIT = 2**17  # characters of all together
FIX = "save the tokenizer again with the template that it was trained with"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The text of one template, and the file or key that holds it."""

    where: str
    text: str


@dataclass(frozen=True)
class ChatTemplates:
    """All templates of a package, the one that a tokenizer takes first, and what is no template."""

    found: tuple[ChatTemplate, ...]
    problems: tuple[PackageProblem, ...]

    def __bool__(self) -> bool:
        return bool(self.found or self.problems)


def read(folder: Folder) -> ChatTemplates:
    """Read every template of the tokenizer that a package carries.

    JSON that cannot be read counts as saying nothing: SLM-CFG-001 reports it.
    """
    found: list[ChatTemplate] = []
    problems: list[PackageProblem] = []
    total = 0
    for take in _sources(folder):
        try:
            for one in take():
                total += len(one.text)
                if total > TOTAL_LIMIT or len(one.text) > TEMPLATE_LIMIT:
                    raise _too_large(one, total)
                found.append(one)
        except PackageProblem as problem:
            problems.append(problem)
        if total > TOTAL_LIMIT:
            break
    return ChatTemplates(tuple(found), tuple(problems))


def _sources(folder: Folder) -> Iterator[Callable[[], Iterator[ChatTemplate]]]:
    files = folder.files()
    jinja, boxed = TEMPLATES
    written = [path for path in files if path.startswith(ADDITIONAL) and path.endswith(".jinja")]
    for path in ([jinja] if jinja in files else []) + written:
        yield lambda path=path: _written(folder, path)  # type: ignore[misc]
    for path in (CONFIG, boxed):
        if path in files:
            yield lambda path=path: _listed(folder, path)  # type: ignore[misc]


def _written(folder: Folder, path: str) -> Iterator[ChatTemplate]:
    data = folder.read(path, TEMPLATE_LIMIT)
    try:
        yield ChatTemplate(path, data.decode("utf-8"))
    except UnicodeDecodeError as error:
        got = f"byte {error.start} is not UTF-8: {data[error.start : error.start + 4]!r}"
        raise PackageProblem("not-utf8", path, got, "UTF-8", FIX) from None


def _listed(folder: Folder, path: str) -> Iterator[ChatTemplate]:
    """The template of a JSON file, or its templates with names."""
    try:
        table = folder.json(path)
    except PackageProblem:
        return
    value = table.get(KEY) if isinstance(table, dict) else None
    where = f"{path}: {KEY}"
    if value is None:
        return
    if isinstance(value, str):
        yield ChatTemplate(where, value)
        return
    pairs = list(value.items()) if isinstance(value, dict) else _pairs(value)
    for name, text in pairs:
        if not isinstance(name, str) or not isinstance(text, str):
            want = "a template as text, or a list of templates with name and template"
            got = f"{shown(name)}: {shown(text)}"
            raise PackageProblem("not-a-template", where, got, want, FIX)
        yield ChatTemplate(f"{where}, {shown(name)}", text)


def _pairs(value: object) -> list[tuple[object, object]]:
    if not isinstance(value, list):
        return [(None, value)]
    return [
        (row.get("name"), row.get("template")) if isinstance(row, dict) else (None, row)
        for row in value
    ]


def _too_large(one: ChatTemplate, total: int) -> PackageProblem:
    got = f"{len(one.text):,} characters, {total:,} with the templates before it"
    want = f"at most {TEMPLATE_LIMIT:,}, and {TOTAL_LIMIT:,} in all"
    return PackageProblem("too-large", one.where, got, want, "shorten the template")
