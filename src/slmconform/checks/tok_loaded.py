"""TOK: the tokenizer as it loads and works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.engine.registry import Nonconformance, NotApplicable, Stage, check

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench


@check(
    "SLM-TOK-005",
    stage=Stage.DYNAMIC,
    needs=("SLM-PKG-001", "SLM-CFG-001", "SLM-CFG-003", "SLM-TOK-002", "SLM-TOK-004"),
)
def tokenizer_loads_whole(bench: Bench) -> str:
    """The tokenizer loads offline with the whole vocabulary of its files."""
    from slmconform.measure.tokenizing import tokenizer
    from slmconform.model.loaded import CandidateError

    try:
        size = len(tokenizer(bench))
    except CandidateError as error:
        raise Nonconformance(
            code="tokenizer-does-not-load",
            got=str(error),
            want="a tokenizer that loads from its own folder, without network",
            where="AutoTokenizer.from_pretrained",
            fix="load it by hand, mend what the library says, and save it again",
        ) from error
    declared = bench.package.tokenizer.size
    if declared is not None and size < declared:
        raise Nonconformance(
            code="tokenizer-incomplete",
            got=f"{size} tokens after loading",
            want=f"{declared} tokens, as the files of the package hold",
            where="AutoTokenizer.from_pretrained",
            why="the library does not read the vocabulary file, and says nothing about it",
            fix="save the tokenizer anew, so that tokenizer.json is in the package",
        )
    return f"{type(tokenizer(bench)).__name__}, {size:,} tokens"


@check("SLM-TOK-006", stage=Stage.DYNAMIC, needs=("SLM-TOK-005", "SLM-MAN-005"))
def encodings_are_recorded(bench: Bench) -> str:
    """The probe texts encode to the recorded ids."""
    from slmconform.measure.tokenizing import encode, tokenizer

    tok, record = tokenizer(bench), bench.package.require_evidence().tokenizer
    if record is None:
        raise NotApplicable("no tokenizer was recorded")
    for text, want in zip(record.texts, record.ids, strict=True):
        got = encode(tok, text)
        if got != want:
            at = next(
                (i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b),
                min(len(got), len(want)),
            )
            raise Nonconformance(
                code="encoding-differs",
                got=f"{got[max(0, at - 2) : at + 4]} from token {max(0, at - 2)} on",
                want=f"{want[max(0, at - 2) : at + 4]}",
                where=f"text {text[:40]!r}, token {at}",
                why="the tokenizer files or the library's reading of them changed",
                fix="restore the tokenizer files; compare the tokenizers versions",
            )
    return f"{len(record.texts)} texts as recorded"


@check("SLM-TOK-007", stage=Stage.DYNAMIC, needs=("SLM-TOK-006",))
def decodings_are_recorded(bench: Bench) -> str:
    """The recorded ids decode to the recorded texts."""
    from slmconform.measure.tokenizing import decode, tokenizer

    tok, record = tokenizer(bench), bench.package.require_evidence().tokenizer
    if record is None:
        raise NotApplicable("no tokenizer was recorded")
    for ids, want in zip(record.ids, record.decoded, strict=True):
        got = decode(tok, ids)
        if got != want:
            raise Nonconformance(
                code="decoding-differs",
                got=repr(got[:80]),
                want=repr(want[:80]),
                where=f"ids {ids[:8]}",
                fix="restore the decoder of the tokenizer files",
            )
    return f"{len(record.ids)} texts as recorded"


@check("SLM-TOK-008", stage=Stage.DYNAMIC, needs=("SLM-TOK-005", "SLM-MAN-005"))
def chat_template_renders(bench: Bench) -> str:
    """The probe conversation renders to the recorded prompt."""
    from slmconform.measure.tokenizing import render, tokenizer

    tok, record = tokenizer(bench), bench.package.require_evidence().chat
    has_template = bool(getattr(tok, "chat_template", None))
    if record is None:
        if not has_template:
            raise NotApplicable("the tokenizer has no chat template")
        raise Nonconformance(
            code="template-added",
            got="a chat template",
            want="none, as recorded",
            where="tokenizer_config.json: chat_template",
            fix="record again",
        )
    if not has_template:
        got = "no chat template"
    else:
        try:
            got = render(tok, record.messages)
        except Exception as error:
            got = f"{type(error).__name__}: {str(error)[:200]}"
    if got != record.rendered:
        raise Nonconformance(
            code="rendering-differs",
            got=repr(got[:120]),
            want=repr(record.rendered[:120]),
            where="chat template",
            fix="restore the chat template; the model was trained on the recorded form",
        )
    return f"{len(record.messages)} messages render as recorded"
