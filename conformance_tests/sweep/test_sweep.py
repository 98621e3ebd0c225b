"""No tiny model of any text architecture is failed falsely: each pair comes to what is known of it.

In CI a sample; `pytest -m sweep` takes all of them, `--shard 2/8` an eighth.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import sweep_page
import transformers
from run import Sweep
from sweep_data import FINDING, LINES, expected, kind_of, listed, rows, table
from sweep_outcomes import LINE, examined, surprise
from sweep_pairs import enumerated, named, shard_of

from slmconform.isolation.client import ForkServer

# The architectures' own: deprecated calls, TorchScript.
pytestmark = pytest.mark.filterwarnings("ignore")

SAMPLE = [f"{name}/{task}" for task, names in table("sample.toml").items() for name in names]
PINNED = transformers.__version__ in LINES.values()


@pytest.mark.parametrize("name", SAMPLE)
def test_sampled_pair_comes_to_what_is_expected(
    name: str, tmp_path: Path, server: ForkServer
) -> None:
    pair = named().get(name)
    if pair is None:
        assert name not in listed(LINE)
        pytest.skip(f"transformers {transformers.__version__} has no such pair")
    one = examined(pair, tmp_path, server)
    assert not surprise(one), one.results


@pytest.mark.sweep
def test_whole_sweep_comes_to_what_is_expected(request: pytest.FixtureRequest) -> None:
    pairs, _ = enumerated()
    if PINNED:
        assert [pair.name for pair in sorted(pairs, key=lambda p: p.name)] == listed(LINE)
    sweep = Sweep(shard_of(pairs, request.config.getoption("--shard")), "cpu")
    sweep.run(1)
    assert not sweep.summary()["unexpected"]


def test_shards_are_the_whole_and_do_not_overlap() -> None:
    pairs = sorted(named().values())
    parts = [shard_of(pairs, f"{i}/8") for i in range(1, 9)]
    assert sorted(pair for part in parts for pair in part) == pairs
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(ValueError, match="1 <= i <= n"):
        shard_of(pairs, "9/8")


def test_every_expectation_speaks_of_a_pair_and_has_a_cause() -> None:
    for row in rows():
        assert len(row.cause) > 20
        for pattern in row.pairs:
            alone = row.__class__((pattern,), row.cause, row.lines)
            assert any(alone.concerns(pair, line) for line in LINES for pair in listed(line)), row


def test_sample_holds_each_task_and_findings_of_both_lines() -> None:
    assert len(SAMPLE) == len(set(SAMPLE))
    everywhere = {line: set(listed(line)) for line in LINES}
    assert set(SAMPLE) <= set.union(*everywhere.values())
    assert {name.split("/")[1] for name in SAMPLE} == set(table("pairs.toml"))
    for line, names in everywhere.items():
        kinds = {kind_of(name, line) for name in SAMPLE if name in names}
        assert FINDING in kinds, f"no finding of {line} in the sample"


def test_unexpected_outcome_in_either_direction_is_a_surprise(
    tmp_path: Path, server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = examined(named()["bert/masked-lm"], tmp_path, server)
    assert (one.told, surprise(one)) == ({}, "")
    wanted = {"SLM-INV-004": "fail mask-ignored"}
    monkeypatch.setattr("sweep_outcomes.expected", lambda *_: wanted)
    assert surprise(one) == f"gone: {wanted}"
    broken = type(one)(
        **{**one.as_json(), "results": [{"id": "X", "outcome": "fail", "code": "y"}]}
    )
    assert surprise(broken).startswith("new: {'X': 'fail y'}")
    monkeypatch.setattr("sweep_outcomes.not_built", lambda *_: "it could not be")
    assert surprise(one) == "is built now, which it was not: it could not be"


def test_page_is_what_the_data_say() -> None:
    assert expected("bert/masked-lm", LINE) == {}
    assert sweep_page.PAGE.read_text(encoding="utf-8") == sweep_page.page(), (
        "write it anew: python conformance_tests/sweep/sweep_page.py"
    )
