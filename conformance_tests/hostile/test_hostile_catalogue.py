"""Each hostile package is told by its id, outcome and code, in time, and harms nothing."""

from __future__ import annotations

import os
import stat
import time
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from hostile_row import Row, all_rows
from matrix import entry, golden
from own_code import own_code
from running import as_told, check_row, told_of

from slmconform.standard.files import EVIDENCE
from slmconform.standard.report import Outcome

ROWS = all_rows()
DYNAMIC = [row for row in ROWS if not row.static]
LEFT_BEHIND = [Path("/tmp/slmconform-hostile")]  # what rows of own code try to write


def named(row: Row) -> str:
    return row.id


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every entry below a folder with its kind, size and time of change; links not followed."""
    found = {}
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = Path(path, name).lstat()
            key = str(Path(path, name).relative_to(folder))
            found[key] = (stat.S_IFMT(entry.st_mode), entry.st_size, entry.st_mtime_ns)
    return found


@pytest.fixture(scope="session", autouse=True)
def warm(server, tmp_path_factory):
    """Import the libraries before a row's time is taken: they are no part of the package."""
    check_row(own_code(tmp_path_factory.mktemp("warm") / "package"), DYNAMIC[0])


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_each_row_is_told_by_its_requirement_alone(row, tmp_path):
    row.build(tmp_path / "package")
    before = tree(tmp_path)
    wall, processor = time.monotonic(), time.process_time()
    report = check_row(tmp_path / "package", row)
    wall, processor = time.monotonic() - wall, time.process_time() - processor
    recorded = (tmp_path / "package" / EVIDENCE).exists()
    told = as_told(told_of(report.results, evidence=recorded))
    assert told[row.kills] == (row.outcome, row.code), report.log
    assert entry(row, told) == golden()[row.id], report.log
    assert tree(tmp_path) == before
    assert [path for path in LEFT_BEHIND if path.exists()] == []
    # Processor time is that of the row on a machine that has others to serve, too; what waits
    # without using any shows by the clock.
    assert processor < row.limit_s
    assert wall < 3 * row.limit_s


def twins() -> dict[str, list[Row]]:
    """The rows by their twins: a twin that several have, with the same options, is one package."""
    found: dict[tuple[object, str], list[Row]] = {}
    for row in ROWS:
        if row.twin:
            found.setdefault((row.twin, repr(sorted(row.options.items()))), []).append(row)
    return {rows[0].id: rows for rows in found.values()}


@pytest.mark.parametrize("rows", twins().values(), ids=twins())
def test_each_legal_twin_passes(rows, tmp_path):
    rows[0].twin(tmp_path / "package")
    report = check_row(tmp_path / "package", rows[0])
    outcomes = {one.id: one.outcome for one in report.results}
    bad = (Outcome.FAIL, Outcome.WARN, Outcome.ERROR, Outcome.INCONCLUSIVE)
    assert [one.id for one in report.results if one.outcome in bad] == []
    for row in rows:
        assert outcomes[row.kills] in (Outcome.PASS, Outcome.NOT_APPLICABLE)


def test_no_row_is_lost():
    """The ratchet: how many rows of each group are caught. It is raised with every new row."""
    ratchet = tomllib.loads((Path(__file__).parent / "ratchet.toml").read_text("utf-8"))
    assert Counter(row.id[0] for row in ROWS) == ratchet, "raise ratchet.toml; it never falls"


def test_the_ids_of_the_rows_are_unique():
    ids = [row.id for row in ROWS]
    assert sorted(set(ids)) == sorted(ids)
