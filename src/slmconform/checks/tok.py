"""TOK: the tokenizer's files by themselves, beside the weights and beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.engine.registry import (
    Nonconformance,
    NotApplicable,
    NotExamined,
    Stage,
    check,
)
from slmconform.package import special_tokens
from slmconform.package.embedding import Embedding, input_embedding
from slmconform.package.problem import PackageProblem, several, shown
from slmconform.package.tokenizer import CONFIG, FAST
from slmconform.standard.tasks import TASKS

if TYPE_CHECKING:
    from slmconform.package.read import Package
    from slmconform.package.tokenizer import TokenizerFiles

LEAST_COVER = 0.5  # of the embedding's rows
SHIFT = 4  # control tokens at the start of SentencePiece that a tokenizer may do without


@check("SLM-TOK-001", stage=Stage.STATIC, needs=("SLM-MAN-001", "SLM-CFG-001"))
def tokenizer_is_shipped(package: Package) -> str:
    """A package of a text task carries its tokenizer."""
    task = package.require_manifest().model.task
    if not TASKS[task].text:
        raise NotApplicable(f"{task} is no text task")
    files = package.tokenizer
    if not files.source and not files.needs_no_vocabulary:
        named = f", only {', '.join(files.files)}" if files.files else ""
        raise Nonconformance(
            code="no-tokenizer",
            where="tokenizer.json",
            got=f"no vocabulary of a tokenizer{named}",
            want=f"the tokenizer of a {task} model",
            why="without it nobody can make the model's input from text",
            fix="save the tokenizer into the package with its save_pretrained()",
        )
    return ", ".join(files.files)


@check("SLM-TOK-002", stage=Stage.STATIC, needs=("SLM-CFG-001", "SLM-CFG-004"))
def token_ids_are_sound(package: Package) -> str:
    """Token ids are unique, in range, and tokens not empty."""
    files = _with_vocabulary(package)
    if files.problems:
        raise several(files.problems).finding()
    embedding = _embedding(package)
    if embedding is not None:
        _within(files, embedding)
    if files.unread:
        raise NotExamined(files.unread)
    rows = f"all below {embedding.rows:,} rows" if embedding else "no embedding to compare"
    known = "" if files.exact else f"; {len(files.ids)} ids are written out"
    return f"{files.size:,} tokens in {files.source}, {rows}{known}"


@check("SLM-TOK-003", stage=Stage.STATIC, needs=("SLM-CFG-001", "SLM-TOK-002", "SLM-TOK-004"))
def special_tokens_agree(package: Package) -> str:
    """The special tokens and their ids are the same in every file."""
    files = package.tokenizer
    if not files.files:
        raise NotApplicable("the package carries no tokenizer")
    embedding = _embedding(package)
    problems = special_tokens.contradictions(files, embedding.rows if embedding else None)
    if problems:
        raise several(problems).finding()
    named = special_tokens.contents(files)
    where = sorted({one.where.split(":")[0] for one in named + special_tokens.numbers(files)})
    if not where:
        raise NotApplicable("no file names a special token")
    return f"{len({one.role for one in named})} roles agree in {', '.join(where)}"


@check("SLM-TOK-004", stage=Stage.STATIC, needs=("SLM-CFG-001", "SLM-CFG-004", "SLM-TOK-002"))
def vocabulary_covers_embedding(package: Package) -> str:
    """The vocabulary covers at least half of the embedding."""
    files = _with_vocabulary(package)
    embedding = _embedding(package)
    if files.size is None:
        raise NotExamined(files.unread)
    if embedding is None:
        raise NotExamined("neither the weights nor the configuration tell the embedding's rows")
    if files.size < LEAST_COVER * embedding.rows:
        raise Nonconformance(
            code="vocabulary-too-small",
            where=files.source,
            got=f"{files.size:,} tokens for {embedding.rows:,} rows of {embedding.where}",
            want=f"at least {-(-embedding.rows // 2):,} tokens",
            why="most rows could never be looked up: this is not the tokenizer of these weights",
            fix="ship the tokenizer that the model was trained with",
        )
    return f"{files.size:,} tokens for {embedding.rows:,} rows"


@check("SLM-TOK-009", stage=Stage.STATIC, needs=("SLM-TOK-002", "SLM-TOK-004"))
def token_ids_have_no_gaps(package: Package) -> str:
    """Every id below the last ordinary token is that of a token."""
    files = _with_vocabulary(package)
    if not files.exact:
        raise NotApplicable(f"{files.source} does not write the ids out")
    if len(files.names) == max(files.names, default=-1) + 1:
        return f"every id up to {len(files.names) - 1}"
    given = special_tokens.given_ids(files)
    last = special_tokens.last_ordinary(files)
    gaps = [number for number in range(last) if number not in given]
    if gaps:
        raise Nonconformance(
            code="gap",
            where=files.source,
            got=f"{len(gaps):,} ids without a token, the first of them {gaps[0]}",
            want=f"a token for every id below {last}, the last ordinary one",
            why="a loader that numbers tokens by their places, or adds one, gives ids twice",
            fix="name a reserved token for each row that is kept free",
        )
    return f"every id up to {last}"


@check("SLM-TOK-010", stage=Stage.STATIC, needs=("SLM-CFG-001",))
def settings_are_in_bounds(package: Package) -> str:
    """Truncation, padding and what a text can grow to are within bounds."""
    from slmconform.package.tokenizer_settings import problems

    tables = package.tokenizer.tables
    read = [path for path in (FAST, CONFIG) if path in tables]
    if not read:
        raise NotApplicable("no file holds the settings of a tokenizer")
    if found := problems(tables):
        raise several(found).finding()
    return ", ".join(read)


def _with_vocabulary(package: Package) -> TokenizerFiles:
    files = package.tokenizer
    if not files.source:
        raise NotApplicable(
            "the tokenizer computes ids without a vocabulary"
            if files.needs_no_vocabulary
            else "the package carries no vocabulary"
        )
    return files


def _embedding(package: Package) -> Embedding | None:
    return input_embedding(package.weights.tensors, package.config)


def _within(files: TokenizerFiles, embedding: Embedding) -> None:
    beyond = sorted(number for number in files.names if number >= embedding.rows)
    got = ""
    if beyond:
        more = f", and {len(beyond) - 1} more" if len(beyond) > 1 else ""
        got = f"{shown(files.names[beyond[0]])} has id {beyond[0]}{more}"
    elif files.size is not None and files.size - SHIFT > embedding.rows:
        got = f"{files.size:,} tokens"
    if got:
        raise PackageProblem(
            "id-beyond-embedding",
            files.source,
            got,
            f"ids below {embedding.rows}, the rows of {embedding.where}",
            "resize the embedding to the tokenizer, or remove the token",
            why="looking the token up reads past the end of the embedding",
        ).finding()
