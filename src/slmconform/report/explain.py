"""Requirements in words, from the catalogue and the published prose."""

from __future__ import annotations

import re
import textwrap

from slmconform.engine.options import CouldNotRun
from slmconform.engine.plan import canonical, load_checks, unknown
from slmconform.standard.catalogue import catalogue, spec_folder

SOURCES = {
    "files": "the files alone, with or without a manifest",
    "manifest": "a manifest (`slmconform init`)",
    "evidence": "a manifest and evidence (`slmconform record`)",
}
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def explain(one: str) -> str:
    """What a requirement says, why, what it needs and how to ask it alone.

    Raises `CouldNotRun` for an id that is not in the catalogue.
    """
    known = catalogue()
    wanted = canonical(one)
    requirement = known.requirements.get(wanted)
    if requirement is None:
        raise CouldNotRun(unknown(known, one))
    check = load_checks().get(wanted)
    lines = [
        f"{requirement.id}  {requirement.title}",
        f"{requirement.keyword}, profile {requirement.profile}, since {requirement.since}, "
        f"{check.stage.value if check else 'no'} check",
        "",
        _filled(requirement.sentence),
        "",
    ]
    rationale = prose(requirement.area, wanted)
    if rationale:
        lines += [rationale, ""]
    lines += [f"answered from  {SOURCES[requirement.source]}"]
    if check and check.needs:
        needs = _filled(", ".join(check.needs), 65).replace("\n", "\n" + " " * 15)
        lines += [f"holds only if  {needs}"]
    lines += [f"ask it alone   slmconform check ./model --only {wanted}"]
    return "\n".join(lines)


def prose(area: str, one: str) -> str:
    """What the published text of an area says under a requirement, after its sentence."""
    path = spec_folder() / f"{area.lower()}.md"
    if not path.is_file():
        return ""
    text = path.read_text("utf-8")
    found = re.search(rf"^### {one}\b.*?\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        return ""
    kept = [p for p in found.group(1).strip().split("\n\n") if not p.startswith(">")]
    plain = [LINK.sub(r"\1", p) for p in kept]
    return "\n\n".join(p if "```" in p or p.startswith("|") else _filled(p) for p in plain)


def _filled(text: str, width: int = 80) -> str:
    """Lines that never break an id or a path at a hyphen."""
    return textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False)


def listing(profile: str | None) -> str:
    """Every requirement on one line, by profile.

    Raises `CouldNotRun` for a profile that does not exist.
    """
    known = catalogue()
    if profile is not None and profile not in known.profiles:
        raise CouldNotRun(f"no profile is called {profile!r}; choose {', '.join(known.profiles)}")
    lines: list[str] = []
    for name, each in known.profiles.items():
        rows = [r for r in known.requirements.values() if r.profile == name]
        lines += [f"{name}: {each.proves}"]
        lines += [f"  {row.id}  {row.keyword:<8}  {row.title}" for row in rows]
        if name == profile:
            break
    return "\n".join(lines)
