"""The page `docs/licences.md`, made from the table of duties.

Run it to write the page anew: `python conformance_tests/package/licence_page.py`.
"""

from __future__ import annotations

from pathlib import Path

from slmconform.package.duties import Licence, clauses, licences

PAGE = Path(__file__).parents[2] / "docs" / "licences.md"
HEAD = """\
# What licences ask of models that are built on others

This is no legal advice. It is a reading of published licence texts, each cell with the place that
it was read from, and it can be wrong or out of date. Read the licence, and ask a lawyer where it
matters.

The table is made from `src/slmconform/package/licences/duties.toml`. SLM-LIC-005 and SLM-LIC-006
judge by it, and by one rule: a derived model carries what its base propagates. The outcome is
compatible, a conflict with a clause and its source, or unknown; what is unknown is reported as such
and never as compatible.

## Clauses

"""
LICENCES = """
## Licences

A cell is the place in the licence that holds the clause. An empty cell says that the licence has no
such clause, `?` that it is open. A licence that is not listed is unknown. Ids without `-only` and
`-or-later` stand for both.
"""
COLUMNS = {
    "permissive": "Permissive licences",
    "copyleft": "Copyleft licences",
    "Creative Commons": "Creative Commons licences",
    "model": "Licences written for models",
}


def page() -> str:
    """The whole page."""
    text = HEAD + table(
        ["clause", "what it says", "carried", "judged for"],
        [[c.id, c.says, c.carried, ", ".join(c.relations) or "-"] for c in clauses()],
    )
    text += LICENCES
    for kind, title in COLUMNS.items():
        rows = [row for row in licences() if row.kind == kind]
        used = [c.id for c in clauses() if any(c.id in (*r.sources, *r.unsure) for r in rows)]
        text += f"\n### {title}\n\n"
        text += table(["licence", *used], [cells(row, used) for row in rows])
        text += details(rows)
    return text


def cells(row: Licence, used: list[str]) -> list[str]:
    return [
        f"`{row.id}`",
        *("?" if one in row.unsure else row.sources.get(one, "") for one in used),
    ]


def details(rows: tuple[Licence, ...] | list[Licence]) -> str:
    """What the clauses of each licence are about: licences, sentences, words, relations."""
    lines: list[str] = []
    for row in rows:
        said = [
            f"share-alike allows {quoted(row.under)}" if row.under else "",
            f"the notice is “{row.notice} …”" if row.notice else "",
            f"the name begins with “{row.prefix}”" if row.prefix else "",
            f"only for copies of the model itself: {quoted(row.copies_only)}"
            if row.copies_only
            else "",
            *(f"for {one} also: {quoted(ids)}" for one, ids in row.reaches.items()),
        ]
        if any(said):
            lines.append(f"* `{row.id}` ({row.name}): {'; '.join(filter(None, said))}.")
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def quoted(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{one}`" for one in names)


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
