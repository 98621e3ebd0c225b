"""`slmconform explain` and `slmconform list` tell what the published text tells."""

from __future__ import annotations

import re

import pytest
from spec_documents import sections

from slmconform.cli import main
from slmconform.engine.examine import CouldNotRun
from slmconform.report.explain import LINK, SOURCES, explain, listing
from slmconform.standard.catalogue import catalogue

KNOWN = catalogue()


def letters(text: str) -> str:
    """Without white space, of which an explanation has other than a page."""
    return "".join(text.split())


def test_an_id_explains_its_sentence_and_its_whole_section():
    for one in sections():
        text, requirement = explain(one.id), KNOWN.requirements[one.id]
        assert text.startswith(f"{one.id}  {one.title}\n")
        assert f"{requirement.keyword}, profile {requirement.profile}" in text
        assert letters(requirement.sentence) in letters(text), one
        for paragraph in one.body.strip().split("\n\n")[1:]:
            assert letters(LINK.sub(r"\1", paragraph)) in letters(text), one
        assert SOURCES[requirement.source] in text
        assert f"slmconform check ./model --only {one.id}" in text


def test_an_explanation_says_its_sentence_once_and_fits_eighty_columns():
    for one in KNOWN.requirements.values():
        text = explain(one.id)
        assert letters(text).count(letters(one.sentence)) == 1
        assert max(map(len, text.split("\n"))) <= 80, text


def test_an_explanation_ends_where_the_next_requirement_begins():
    for one in KNOWN.requirements:
        named = re.findall(r"^SLM-[A-Z]{3}-\d{3} ", explain(one), re.MULTILINE)
        assert named == [f"{one} "]


@pytest.mark.parametrize("spelling", ["SLM-WGT-003", "slm-wgt-003", "wgt-003", "WGT-003"])
def test_the_spelling_of_an_id_does_not_matter(spelling: str):
    assert explain(spelling).startswith("SLM-WGT-003  weights are finite")


def test_an_unknown_id_suggests_the_nearest_one():
    with pytest.raises(CouldNotRun, match="did you mean SLM-WGT-00"):
        explain("SLM-WGT-030")
    with pytest.raises(CouldNotRun, match="slmconform list"):
        explain("weather")


def test_the_list_shows_each_requirement_once():
    text = listing(None)
    for one in KNOWN.requirements.values():
        assert len(re.findall(rf"^  {one.id}  {one.keyword} +{one.title}$", text, re.M)) == 1


def test_the_list_of_a_profile_shows_what_it_includes():
    for name, profile in KNOWN.profiles.items():
        shown = re.findall(r"SLM-[A-Z]{3}-\d{3}", listing(name))
        assert sorted(shown) == sorted(profile.ids)
    with pytest.raises(CouldNotRun, match="choose packaged, runnable, reproducible"):
        listing("perfect")


def test_the_command_line_prints_both(capsys):
    assert main(["explain", "inv-004"]) == 0
    assert "SLM-INV-004" in capsys.readouterr().out
    assert main(["list", "--profile", "packaged"]) == 0
    assert "SLM-DEP-005" in capsys.readouterr().out
    assert main(["explain", "SLM-INV-444"]) == 2
    assert "did you mean SLM-INV-" in capsys.readouterr().err
