"""Requirements in words, from the catalogue and the published prose."""

from __future__ import annotations

import difflib
import re
import textwrap

from slmconform.engine.examine import CouldNotRun
from slmconform.engine.plan import load_checks
from slmconform.standard.catalogue import catalogue, spec_folder

SOURCES = {
    "files": "the files alone, with or without a manifest",
    "manifest": "a manifest (`slmconform init`)",
    "evidence": "a manifest and evidence (`slmconform record`)",
}


def explain(one: str) -> str:
    """What a requirement says, why, what it needs and how to ask it alone.

    Raises `CouldNotRun` for an id that is not in the catalogue.
    """
    known = catalogue()
    wanted = one.upper() if one.upper().startswith("SLM-") else f"SLM-{one.upper()}"
    requirement = known.requirements.get(wanted)
    if requirement is None:
        near = difflib.get_close_matches(wanted, known.requirements, 1)
        hint = f"; did you mean {near[0]}?" if near else "; `slmconform list` shows all"
        raise CouldNotRun(f"no requirement is called {one!r}{hint}")
    check = load_checks().get(wanted)
    lines = [
        f"{requirement.id}  {requirement.title}",
        f"{requirement.keyword}, profile {requirement.profile}, since {requirement.since}, "
        f"{check.stage.value if check else 'no'} check",
        "",
        textwrap.fill(requirement.sentence, 80),
        "",
    ]
    rationale = prose(requirement.area, wanted)
    if rationale:
        lines += [rationale, ""]
    lines += [f"answered from  {SOURCES[requirement.source]}"]
    if check and check.needs:
        needs = textwrap.fill(", ".join(check.needs), 65).replace("\n", "\n" + " " * 15)
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
    return "\n\n".join(p if "```" in p or p.startswith("|") else textwrap.fill(p, 80) for p in kept)


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
