"""Catalogue, pages and checks say the same, looked at from every side."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter

import pytest
from spec_documents import SPEC, pages, sections

from slmconform.engine.plan import load_checks
from slmconform.engine.registry import Stage
from slmconform.standard.catalogue import SPEC_VERSION, catalogue

KNOWN = catalogue()
REQUIREMENTS = list(KNOWN.requirements.values())
SECTIONS = sections()
CHECKS = load_checks()
KEYWORD = re.compile(r"\b(MUST NOT|MUST|SHOULD NOT|SHOULD|MAY|SHALL NOT|SHALL|REQUIRED)\b")
ORDER = list(KNOWN.profiles)


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def profile_of(one: str) -> int:
    return ORDER.index(KNOWN.requirements[one].profile)


def test_requirements_are_well_formed():
    for one in REQUIREMENTS:
        assert re.fullmatch(r"SLM-[A-Z]{3}-\d{3}", one.id), one
        assert one.area in KNOWN.areas, one
        assert one.profile in KNOWN.profiles, one
        assert re.fullmatch(r"\d+\.\d+", one.since), one
        assert version(one.since) <= version(SPEC_VERSION), one
        assert one.source in ("files", "manifest", "evidence"), one
        assert re.fullmatch(r"\S.{,58}[^.\s]", one.title), one


def test_a_sentence_holds_its_keyword_and_no_other():
    for one in REQUIREMENTS:
        assert set(KEYWORD.findall(one.sentence)) == {one.keyword}, one
        assert re.fullmatch(r"[A-Z].+\.", one.sentence), one


def test_ids_are_in_the_order_of_areas_and_numbers_without_gaps():
    expected = [
        f"SLM-{area}-{number:03}"
        for area in KNOWN.areas
        for number in range(1, 1 + sum(one.area == area for one in REQUIREMENTS))
    ]
    assert [one.id for one in REQUIREMENTS] == expected


def test_sentences_and_titles_are_unique():
    assert len({one.sentence for one in REQUIREMENTS}) == len(REQUIREMENTS)
    assert len({one.title for one in REQUIREMENTS}) == len(REQUIREMENTS)


def test_the_pages_hold_every_requirement_once_in_order_and_no_other():
    assert [(one.id, one.title) for one in SECTIONS] == [
        (one.id, one.title) for one in REQUIREMENTS
    ]


def test_a_section_quotes_the_sentence_and_nothing_else():
    for one in SECTIONS:
        assert one.quoted == [KNOWN.requirements[one.id].sentence], one
        assert one.page == f"{KNOWN.requirements[one.id].area.lower()}.md", one


def test_a_section_says_why_how_and_what_is_allowed():
    for one in SECTIONS:
        paragraphs = one.body.strip().split("\n\n")
        assert paragraphs[0].startswith("> "), one
        prose = [p for p in paragraphs[1:] if not p.startswith("```")]
        assert len(prose) == 3, one
        assert [p.startswith("Allowed") for p in prose] == [False, False, True], one


def test_fences_of_sections_are_short_and_can_be_cut_out_by_explain():
    for one in SECTIONS:
        for fence in re.findall(r"^```[^\n]*\n(.*?)^```$", one.body, re.MULTILINE | re.DOTALL):
            assert not re.search(r"^(#|$)", fence.removesuffix("\n"), re.MULTILINE), one
            assert fence.count("\n") <= 8, one


@pytest.mark.parametrize(("area", "text"), pages().items(), ids=KNOWN.areas)
def test_a_page_has_no_normative_word_outside_a_quoted_sentence(area: str, text: str):
    assert text.startswith(f"# {area}: {KNOWN.areas[area].lower()}\n")
    rest = "\n".join(line for line in text.split("\n") if not line.startswith("> "))
    assert KEYWORD.findall(rest) == []


@pytest.mark.parametrize("page", ["README.md", *(f"{a.lower()}.md" for a in KNOWN.areas)])
def test_links_and_ids_of_a_page_lead_somewhere(page: str):
    text = (SPEC / page).read_text("utf-8")
    assert set(re.findall(r"SLM-[A-Z]{3}-\d{3}", text)) <= KNOWN.requirements.keys()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        linked = (SPEC / file if file else SPEC / page).read_text("utf-8")
        headings = re.findall(r"^#+ (.+)$", linked, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}
        assert not anchor or anchor in anchors, target


def test_the_first_page_links_every_area():
    text = (SPEC / "README.md").read_text("utf-8")
    for code, title in KNOWN.areas.items():
        assert f"[{title.lower()}]({code.lower()}.md)" in text


def test_requirements_and_checks_are_the_same_ids():
    assert sorted(CHECKS) == sorted(KNOWN.requirements)


def test_a_check_runs_where_its_profile_says():
    for one in CHECKS.values():
        known = KNOWN.requirements[one.id]
        # data files and variants are read without the model, in the profile that declares them
        both = known.profile == "evaluated"
        static = known.profile == "packaged"
        assert both or (one.stage is Stage.STATIC) is static, one


def test_a_check_lives_in_the_module_of_its_area():
    for one in CHECKS.values():
        module = one.function.__module__.removeprefix("slmconform.checks.")
        assert module.split("_")[0] == KNOWN.requirements[one.id].area.lower(), one
        assert one.title.endswith("."), one


def test_a_check_needs_nothing_of_a_later_profile():
    for one in CHECKS.values():
        assert len(set(one.needs)) == len(one.needs), one
        assert all(profile_of(need) <= profile_of(one.id) for need in one.needs), one


def test_a_check_is_blocked_by_mandatory_requirements_only():
    for one in CHECKS.values():
        assert all(KNOWN.requirements[need].mandatory for need in one.needs), one


def test_prerequisites_have_an_order():
    rows = {one.id: one.needs for one in CHECKS.values()}
    assert len(tuple(TopologicalSorter(rows).static_order())) == len(CHECKS)
