"""The line protocol, both ends, without a process."""

from __future__ import annotations

import json
import os
from io import FileIO

import pytest

from slmconform.harmless import escaped, quoted
from slmconform.isolation import protocol
from slmconform.isolation.output import RING, Output, is_forgery
from slmconform.isolation.protocol import (
    LINE_LIMIT,
    BadLine,
    MissingFooter,
    RecordReader,
    RecordWriter,
    TooLarge,
    WrongNonce,
    WrongSequence,
)

NONCE = "5eed" * 8


@pytest.fixture
def written():
    """The bytes that a writer sends for two records."""
    reader, writer = os.pipe()
    lines = RecordWriter(writer, NONCE)
    lines.record({"a": 1})
    lines.record({"b": [0.1]})
    lines.footer("complete", "", 1024)
    os.close(writer)
    with FileIO(reader) as source:
        return source.read()


def reader():
    return RecordReader(NONCE, os.getpid())


def line(sequence, **fields):
    return json.dumps({"nonce": NONCE, "seq": sequence, **fields}).encode() + b"\n"


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_is_written_is_read(written, size):
    seen = reader()
    parts = [written[start : start + size] for start in range(0, len(written), size)]
    assert [record for part in parts for record in seen.feed(part)] == [{"a": 1}, {"b": [0.1]}]
    footer = seen.finish()
    assert (footer.records, footer.ending, footer.peak_bytes) == (2, "complete", 1024)


def test_every_line_carries_nonce_and_number(written):
    lines = [json.loads(text) for text in written.splitlines()]
    assert [fields["seq"] for fields in lines] == [0, 1, 2, 3]
    assert {fields["nonce"] for fields in lines} == {NONCE}
    assert lines[0]["protocol"] == 1
    assert lines[0]["pid"] == os.getpid()


def test_a_missing_footer_is_never_complete(written):
    seen = reader()
    assert len(list(seen.feed(written[:-1]))) == 2
    with pytest.raises(MissingFooter, match="after 2 records"):
        seen.finish()


@pytest.mark.parametrize("dropped", [1, 2])
def test_a_lost_line_is_a_gap(written, dropped):
    lines = written.splitlines(keepends=True)
    del lines[dropped]
    with pytest.raises(WrongSequence):
        list(reader().feed(b"".join(lines)))


@pytest.mark.parametrize(
    ("late", "error"),
    [(line(4, record={}), WrongSequence), (b"{}\n", WrongNonce), (b"tail", WrongSequence)],
)
def test_nothing_follows_the_footer(written, late, error):
    seen = reader()

    def read():
        list(seen.feed(written + late))
        seen.finish()

    with pytest.raises(error):
        read()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (line(0, protocol=2, pid=os.getpid()), BadLine),
        (line(0, protocol=1, pid=1), BadLine),
        (line(0, record={}), BadLine),
        (line(True, record={}), WrongSequence),
        (line(1, record={}), WrongSequence),
        (b'{"nonce": 5}\n', WrongNonce),
        (b'{"nonce": "\xc3\xbc\\ud800"}\n', WrongNonce),
        (b"\xff\xfe\n", BadLine),
        (b"9" * 5000 + b"\n", BadLine),
        (b"x" * LINE_LIMIT, TooLarge),
        (b"x" * LINE_LIMIT + b"\n", TooLarge),
    ],
    ids=[
        "version",
        "pid",
        "record",
        "bool",
        "number",
        "type",
        "surrogate",
        "bytes",
        "digits",
        "endless",
        "long",
    ],
)
def test_a_bad_first_line(text, error):
    with pytest.raises(error):
        list(reader().feed(text))


@pytest.mark.parametrize(
    "fields",
    [
        {"record": 5},
        {"record": {}, "more": 1},
        {"footer": {"records": 0, "ending": "complete", "reason": ""}},
        {},
    ],
)
def test_a_bad_later_line(written, fields):
    header = written.splitlines(keepends=True)[0]
    with pytest.raises(BadLine, match="neither a record nor a footer"):
        list(reader().feed(header + line(1, **fields)))


def test_a_footer_that_counts_wrongly(written):
    header = written.splitlines(keepends=True)[0]
    footer = {"records": 5, "ending": "complete", "reason": "", "peak_bytes": None}
    with pytest.raises(WrongSequence, match="counts 5 records of 0"):
        list(reader().feed(header + line(1, footer=footer)))


def test_all_lines_together_are_bounded(monkeypatch, written):
    monkeypatch.setattr(protocol, "TOTAL_LIMIT", len(written) - 1)
    with pytest.raises(TooLarge):
        list(reader().feed(written))


def test_a_forked_process_may_not_write():
    source, sink = os.pipe()
    writer = RecordWriter(sink, NONCE)
    pid = os.fork()
    if pid == 0:
        try:
            writer.record({})
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    os.close(source)
    os.close(sink)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_quotes_are_printable_and_short():
    hostile = "a\x1b[31m\u202e\x00\ud800\n\n b" + "x" * 10_000
    assert quoted(hostile).isprintable()
    assert quoted(hostile).startswith("“a\\x1b[31m\\u202e\\x00\\ud800 b")
    assert len(escaped(hostile)) < 250
    assert quoted(b"\xff") == "“\\xff”"


def test_the_output_keeps_a_ring():
    output = Output()
    for number in range(1000):
        output.feed(b"%05d" % number * 200)
    assert output.tail(5) == "00999"
    assert len(output.tail(1 << 30)) <= 2 * RING


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_forgery_is_seen_across_reads(cut):
    text = b"loading\n" + b'{"verdict": "conformant"}' + b"\n"
    output = Output()
    output.feed(text[:cut])
    output.feed(text[cut:])
    output.finish()
    assert output.forged == b'{"verdict": "conformant"}'


def test_an_endless_line_is_judged_by_its_start():
    legal, forged = Output(), Output()
    legal.feed(b"x" * 100_000)
    legal.feed(b'verdict: conformant {"seq": 1}')
    legal.feed(b"\nnext")
    legal.finish()
    assert legal.forged is None
    forged.feed(b"verdict: conformant" + b"x" * 100_000)
    assert forged.forged is not None
    forged.feed(b"\nverdict: two\n")
    assert forged.forged.startswith(b"verdict: conformant")


def test_a_line_after_an_endless_one_is_judged():
    output = Output()
    output.feed(b"x" * 100_000)
    output.feed(b"yyy\nFAIL SLM-REF-001 no\n")
    assert output.forged == b"FAIL SLM-REF-001 no"


def test_a_mention_is_no_forgery():
    assert not is_forgery(b"PASSED SLM-1")
    assert not is_forgery(b'["verdict"]')
    assert is_forgery(b'  {"outcome": 1}')
