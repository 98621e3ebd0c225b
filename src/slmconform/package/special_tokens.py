"""Special tokens: what each file says of them, and where two files contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slmconform.package.problem import PackageProblem, shown
from slmconform.package.tokenizer import (
    CONFIG,
    FAST,
    GENERATION,
    MODEL_CONFIG,
    SPECIAL,
    TokenizerFiles,
    added_tokens,
)

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
FIX = "save model and tokenizer again with the ids that the model was trained with"


@dataclass(frozen=True, slots=True)
class Naming:
    """One statement of a file: the content or the ids of a special role, or one token's id."""

    where: str
    role: str = ""
    content: str = ""
    ids: tuple[int, ...] = ()


def contents(files: TokenizerFiles) -> list[Naming]:
    """The token of each role, by tokenizer_config.json and special_tokens_map.json."""
    found: list[Naming] = []
    for path in (CONFIG, SPECIAL):
        table = files.tables.get(path, {})
        for role in ROLES:
            value = table.get(f"{role}_token")
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and text:
                found.append(Naming(f"{path}: {role}_token", role, text))
    return found


def numbers(files: TokenizerFiles) -> list[Naming]:
    """The ids of each role, by config.json and generation_config.json; several of eos."""
    found: list[Naming] = []
    for path in (MODEL_CONFIG, GENERATION):
        table = files.tables.get(path, {})
        nested = table.get("text_config")
        for role in ROLES:
            key = f"{role}_token_id"
            value = table.get(key)
            if value is None and isinstance(nested, dict):
                value = nested.get(key)
            ids = _ids(value if isinstance(value, list) else [value])
            if ids:
                found.append(Naming(f"{path}: {key}", role, ids=ids))
    return found


def placements(files: TokenizerFiles) -> list[Naming]:
    """Single tokens with their ids, outside the vocabulary itself."""
    found = [
        Naming(path, content=token, ids=_ids([number]))
        for path, token, number in added_tokens(files.tables)
        if isinstance(token, str)
    ]
    fast = files.tables.get(FAST, {})
    return found + list(_processed(fast.get("post_processor")))


def last_ordinary(files: TokenizerFiles) -> int:
    """The largest id of a token that is neither added nor has a role; -1 where there is none."""
    other = _added(files) | {naming.content for naming in contents(files)}
    return max((number for token, number in files.ids.items() if token not in other), default=-1)


def given_ids(files: TokenizerFiles) -> set[int]:
    """The ids that some file gives a token or keeps free by name."""
    named = {number for naming in numbers(files) for number in naming.ids}
    return {*files.names, *files.reserved, *named}


def contradictions(files: TokenizerFiles, rows: int | None) -> list[PackageProblem]:
    """Every definite contradiction; ``rows`` is the size of the embedding where it is known."""
    by_role: dict[str, Naming] = {}
    found: list[PackageProblem] = []
    for naming in contents(files):
        first = by_role.setdefault(naming.role, naming)
        if first.content != naming.content:
            got = f"{shown(naming.content)}, while {first.where} is {shown(first.content)}"
            found.append(_problem("role-differs", naming.where, got, "one token for the role"))
    for naming in placements(files):
        known = files.ids.get(naming.content)
        if known is not None and naming.ids and naming.ids[0] != known:
            got = f"{shown(naming.content)} has id {naming.ids[0]}"
            want = f"id {known}, as {files.source} gives it"
            found.append(_problem("id-differs", naming.where, got, want))
    found += _unplaced(files, by_role, rows)
    for naming in numbers(files):
        found += _judged(files, naming, by_role, rows)
    return found


def _judged(
    files: TokenizerFiles, naming: Naming, by_role: dict[str, Naming], rows: int | None
) -> Iterator[PackageProblem]:
    """What is wrong with the ids that a configuration gives to a role."""
    for number in naming.ids:
        if rows is not None and number >= rows:
            got, want = f"id {number}", f"an id below {rows}, the rows of the embedding"
            yield _problem("id-beyond-embedding", naming.where, got, want)
            return
    named = by_role.get(naming.role)
    right = files.ids.get(named.content) if named else None
    if named is None or right is None or right in naming.ids:
        return
    if naming.role == "eos" and all(_is_stop(files, n, naming, by_role) for n in naming.ids):
        return
    number = naming.ids[0]
    holds = f" ({shown(files.names[number])})" if number in files.names else ""
    got = f"id {number}{holds}"
    want = f"id {right} ({shown(named.content)}), the token of {named.where}"
    yield _problem("id-differs", naming.where, got, want)


def _is_stop(
    files: TokenizerFiles, number: int, naming: Naming, by_role: dict[str, Naming]
) -> bool:
    """Whether an id can be one more end of text, as chat models have besides that of the base.

    Generation may stop at any token. The model's configuration may name a special token that
    has no other role; an ordinary token or the one of another role is a mistake.
    """
    if naming.where.startswith(GENERATION):
        return True
    content = files.names.get(number)
    other = {one.content for role, one in by_role.items() if role not in ("eos", "pad", "unk")}
    return content is not None and content in _added(files) and content not in other


def _added(files: TokenizerFiles) -> frozenset[str]:
    """The added tokens, which special tokens are among."""
    listed = files.tables.get(FAST, {}).get("added_tokens")
    fast = listed if isinstance(listed, list) else []
    texts: list[object] = [one.get("content") for one in fast if isinstance(one, dict)]
    texts += [token for _, token, _ in added_tokens(files.tables)]
    return frozenset(text for text in texts if isinstance(text, str))


def _unplaced(
    files: TokenizerFiles, by_role: dict[str, Naming], rows: int | None
) -> Iterator[PackageProblem]:
    """Roles whose token has no id and would be given one that the embedding does not have."""
    placed = {naming.content for naming in placements(files)}
    free = max(files.names, default=-1) + 1
    if rows is None or not files.exact or free < rows:
        return
    for role, naming in by_role.items():
        if naming.content not in files.ids and naming.content not in placed:
            got = f"{shown(naming.content)}, which {files.source} does not hold"
            want = f"a {role} token of the vocabulary"
            why = f"a loader would add it with id {free}, and the embedding has {rows} rows"
            yield _problem("token-missing", naming.where, got, want, why)


def _processed(processor: object) -> Iterator[Naming]:
    """The tokens that a post-processor of tokenizer.json puts around a text."""
    if not isinstance(processor, dict):
        return
    where = f"{FAST}: post_processor"
    nested = processor.get("processors")
    for one in nested if isinstance(nested, list) else []:
        if isinstance(one, dict) and "processors" not in one:
            yield from _processed(one)
    template = processor.get("special_tokens")
    for row in template.values() if isinstance(template, dict) else ():
        if isinstance(row, dict):
            yield from _pairs(where, row.get("tokens"), row.get("ids"))
    for key in ("cls", "sep"):
        pair = processor.get(key)
        if isinstance(pair, list):
            yield from _pairs(where, pair[:1], pair[1:])


def _pairs(where: str, tokens: object, ids: object) -> Iterator[Naming]:
    if not isinstance(tokens, list) or not isinstance(ids, list):
        return
    for content, number in zip(tokens, ids, strict=False):
        if isinstance(content, str):
            yield Naming(where, content=content, ids=_ids([number]))


def _ids(values: list[object]) -> tuple[int, ...]:
    """The ids among some values; a negative one is an older way to say that there is none."""
    return tuple(n for n in values if isinstance(n, int) and not isinstance(n, bool) and n >= 0)


def _problem(code: str, where: str, got: str, want: str, why: str = "") -> PackageProblem:
    return PackageProblem(code, where, got, want, FIX, why=why)
