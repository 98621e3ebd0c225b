"""A failure of the last check is waived, and the next check says so."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cli_runs import here
from own_code import own_code

from slmconform.engine.waivers import now
from slmconform.recording.record import RecordOptions, record

WHY = ("--reason", "answers of the old kernel are good enough", "--issue", "https://example.org/7")
CHECK = ("--trust-code", "--quiet")


@pytest.fixture(scope="module")
def broken(tmp_path_factory, server):
    """A recorded package whose outputs were changed since: SLM-REF-001 fails."""
    folder = own_code(tmp_path_factory.mktemp("broken") / "own")
    record(folder, RecordOptions(trust_code=True), server=server)
    code = folder / "modeling.py"
    code.write_text(code.read_text("utf-8").replace("self.inner(x)", "self.inner(x) + 1e-3"))
    return folder


@pytest.fixture
def adopter(tmp_path, monkeypatch):
    """The repository that one stands in, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_waive_writes_what_the_next_check_accepts(broken, adopter):
    assert here("check", broken, *CHECK).status == 1
    said = here("waive", "REF-001", *WHY)
    assert said.status == 0, said
    assert "waives SLM-REF-001 where it fails by float64-differs, until" in said.out
    text = (adopter / "slm-waivers.toml").read_text("utf-8")
    assert 'device = "cpu"' in text
    assert 'model = "tiny-linear"' in text
    said = here("check", broken, "--trust-code", "--format", "json")  # finds the file by itself
    report = json.loads(said.out)
    outcomes = {r["id"]: r["outcome"] for r in report["results"]}
    assert outcomes["SLM-REF-001"] == "waived"
    assert outcomes["SLM-REF-002"] == "pass"  # what needs the waived one is asked by itself
    assert [use["state"] for use in report["waivers"]] == ["applied"]
    said = here("check", broken, *CHECK)
    assert said.status == 0, said
    assert "verdict: conformant with waivers" in said.out
    assert "waived until" in said.out
    assert "(https://example.org/7)" in " ".join(said.out.split())


def test_a_waiver_that_is_no_longer_needed_fails_the_run(adopter, tmp_path, server):
    folder = own_code(tmp_path / "own")
    record(folder, RecordOptions(trust_code=True), server=server)
    (adopter / "slm-waivers.toml").write_text(waiver("SLM-REF-001", "float64-differs"))
    said = here("check", folder, *CHECK)
    assert said.status == 1
    assert "waiver of SLM-REF-001 float64-differs: stale: the requirement holds" in said.out
    assert "not conformant: a waiver has to be removed or corrected" in said.out


def waiver(one, code):
    return (
        f'spec = "1.0"\n[[waiver]]\nid = "{one}"\ncode = "{code}"\n'
        'reason = "it was once so"\nissue = "https://example.org/7"\n'
        f"expires = {now() + timedelta(days=5)}\n"
    )


def test_what_a_package_waives_for_itself_is_not_read(broken, adopter, monkeypatch):
    monkeypatch.chdir(broken)
    text = waiver("SLM-REF-001", "float64-differs")
    (broken / "slm-waivers.toml").write_text(text)
    said = here("check", ".", *CHECK, "--only", "REF-001")
    assert said.status == 1
    assert "lies in the package and is not read; --waivers names it" in said.err
    said = here("check", ".", *CHECK, "--only", "REF-001", "--waivers", "slm-waivers.toml")
    assert said.status == 3  # waived, and the rest was left out
    (broken / "slm-waivers.toml").unlink()


REFUSED = {
    "what passes": (("DET-001", *WHY), "SLM-DET-001 is pass in the report"),
    "what is not known": (("REF-091", *WHY), "did you mean SLM-REF-001?"),
    "the profile packaged": (("WGT-001", *WHY), "of which nothing can be waived"),
    "a date that is past": (("REF-001", *WHY, "--expires", "2020-01-01"), "a day from"),
    "a date beyond a year": (("REF-001", *WHY, "--expires", "2999-01-01"), "at most a year"),
    "an issue that is none": (("REF-001", *WHY[:2], "--issue", "soon"), "https://"),
    "a report that is none": (("REF-001", *WHY, "--report", "slm.toml"), "No such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_waived_is_one_sentence_and_writes_nothing(broken, adopter, name):
    words, sentence = REFUSED[name]
    here("check", broken, *CHECK, "--only", "REF-001")
    said = here("waive", *words)
    assert said.status == 2
    assert sentence in " ".join(said.err.split())
    assert "Traceback" not in said.all
    assert not (adopter / "slm-waivers.toml").exists()


def test_without_a_check_there_is_nothing_to_waive(adopter):
    said = here("waive", "REF-001", *WHY)
    assert said.status == 2
    assert "no check is remembered" in said.err


@pytest.mark.parametrize("missing", ["--reason", "--issue"])
def test_reason_and_issue_have_to_be_given(adopter, missing):
    words = list(WHY)
    del words[words.index(missing) : words.index(missing) + 2]
    said = here("waive", "REF-001", *words)
    assert said.status == 2
    assert f"{missing}" in said.err


def test_comments_and_order_of_the_file_are_kept(broken, adopter):
    before = '# ours\nspec = "1.0"  # of the standard\n'
    (adopter / "slm-waivers.toml").write_text(before)
    here("check", broken, *CHECK)
    assert here("waive", "REF-001", *WHY).status == 0
    assert (adopter / "slm-waivers.toml").read_text().startswith(before)


def test_a_broken_file_is_not_added_to(broken, adopter):
    (adopter / "slm-waivers.toml").write_text("spec = ")
    said = here("check", broken, *CHECK)
    assert said.status == 2
    assert "slm-waivers.toml:1:" in said.err
    said = here("check", broken, *CHECK, "--waivers", "/dev/null", "--only", "REF-001")
    assert said.status == 2  # an empty file names no version
    assert "spec: the key is missing" in said.err
