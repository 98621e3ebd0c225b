"""The files of a tokenizer: which there are, the ids that they give, and what they name special.

They are read as data. No tokenizer is built: the library that would build it can be brought down
by small files (see TOK-005, which loads it in a process of its own).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from slmconform.package import sentencepiece
from slmconform.package.folder import Folder
from slmconform.package.problem import PackageProblem, shown

FAST, CONFIG, SPECIAL, ADDED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
MODEL_CONFIG, GENERATION = "config.json", "generation_config.json"
TEMPLATES = ("chat_template.jinja", "chat_template.json")
VOCABULARIES = (
    FAST,
    "vocab.json",
    "encoder.json",
    "vocab-src.json",
    "vocab.txt",
    "dict.txt",
    "tekken.json",
)
OTHER_FILES = (
    "bpe.codes",
    "merges.txt",
    "normalizer.json",
    "vocab-tgt.json",
)
PIECES = re.compile(r"(tokenizer|spiece|sentencepiece|spm|tiktoken).*\.model$|\.(spm|tiktoken)$")
# What the dictionaries of fairseq leave out at their start.
DICTIONARY_START = ("<s>", "<pad>", "</s>", "<unk>")
# Tokenizers that compute ids from bytes or code points and have no vocabulary to ship.
WITHOUT_VOCABULARY = frozenset(
    {"ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer", "MyT5Tokenizer"}
)
TEXT_LIMIT = 32 * 2**20  # bytes of a vocabulary
PROBLEM_LIMIT = 20

Table = dict[str, object]


@dataclass
class Vocabulary:
    """Tokens and ids as they are read; ``problems`` are what no vocabulary may hold.

    ``reserved`` are the ids of empty entries that only keep a row free.
    """

    ids: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    reserved: set[int] = field(default_factory=set)
    problems: list[PackageProblem] = field(default_factory=list)

    def add(self, token: object, number: object, where: str) -> None:
        """Take one token, or note what is wrong with it."""
        if not isinstance(token, str) or not isinstance(number, int) or isinstance(number, bool):
            self._refuse("not-an-id", where, f"{shown(token)} has the id {shown(number)}")
        elif number < 0:
            self._refuse("negative-id", where, f"{shown(token)} has the id {shown(number)}")
        elif not token:
            self._refuse("empty-token", where, f"an empty token with id {number}")
        elif self.ids.get(token, number) != number:
            got = f"{shown(token)} has id {number} here and {self.ids[token]} before"
            self._refuse("collision", where, got)
        elif self.names.get(number, token) != token:
            got = f"id {number} is given to {shown(token)} and to {shown(self.names[number])}"
            self._refuse("duplicate-id", where, got)
        else:
            self.ids[token], self.names[number] = number, token

    def add_all(self, vocabulary: Mapping[str, object], where: str) -> None:
        """Take a table of tokens and ids, at once where nothing is wrong with it."""
        numbers = vocabulary.values()
        if not self.ids and "" not in vocabulary and all(type(n) is int for n in numbers):
            ids: dict[str, int] = dict(vocabulary)  # type: ignore[arg-type]
            names = {number: token for token, number in ids.items()}
            if len(names) == len(ids) and min(names, default=0) >= 0:
                self.ids, self.names = ids, names
                return
        for token, number in vocabulary.items():
            self.add(token, number, where)

    def add_row(self, tokens: Iterable[object], where: Callable[[int], str]) -> None:
        """Take tokens whose ids are their places."""
        for number, token in enumerate(tokens):
            if isinstance(token, str) and token in self.ids:
                got = f"{shown(token)} stands at {self.ids[token]} and again at {number}"
                self._refuse("duplicate-token", where(number), got)
            else:
                self.add(token, number, where(number))

    def reserve(self, number: object) -> None:
        """Note the id of an empty entry, if it is one."""
        if isinstance(number, int):
            self.reserved.add(number)

    def judge_pieces(self, pieces: list[str], where: str) -> None:
        """Note pieces that are empty or stand twice, without taking their places for ids."""
        seen: set[str] = set()
        for number, piece in enumerate(pieces):
            if not piece:
                self._refuse("empty-token", where, f"an empty piece at {number}")
            elif piece in seen:
                self._refuse("duplicate-token", where, f"{shown(piece)} again at {number}")
            seen.add(piece)

    def _refuse(self, code: str, where: str, got: str) -> None:
        if len(self.problems) < PROBLEM_LIMIT:
            want = "unique tokens that are not empty, with unique non-negative integer ids"
            self.problems.append(
                PackageProblem(code, where, got, want, "save the tokenizer again from its source")
            )


@dataclass(frozen=True)
class TokenizerFiles:
    """What the files of a tokenizer say.

    ``source`` is the file that the vocabulary was read from, ``size`` its number of tokens with
    the added ones, None where ``unread`` says why. ``ids`` holds what is certain of the ids:
    only added tokens for SentencePiece, whose pieces some tokenizers shift. ``reserved`` are rows
    that an empty entry keeps free.
    ``tables`` are the JSON files that name special tokens.
    """

    files: tuple[str, ...]
    source: str
    size: int | None
    unread: str
    ids: dict[str, int]
    names: dict[int, str]
    problems: tuple[PackageProblem, ...]
    tables: dict[str, Table]
    reserved: frozenset[int]

    @property
    def exact(self) -> bool:
        """Whether ``ids`` holds every token."""
        return self.size is not None and self.size == len(self.ids)

    @property
    def tokenizer_class(self) -> str:
        """The class that the configuration names, without the suffix of its fast form."""
        for name in (CONFIG, MODEL_CONFIG):
            named = self.tables.get(name, {}).get("tokenizer_class")
            if isinstance(named, str):
                return named.removesuffix("Fast")
        return ""

    @property
    def needs_no_vocabulary(self) -> bool:
        """Whether the tokenizer works on bytes or code points."""
        return self.tokenizer_class in WITHOUT_VOCABULARY


def read(folder: Folder) -> TokenizerFiles:
    """Read the tokenizer files at the top of a package.

    A file that cannot be read counts as one that says nothing: SLM-CFG-001 reports it.
    """
    at_hand = [path for path in folder.files() if "/" not in path]
    tables: dict[str, Table] = {}
    for path in (FAST, CONFIG, SPECIAL, ADDED, MODEL_CONFIG, GENERATION, "vocab.json"):
        if path in at_hand and (table := _table(folder, path)) is not None:
            tables[path] = table
    source = next(iter(_sources(at_hand)), "")
    vocabulary, size, unread = Vocabulary(), None, ""
    try:
        size = _fill(vocabulary, folder, source, tables) if source else None
    except PackageProblem as problem:
        unread = f"{problem.where}: {problem.got}"
    tables.pop("vocab.json", None)
    return TokenizerFiles(
        files=tuple(filter(_is_tokenizer_file, at_hand)),
        source=source,
        size=size,
        unread=unread,
        ids=vocabulary.ids,
        names=vocabulary.names,
        problems=tuple(vocabulary.problems),
        tables=tables,
        reserved=frozenset(vocabulary.reserved),
    )


def _is_tokenizer_file(path: str) -> bool:
    named = (*VOCABULARIES, CONFIG, SPECIAL, ADDED, *TEMPLATES, *OTHER_FILES)
    return path in named or bool(PIECES.search(path))


def _sources(at_hand: list[str]) -> list[str]:
    """The files that hold a vocabulary, the one that a tokenizer is built from first."""
    listed = [path for path in VOCABULARIES if path in at_hand]
    return listed + [path for path in at_hand if PIECES.search(path)]


def _table(folder: Folder, path: str) -> Table | None:
    try:
        value = folder.json(path)
    except PackageProblem:
        return None
    return value if isinstance(value, dict) else None


def _fill(into: Vocabulary, folder: Folder, source: str, tables: dict[str, Table]) -> int:
    """Read the vocabulary; its size with the added tokens. Raises `PackageProblem`."""
    if source == FAST:
        _fill_fast(into, tables.get(FAST))
        return len(into.ids)
    hidden = 0
    if source == "tekken.json":
        hidden = _tekken_size(_table(folder, source))
    elif source.endswith(".json"):
        into.add_all(_flat(into, tables.get(source) or _table(folder, source), source), source)
    elif source.endswith(".txt"):
        _fill_lines(into, folder, source)
    else:
        hidden = _count_pieces(into, folder, source)
    for path, token, number in added_tokens(tables):
        into.add(token, number, path)
    return max(len(into.ids), hidden)


def added_tokens(tables: Mapping[str, Table]) -> list[tuple[str, object, object]]:
    """The file, token and id of every token that is added beside a vocabulary file."""
    found: list[tuple[str, object, object]] = []
    for token, number in tables.get(ADDED, {}).items():
        found.append((ADDED, token, number))
    decoder = tables.get(CONFIG, {}).get("added_tokens_decoder")
    if isinstance(decoder, dict):
        for key, token in decoder.items():
            content = token.get("content") if isinstance(token, dict) else token
            number = int(key) if re.fullmatch(r"[0-9]{1,12}", key) else key
            found.append((f"{CONFIG}: added_tokens_decoder", content, number))
    return found


def _fill_fast(into: Vocabulary, table: Table | None) -> None:
    model = (table or {}).get("model")
    listed = model.get("vocab") if isinstance(model, dict) else None
    where = f"{FAST}: model.vocab"
    if isinstance(listed, dict):
        kind = model.get("type", "BPE") if isinstance(model, dict) else "BPE"
        # An empty entry of a BPE vocabulary is a reserved row: no merge can ever produce it.
        reserved = listed.get("") if kind == "BPE" else None
        plain = {k: v for k, v in listed.items() if k} if reserved is not None else listed
        into.reserve(reserved)
        into.add_all(plain, where)
    elif isinstance(listed, list):
        into.add_row((_piece(one) for one in listed), lambda number: f"{where}[{number}]")
    else:
        raise _unread(FAST, "holds no vocabulary of a known form")
    added = (table or {}).get("added_tokens")
    for index, token in enumerate(added if isinstance(added, list) else []):
        if isinstance(token, dict):
            place = f"{FAST}: added_tokens[{index}]"
            into.add(token.get("content"), token.get("id"), place)


def _piece(row: object) -> object:
    return row[0] if isinstance(row, list) and row else row


def _flat(into: Vocabulary, table: Table | None, path: str) -> Table:
    if not table or any(isinstance(value, dict | list) for value in table.values()):
        raise _unread(path, "holds no table of tokens and ids")
    into.reserve(table.get(""))
    return {token: number for token, number in table.items() if token}


def _fill_lines(into: Vocabulary, folder: Folder, path: str) -> None:
    """One token a line, its id the number of the line from 0 (BERT's vocab.txt).

    A dictionary of fairseq, which comes with bpe.codes or is called dict.txt, leaves out four
    tokens at its start and has a count after each token.
    """
    text = folder.read(path, TEXT_LIMIT).decode("utf-8", errors="replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    before: tuple[str, ...] = ()
    if path == "dict.txt" or "bpe.codes" in folder.entries:
        before, lines = DICTIONARY_START, [line.rpartition(" ")[0] or line for line in lines]
    into.add_row([*before, *lines], lambda number: f"{path}:{number + 1 - len(before)}")


def _count_pieces(into: Vocabulary, folder: Folder, path: str) -> int:
    data = folder.read(path, TEXT_LIMIT)
    if ranks := _ranks(data):
        return ranks
    try:
        pieces = sentencepiece.pieces(data)
    except sentencepiece.NotSentencePiece as error:
        raise _unread(path, f"is not a vocabulary of a known form: {error}") from None
    into.judge_pieces(pieces, path)
    return len(pieces)


def _ranks(data: bytes) -> int:
    """The number of entries of a tiktoken file (a token in base64 and its rank a line), else 0."""
    lines = data.split(b"\n")
    first = lines[0].split()
    if len(first) != 2 or not first[1].isdigit():
        return 0
    try:
        base64.b64decode(first[0], validate=True)
    except binascii.Error:
        return 0
    return sum(1 for line in lines if line.strip())


def _tekken_size(table: Table | None) -> int:
    settings = (table or {}).get("config")
    size = settings.get("default_vocab_size") if isinstance(settings, dict) else None
    if not isinstance(size, int):
        raise _unread("tekken.json", "states no size")
    return size


def _unread(path: str, got: str) -> PackageProblem:
    return PackageProblem("vocabulary-form", path, got, "a vocabulary file of a known form")
