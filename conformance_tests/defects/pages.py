"""The pages that are made of the kill matrix, the records and the catalogue."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bases import REFERENCE, architecture
from defect_record import Defect, all_defects, all_near_misses
from hostile_row import Row
from matrix import catalogued, golden

from slmconform.engine.plan import load_checks
from slmconform.standard.catalogue import Requirement, catalogue, spec_folder

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
ID = re.compile(r"SLM-[A-Z]{3}-\d{3}")
RUNNERS = {"defects/test_kills.py": Defect, "hostile/test_hostile_catalogue.py": Row}

MATRIX_HEAD = """\
# The kill matrix

A check that cannot fail is worth nothing. Each line below is a sound package that was broken in
one way, and what `slmconform check` then says of it, exactly: ● is the requirement that the
defect breaks, ○ one that is told as well, and an empty cell one that passes, does not apply, or
is blocked by the one that failed. The tests build every package anew, on each supported line of
transformers, and compare the whole report with this matrix: another outcome, another failure code
or one more id fails. Beside each defect stands a legal neighbour that has to pass everything.

"""
MATRIX_TAIL = """
`bert-ner` and the other five names of `reference_models/` are trained models; `tagger`, `writer`,
`halved`, `claims` and those that begin with `learner-` are small packages that the tests record.

Each defect is judged by the lowest profile that asks for the requirement that it breaks. The
evidence of a changed package lists its files as they are, so that no digest gives a changed file
away unless the digest is the point. The data are `conformance_tests/defects/kill_matrix.json`, one
line a defect, written by `python conformance_tests/defects/matrix.py --update`.
"""
TRACE_HEAD = """\
# From sentence to test

Every requirement of this version with the function that checks it, the defects that it tells first,
their legal neighbours, and the test modules that name it, below `conformance_tests/`. A test fails
where a link is missing in either direction. The sentences stand in `requirements.toml` and, quoted,
on the page of each area; `docs/kill-matrix.md` of the source tree says what each defect is. This
page is written by `python conformance_tests/defects/matrix.py --update`.

"""


def write() -> None:
    """Write every page anew."""
    for path, make in PAGES.items():
        path.write_text(make(), "utf-8")


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def plain(text: str) -> str:
    """Words of a record as they can stand in a cell."""
    text = text.replace("|", r"\|").replace("<", "&lt;").removesuffix(".")
    return text[0].upper() + text[1:]


def kill_matrix() -> str:
    """The page `docs/kill-matrix.md`."""
    entries, records = golden(), catalogued()
    known = catalogue()
    lines = [*totals(entries, records), MATRIX_TAIL]
    for area, title in known.areas.items():
        names = [n for n, line in entries.items() if line["primary"].split("-")[1] == area]
        own = [n for n in names if isinstance(records[n], Defect)]
        hostile = [n for n in names if isinstance(records[n], Row)]
        lines += [f"## {title}", ""]
        wanted = [one for one in known.requirements.values() if one.area == area]
        counted = Counter(entries[n]["primary"] for n in names)
        rows = [[one.id, one.title, one.keyword, str(counted[one.id])] for one in wanted]
        lines += [*table(["id", "requirement", "keyword", "defects"], rows), ""]
        lines += [*area_table(own, entries, wanted), ""]
        if hostile:
            lines += [f"<details><summary>{len(hostile)} hostile packages</summary>", ""]
            lines += [*area_table(hostile, entries, wanted), "", "</details>", ""]
    return MATRIX_HEAD + "\n".join(lines).rstrip() + "\n"


def totals(entries: dict[str, Any], records: dict[str, Any]) -> Iterator[str]:
    """What there is of each kind, as a table."""
    own = [one for one in records.values() if isinstance(one, Defect)]
    models = [one for one in own if (REFERENCE / one.package).is_dir()]
    killed = {line["primary"] for line in entries.values()}
    more = [line for line in entries.values() if len(line["told"]) > 1]
    twins = {one.twin for one in records.values() if isinstance(one, Row) and one.twin}
    rows = {
        "defects": len(entries),
        "of them changes of the reference models": len(models),
        "changes of small packages, and of libraries under them": len(own) - len(models),
        "hostile packages": len(entries) - len(own),
        "told by the requirement that they break": sum(
            line["primary"] in line["told"] for line in entries.values()
        ),
        "told by it and by nothing else": len(entries) - len(more),
        "requirements": len(catalogue().requirements),
        "requirements that are broken by a defect": len(killed),
        "defects with a legal neighbour": sum(line["twin"] for line in entries.values()),
        "legal neighbours and other legal variants": len(all_near_misses()) + len(twins),
        "architectures": len({architecture(one.package) for one in own}),
    }
    yield from table(["what", "how many"], [[name, str(n)] for name, n in rows.items()])


def area_table(
    names: list[str], entries: dict[str, Any], wanted: list[Requirement]
) -> Iterator[str]:
    """Defects by the checks of one area, and what else is told of them."""
    records = catalogued()
    names = sorted(names, key=lambda name: (entries[name]["primary"], name))
    ids = [one.id for one in wanted]
    others = any(set(entries[name]["told"]) - set(ids) for name in names)
    packages = any(isinstance(records[name], Defect) for name in names)
    rows = []
    for name in names:
        told, primary = entries[name]["told"], entries[name]["primary"]
        cells = ["●" if one == primary else "○" if one in told else "" for one in ids]
        row = [plain(records[name].says)]
        row += [entries[name]["package"]] if packages else []
        row += [f"`{told[primary].split()[1]}`", *cells]
        row += [", ".join(f"{one} `{told[one]}`" for one in told if one not in ids)] * others
        rows.append(row)
    head = ["broken", *(["package"] if packages else []), "code", *(one[-3:] for one in ids)]
    yield from table([*head, *["also"] * others], rows)


@cache
def naming() -> dict[str, list[str]]:
    """The test modules that hold an id in a string, by id."""
    found: dict[str, set[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for one in ID.findall(node.value):
                    found.setdefault(one, set()).add(str(file.relative_to(TESTS)))
    return {one: sorted(files) for one, files in found.items()}


def tests_of(one: str) -> list[str]:
    """The test modules that run a defect of a requirement, and those that name it."""
    kinds = [type(record) for record in catalogued().values() if record.kills == one]
    runners = [file for file, kind in RUNNERS.items() if kind in kinds]
    return sorted({*runners, *naming().get(one, ())})


def twins_of(one: str) -> int:
    """How many different legal neighbours the defects of a requirement have."""
    neighbours = {defect.neighbour for defect in all_defects() if defect.kills == one}
    rows = [row for row in catalogued().values() if isinstance(row, Row) and row.kills == one]
    return len(neighbours) + len({row.twin for row in rows if row.twin})


def check_of(one: str) -> str:
    """Module and function of the check, below `slmconform.checks`."""
    function = load_checks()[one].function
    return f"`{function.__module__.removeprefix('slmconform.checks.')}:{function.__name__}`"


def traceability() -> str:
    """The page `spec/1.0/traceability.md`."""
    counted = Counter(line["primary"] for line in golden().values())
    rows = []
    for one in catalogue().requirements.values():
        check = one.excluded or check_of(one.id)
        files = ", ".join(
            name.replace("test_", "").removesuffix(".py") for name in tests_of(one.id)
        )
        rows.append([one.id, one.title, check, str(counted[one.id]), str(twins_of(one.id)), files])
    lines = list(table(["id", "requirement", "check", "defects", "twins", "tests"], rows))
    return TRACE_HEAD + "\n".join([*lines, "", *excluded_table()]) + "\n"


def excluded_table() -> Iterator[str]:
    """Sentences of the pages that hold a keyword and ask for nothing."""
    yield "## Sentences that ask for nothing"
    yield ""
    rows = [[one["page"], plain(one["text"]), one["reason"]] for one in excluded()]
    yield from table(["page", "sentence", "why it has no check"], rows)


@cache
def excluded() -> list[dict[str, str]]:
    """The sentences that the catalogue excludes, with their pages and reasons."""
    return tomllib.loads((spec_folder() / "requirements.toml").read_text("utf-8"))["excluded"]


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "docs/kill-matrix.md": kill_matrix,
    ROOT / "spec/1.0/traceability.md": traceability,
}
