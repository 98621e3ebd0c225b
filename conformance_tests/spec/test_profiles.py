"""Profiles are cumulative lists, and a digest names the list and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from typing import get_args

from spec_documents import SPEC

from slmconform.standard.catalogue import Profile, catalogue
from slmconform.standard.manifest import Manifest

KNOWN = catalogue()
PROFILES = list(KNOWN.profiles.values())


def test_each_profile_adds_to_the_one_before():
    for lower, upper in pairwise(PROFILES):
        assert upper.ids[: len(lower.ids)] == lower.ids
        assert len(upper.ids) > len(lower.ids)


def test_a_profile_adds_exactly_the_requirements_that_name_it():
    before: tuple[str, ...] = ()
    for profile in PROFILES:
        added = [one.id for one in KNOWN.requirements.values() if one.profile == profile.name]
        assert profile.ids == (*before, *added)
        before = profile.ids


def test_the_highest_profile_holds_every_requirement_once():
    assert sorted(PROFILES[-1].ids) == sorted(KNOWN.requirements)


def test_the_manifest_can_claim_each_profile_and_no_other():
    assert list(get_args(Manifest.model_fields["profile"].annotation)) == list(KNOWN.profiles)


def test_profiles_of_the_first_page_are_those_of_the_catalogue():
    text = (SPEC / "README.md").read_text("utf-8")
    for profile in PROFILES:
        assert f"| `{profile.name}` | {profile.proves} |" in text


def test_the_digest_changes_with_the_list():
    digests = {profile.digest for profile in PROFILES}
    assert len(digests) == len(PROFILES)
    for profile in PROFILES:
        for shorter in (profile.ids[1:], profile.ids[:-1]):
            assert replace(profile, ids=shorter).digest != profile.digest
        assert replace(profile, ids=(*profile.ids, "SLM-PKG-999")).digest != profile.digest


def test_the_digest_changes_with_nothing_else():
    for profile in PROFILES:
        other = Profile("other", "something else", "nothing", profile.ids[::-1])
        assert other.digest == profile.digest


def test_the_digest_is_the_one_that_the_first_page_defines():
    for profile in PROFILES:
        text = "[" + ", ".join(json.dumps(one) for one in sorted(profile.ids)) + "]"
        assert profile.digest == hashlib.sha256(text.encode("ascii")).hexdigest()
