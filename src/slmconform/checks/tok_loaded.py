"""TOK: the tokenizer as it loads and works."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from slmconform.engine.registry import Nonconformance, NotApplicable, Stage, check
from slmconform.package.embedding import input_embedding

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench


@check(
    "SLM-TOK-005",
    stage=Stage.DYNAMIC,
    needs=(
        "SLM-PKG-001",
        "SLM-CFG-001",
        "SLM-CFG-003",
        "SLM-TOK-002",
        "SLM-TOK-004",
        "SLM-TOK-010",
    ),
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


@check("SLM-TOK-006", stage=Stage.DYNAMIC, needs=("SLM-TOK-011", "SLM-MAN-005"))
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


@check("SLM-TOK-008", stage=Stage.DYNAMIC, needs=("SLM-TOK-014", "SLM-MAN-005"))
def chat_template_renders(bench: Bench) -> str:
    """The probe conversation renders to the recorded prompt."""
    from slmconform.measure.conversing import prompt_of
    from slmconform.measure.tokenizing import tokenizer

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
            got = prompt_of(tok, record.messages)
        except Nonconformance:
            raise
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


@check("SLM-TOK-011", stage=Stage.DYNAMIC, needs=("SLM-TOK-005",))
def probes_are_encoded(bench: Bench) -> str:
    """Every probe text is encoded, soon, to ids that the embedding has."""
    from slmconform.measure.tokenizing import LONGEST_RUN, probes, tokenizer

    tok = tokenizer(bench)
    embedding = input_embedding(bench.package.weights.tensors, bench.package.config)
    largest = -1
    for text in probes():
        ids = _encoded(tok, text)
        largest = max([largest, *ids])
        if embedding is not None and largest >= embedding.rows:
            raise _not_encoded(
                "id-beyond-embedding",
                text,
                f"id {largest}",
                f"ids below {embedding.rows}, the rows of {embedding.where}",
                "looking the token up reads past the end of the embedding",
            )
    return f"texts of up to {LONGEST_RUN:,} characters, ids up to {largest}"


@check("SLM-TOK-014", stage=Stage.DYNAMIC, needs=("SLM-TOK-005", "SLM-TOK-012"))
def template_stays_in_bounds(bench: Bench) -> str:
    """The chat templates render the probe conversation within bounds of time, size and memory."""
    from slmconform.measure.conversing import rendered, stays_in_bounds

    first, count = rendered(bench), stays_in_bounds(bench)
    more = f", {count} templates" if count > 1 else ""
    return f"{len(first.messages)} messages in {len(first.prompt):,} characters{more}"


@check("SLM-TOK-015", stage=Stage.DYNAMIC, needs=("SLM-TOK-014",))
def messages_are_rendered(bench: Bench) -> str:
    """Every message of user and assistant is in the prompt."""
    from slmconform.measure.conversing import dropped, rendered

    first = rendered(bench)
    if left_out := dropped(bench):
        roles = ", ".join(str(one["role"]) for one in left_out)
        raise Nonconformance(
            code="message-dropped",
            where="chat template",
            got=f"{len(left_out)} of {len(first.messages)} messages are left out: {roles}",
            want="every message of user and assistant in the prompt",
            why="the model does not know what was said before",
            fix="loop over all messages of the conversation",
        )
    return f"{len(first.messages)} messages"


def _encoded(tok: Any, text: str) -> list[int]:
    """The ids of a text; raises what is wrong with the encoding."""
    from slmconform.measure import tokenizing
    from slmconform.model.transformers_loader import is_failure

    start = time.process_time()
    try:
        ids = tokenizing.encode(tok, text)
    except BaseException as error:
        if not is_failure(error):
            raise
        panics = not isinstance(error, Exception)
        raise _not_encoded(
            "tokenizer-panics" if panics else "encoding-raises",
            text,
            f"{type(error).__name__}: {str(error)[:200]}",
            "ids",
            "a panic passes by whoever catches exceptions, and ends a server" if panics else "",
        ) from (None if panics else error)
    seconds = time.process_time() - start
    limit = tokenizing.SECONDS_OF_A_TEXT + tokenizing.SECONDS_OF_A_CHARACTER * len(text)
    if seconds > limit:
        why = "a pattern of the tokenizer goes back again and again: one text can stop a server"
        got = f"{seconds:.2f} s of the processor"
        raise _not_encoded("encoding-slow", text, got, f"at most {limit:.2f} s", why)
    most = tokenizing.IDS_OF_A_TEXT + tokenizing.IDS_OF_A_BYTE * len(text.encode())
    if len(ids) > most:
        got = f"{len(ids):,} ids"
        raise _not_encoded("encoding-grows", text, got, f"at most {most:,}", "a text fills memory")
    return ids


def _not_encoded(code: str, text: str, got: str, want: str, why: str) -> Nonconformance:
    where = f"text of {len(text):,} characters, {text[:40]!r}"
    fix = "mend the patterns and rules of tokenizer.json, or take those of a known tokenizer"
    return Nonconformance(code=code, where=where, got=got, want=want, why=why, fix=fix)
