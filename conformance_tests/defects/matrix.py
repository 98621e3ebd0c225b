"""The golden kill matrix: for every defect, what exactly is told of it.

    python conformance_tests/defects/matrix.py --update [NAME ...]

writes `kill_matrix.json`, whole or the entries that are named, and the pages that are made of it.
A line is a defect; the file is the same for every version of transformers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent), *(str(HERE.parent / n) for n in ("hostile", "near_misses"))]

from bases import Bases  # noqa: E402 - after the path, when this file is run
from defect_record import Defect, all_defects  # noqa: E402
from hostile_row import Row, all_rows  # noqa: E402
from running import Told, as_told, run, run_row  # noqa: E402

GOLDEN = HERE / "kill_matrix.json"
Record = Defect | Row


def catalogued() -> dict[str, Record]:
    """Every defect by its name: the records, then the hostile rows."""
    found: dict[str, Record] = {one.name: one for one in all_defects()}
    for row in all_rows():
        if row.id in found:
            raise ValueError(f"two defects are called {row.id}")
        found[row.id] = row
    return dict(sorted(found.items()))


def entry(record: Record, told: Told) -> dict[str, Any]:
    """What the matrix holds of a defect that is told so."""
    hostile = isinstance(record, Row)
    return {
        "primary": record.kills,
        "told": {one: " ".join(told[one]).strip() for one in sorted(told)},
        "package": "hostile" if hostile else record.package,
        "profile": record.asked,
        "twin": bool(record.twin),
    }


def golden() -> dict[str, dict[str, Any]]:
    """The matrix as it stands in the file."""
    return json.loads(GOLDEN.read_text("utf-8"))


def told_now(record: Record, bases: Bases, scratch: Path) -> Told:
    """What is told of a defect, made anew below a folder."""
    if isinstance(record, Row):
        return as_told(run_row(record, scratch)[0])
    return as_told(run(record, record.asked, bases, scratch)[0])


def text_of(entries: dict[str, dict[str, Any]]) -> str:
    """The file: sorted, a line a defect, so that a change of one reads as one."""
    lines = [f"{json.dumps(name)}: {json.dumps(entries[name])}" for name in sorted(entries)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def update(names: list[str]) -> None:
    """Run the defects that are named, or all, and write what is told."""
    from slmconform.isolation.client import shared_server

    records = catalogued()
    chosen = names or list(records)
    entries = {name: one for name, one in (golden() if names else {}).items() if name in records}
    server = shared_server()
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "bases").mkdir()
        bases = Bases(Path(root) / "bases", server)
        for at, name in enumerate(chosen):
            (scratch := Path(root) / str(at)).mkdir()
            told = told_now(records[name], bases, scratch)
            entries[name] = entry(records[name], told)
            kept = told.get(records[name].kills)
            if kept is None or kept[1] != records[name].code or len(told) > 1:
                print(f"look at {name}: {entries[name]['told']}", file=sys.stderr, flush=True)
    server.close()
    GOLDEN.write_text(text_of(entries), "utf-8")


def main() -> None:
    """Write the matrix and what is made of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", required=True)
    parser.add_argument("--pages-only", action="store_true", help="write only the pages")
    parser.add_argument("names", nargs="*", help="the defects to run; all without")
    arguments = parser.parse_args()
    if not arguments.pages_only:
        update(arguments.names)
    from pages import write

    write()


if __name__ == "__main__":
    main()
