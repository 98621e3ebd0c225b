"""The page about the sweep, written from its data files: run this module to write it anew."""

from __future__ import annotations

import collections
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sweep_data import (
    FINDING,
    LINES,
    NOT_BUILT,
    PASS,
    UNDECIDED,
    kind_of,
    listed,
    rows,
    table,
)

PAGE = Path(__file__).parents[2] / "docs" / "sweep.md"


def page() -> str:
    """The whole page."""
    parts = [table("page.toml")["opening"].strip(), _counts()]
    for heading, kind in (
        ("True findings", FINDING),
        ("Inconclusive", UNDECIDED),
        ("Not built", NOT_BUILT),
    ):
        parts += [f"## {heading}", _causes(kind)]
    parts += ["## Left out", _left_out()]
    return "\n\n".join(parts) + "\n"


def _counts() -> str:
    kinds = (PASS, FINDING, UNDECIDED, NOT_BUILT)
    lines = [
        "| transformers | architectures | pairs | " + " | ".join(kinds) + " | inconclusive share |",
        "|---" * (len(kinds) + 4) + "|",
    ]
    for line, version in LINES.items():
        pairs = listed(line)
        count = collections.Counter(kind_of(pair, line) for pair in pairs)
        types = {pair.split("/")[0] for pair in pairs}
        share = 100 * count[UNDECIDED] / len(pairs)
        figures = [version, len(types), len(pairs), *(count[kind] for kind in kinds)]
        lines.append("| " + " | ".join(map(str, figures)) + f" | {share:.1f} % |")
    return "\n".join(lines)


def _left_out() -> str:
    rules = table("left_out.toml")
    reasons = [rules["no_tokens"], *(row["reason"] for row in rules["argument"])]
    reasons += [rules["composite"], *(row["reason"] for row in rules["listed"])]
    lines = "\n".join(f"* {reason};" for reason in reasons)
    return (
        "Of what the mappings of the library name, a pair is left out where\n\n"
        f"{lines}\n* its class does another task, under which it stands."
    )


def _causes(kind: str) -> str:
    lines = ["| pairs | transformers | requirements | cause |", "|---|---|---|---|"]
    for row in rows():
        found = {
            line: [pair for pair in listed(line) if row.concerns(pair, line)] for line in LINES
        }
        concerned = sorted({pair for pairs in found.values() for pair in pairs})
        if row.kind != kind or not concerned:
            continue
        where = ", ".join(LINES[line] for line, pairs in found.items() if pairs)
        told = ", ".join(f"{key} {value}" for key, value in row.results.items())
        names = ", ".join(f"`{pair}`" for pair in concerned)
        lines.append(f"| {names} | {where} | {told} | {row.cause} |")
    return "\n".join(lines) if len(lines) > 2 else "None."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
