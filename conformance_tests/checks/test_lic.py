"""LIC: what is legal and what findings say; each defect is a row of the hostile catalogue."""

from __future__ import annotations

import subprocess
import sys

import pytest
from package_builders import MIT, judge, make_package
from tokenizer_builders import as_files, failures, fast

import slmconform
from slmconform.engine.registry import Nonconformance, NotApplicable
from slmconform.package.licence import licence_text
from slmconform.report.text import View, render
from slmconform.standard.report import Outcome

APACHE = licence_text("Apache-2.0") or ""
OWN = "You may run this model at home. You may not sell it. There is no warranty of any kind."
BSD = """Redistribution and use in source and binary forms, with or without modification, are
permitted provided that the following conditions are met: 1. Redistributions of source code must
retain the above copyright notice. 2. Redistributions in binary form must reproduce the above
copyright notice in the documentation. IN NO EVENT SHALL THE HOLDER BE LIABLE FOR ANY DAMAGES, EVEN
IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE."""
LLAMA = (
    "META LLAMA 3 COMMUNITY LICENSE AGREEMENT\n“Llama Materials” means ...\n"
    "2. Additional Commercial Terms. If the monthly active users ...\n" + OWN
)


LLAMA_NOTICE = (
    "Meta Llama 3 is licensed under the Meta Llama 3 Community License, Copyright © Meta "
    "Platforms, Inc. All Rights Reserved."
)


def card(text: str) -> dict[str, str]:
    return {"README.md": f"---\n{text}\n---\n# A model\n"}


def package(tmp_path, licence, files, base="", relation="finetune"):
    """A package whose LICENSE is replaced: None leaves none."""
    replace = {'license = "MIT"': f'license = "{licence}"'}
    if base:
        of = f'name = "b"\nrelation = "{relation}"\nlicense = "{base}"\n'
        replace["[loader]"] = f"[model.base]\n{of}\n[loader]"
    tables = {"tokenizer.json": fast(), "LICENSE": ""} | files
    folder = make_package(tmp_path, replace=replace, files=as_files(tables))
    if tables["LICENSE"] == "":
        (folder / "LICENSE").unlink()
    return folder


# name -> (declared, files, licence of the base model)
LEGAL = {
    "mit": ("MIT", {"LICENSE": MIT}, ""),
    "apache, British name, other case": ("apache-2.0", {"LICENCE.txt": APACHE}, ""),
    "apache with a notice that quotes others": (
        "Apache-2.0",
        {"LICENSE": APACHE, "NOTICE": "It holds parts under this licence:\n" + MIT},
        "",
    ),
    "apache with an exception": ("Apache-2.0 WITH LLVM-exception", {"LICENSE": APACHE}, ""),
    "either of two": ("MIT OR Apache-2.0", {"LICENSE-MIT": MIT, "LICENSE-APACHE": APACHE}, ""),
    "both in one file": ("MIT AND Apache-2.0", {"COPYING": APACHE + MIT}, ""),
    "reuse folder": ("MIT", {"LICENSES/MIT.txt": MIT}, ""),
    "own licence": ("LicenseRef-home", {"LICENSE.md": OWN}, ""),
    "own licence that a hub knows": (
        "LicenseRef-llama3",
        {"LICENSE": LLAMA, "NOTICE": LLAMA_NOTICE} | card("license: llama3"),
        "",
    ),
    "hub licence under the author's name for it": (
        "LicenseRef-Meta-Llama-3-Community",
        {"LICENSE": LLAMA, "NOTICE": LLAMA_NOTICE} | card("license: llama3"),
        "",
    ),
    "own licence built on a known one": ("LicenseRef-mit-plus", {"LICENSE": MIT + OWN * 40}, ""),
    "own and known together": (
        "MIT AND LicenseRef-data",
        {"LICENSE": MIT, "LICENSE.data": OWN},
        "",
    ),
    "text of the base model beside": (
        "MIT",
        {"LICENSE": MIT, "LICENSE.base": APACHE},
        "apache-2.0",
    ),
    "text of the base model in the same file": ("MIT", {"LICENSE": MIT + APACHE}, "apache-2.0"),
    "own licence that holds the text of the base model's": (
        "LicenseRef-home",
        {"LICENSE": OWN * 20 + APACHE},
        "apache-2.0",
    ),
    "licence of the base model by the author's name for it": (
        "LicenseRef-DeepSeek-License",
        {"LICENSE": OWN},
        "deepseek",
    ),
    "licence of the base model by its full name": (
        "Apache-2.0",
        {"LICENSE": APACHE},
        "Apache License 2.0",
    ),
    "licence that the base's allows in its place": (
        "GPL-3.0-only",
        {"LICENSE": OWN * 100},
        "GPL-2.0-or-later",
    ),
    "non-commercial like its base": (
        "CC-BY-NC-SA-4.0",
        {"LICENSE": OWN * 100},
        "cc-by-nc-4.0",
    ),
    "licence of the base model added": (
        "Apache-2.0 AND LicenseRef-qwen-research",
        {
            "LICENSE": APACHE,
            "LICENSE.qwen": OWN,
            "NOTICE": "Qwen is licensed under the Qwen RESEARCH LICENSE AGREEMENT, (c) Alibaba.",
        },
        "qwen-research",
    ),
    "choice that the base leaves": ("MIT", {"LICENSE": MIT}, "MIT OR GPL-3.0-only"),
    "base model under a licence that nobody knows": ("MIT", {"LICENSE": MIT}, "secret"),
    "own licence on a non-commercial base": ("LicenseRef-home", {"LICENSE": OWN}, "cc-by-nc-4.0"),
    "newer than the parser": ("OpenMDW-1.0", {"LICENSE": OWN * 4}, ""),
    "a listed licence that is not recognised": ("AFL-3.0", {"LICENSE": OWN * 4}, ""),
    "card agrees": ("MIT", {"LICENSE": MIT} | card("license: mit"), ""),
    "card agrees, as a list": ("MIT", {"LICENSE": MIT} | card("license:\n- mit"), ""),
    "card names one of two": (
        "MIT OR Apache-2.0",
        {"LICENSE": APACHE + MIT} | card("license: [apache-2.0]"),
        "",
    ),
    "card names the family": ("BSD-2-Clause", {"LICENSE": BSD} | card("license: bsd"), ""),
    "card says other": (
        "LicenseRef-home",
        {"LICENSE": OWN} | card("license: other\nlicense_name: home"),
        "",
    ),
    "card without a licence": ("MIT", {"LICENSE": MIT} | card("language: en"), ""),
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal_licences_pass(tmp_path, name):
    declared, files, base = LEGAL[name]
    assert failures(package(tmp_path, declared, files, base)) == {}


# L04, L05, L11
@pytest.mark.parametrize(
    ("declared", "fix"),
    [
        ("MIT AND", "join licence ids with AND, OR and WITH"),
        ("()", "join licence ids with AND, OR and WITH"),
        ("MIT/Apache-2.0", "join alternatives as in 'MIT OR Apache-2.0'"),
        ("other", "name the licence as 'LicenseRef-<name>'"),
        ("openrail", "write 'LicenseRef-openrail'"),
        ("openrail++", "write 'LicenseRef-openrail-plus-plus'"),
        ("llama3", "write 'LicenseRef-llama3'"),
        ("gemma", "write 'LicenseRef-gemma'"),
        ("cc", "write 'LicenseRef-cc'"),
        ("bsd", "write 'LicenseRef-bsd'"),
        ("Apache 2.0", "write 'Apache-2.0'"),
    ],
)
def test_what_is_no_expression_fails_with_what_to_write(tmp_path, declared, fix):
    folder = package(tmp_path, declared, {"LICENSE": OWN})
    assert failures(folder) == {"SLM-LIC-001": "not-spdx"}
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-LIC-001", folder)
    assert fix in caught.value.fix


def test_without_a_statement_in_the_card_the_question_falls_away(tmp_path):
    with pytest.raises(NotApplicable, match=r"README\.md"):
        judge("SLM-LIC-004", package(tmp_path, "MIT", {"LICENSE": MIT}))


def test_an_unrecognised_text_decides_nothing(tmp_path):
    with pytest.raises(NotApplicable, match="recognised"):
        judge("SLM-LIC-003", package(tmp_path, "LicenseRef-home", {"LICENSE": OWN}))


def test_missing_text_message_says_which_licence_and_where_to_put_it(tmp_path):
    with pytest.raises(Nonconformance) as caught:
        judge("SLM-LIC-002", package(tmp_path, "MIT AND Apache-2.0", {"LICENSE": MIT}))
    assert caught.value.got == "no text of Apache-2.0 (there are LICENSE: MIT)"
    assert caught.value.fix.startswith("add LICENSES/Apache-2.0.txt")


def finding(requirement, folder):
    with pytest.raises(Nonconformance) as caught:
        judge(requirement, folder)
    return caught.value


def test_a_conflict_names_the_clause_its_source_and_what_to_declare(tmp_path):
    found = finding(
        "SLM-LIC-005", package(tmp_path, "MIT OR Apache-2.0", {"LICENSE": MIT}, "cc-by-nc-4.0")
    )
    assert found.code == "clause-not-carried"
    assert found.got == (
        "MIT OR Apache-2.0, without non-commercial of CC-BY-NC-4.0 (CC BY-NC 4.0, 2(a)(1))"
    )
    assert "no legal advice" in found.why
    assert "(MIT OR Apache-2.0) AND CC-BY-NC-4.0" in found.fix


def test_without_leave_nothing_built_on_a_base_without_derivatives_can_be_shared(tmp_path):
    found = finding("SLM-LIC-005", package(tmp_path, "MIT", {"LICENSE": MIT}, "cc-by-nd-4.0"))
    assert found.fix.startswith("ask the authors")


UNKNOWN = {
    "base that is not in the table": ("MIT", "secret", "finetune"),
    "family name for the base": ("MIT", "openrail", "finetune"),
    "base that is no expression": ("MIT", "MIT AND", "finetune"),
    "own licence on a base with a clause": ("LicenseRef-home", "gemma", "finetune"),
    "relation that the licence does not speak of": ("MIT", "cc-by-nc-4.0", "distilled"),
    "clause of which the table is not sure": ("MIT", "mpl-2.0", "finetune"),
    "exception that may lift the clause": (
        "MIT",
        "GPL-3.0-only WITH GCC-exception-3.1",
        "finetune",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_unknown_is_not_judged_and_never_shown_as_compatible(tmp_path, name):
    declared, base, relation = UNKNOWN[name]
    folder = package(tmp_path, declared, {"LICENSE": OWN}, base, relation)
    with pytest.raises(NotApplicable, match="not judged, and not known to be compatible"):
        judge("SLM-LIC-005", folder)


def test_an_unknown_licence_of_the_base_leaves_the_verdict_to_the_others(tmp_path):
    report = slmconform.check(
        package(tmp_path, "MIT", {"LICENSE": MIT}, "secret"), profile="packaged", only=["LIC"]
    )
    outcomes = {one.id: (one.outcome, one.detail) for one in report.results}
    for requirement in ("SLM-LIC-005", "SLM-LIC-006"):
        outcome, reason = outcomes[requirement]
        assert outcome is Outcome.NOT_APPLICABLE
        assert "every clause of LicenseRef-secret" in reason
    assert Outcome.INCONCLUSIVE not in {outcome for outcome, _ in outcomes.values()}
    text = " ".join(render(report, View()).split())
    assert "n/a: LIC-005 not judged, and not known to be compatible" in text
    assert "n/a: LIC-006 not judged" in text
    assert "LIC-004" not in text  # there is no card: that is no news


def test_a_pass_says_what_is_carried_and_what_is_shipped(tmp_path):
    files = {"LICENSE": OWN * 20}
    folder = package(tmp_path, "CC-BY-NC-4.0", files, "cc-by-nc-4.0")
    assert judge("SLM-LIC-005", folder) == "CC-BY-NC-4.0 carries non-commercial of CC-BY-NC-4.0"
    folder = package(tmp_path / "free", "MIT", {"LICENSE": MIT + APACHE}, "apache-2.0")
    assert judge("SLM-LIC-005", folder) == "MIT carries nothing that Apache-2.0 propagates"
    assert judge("SLM-LIC-006", folder) == "licence-copy of Apache-2.0"


def test_a_missing_notice_is_quoted_and_a_missing_text_is_named(tmp_path):
    found = finding("SLM-LIC-006", package(tmp_path, "LicenseRef-llama3", {"LICENSE": LLAMA}))
    assert "'Meta Llama 3 is licensed under the Meta Llama 3 Community License'" in found.got
    assert "Meta Llama 3 Community License, 1.b.iii" in found.want
    found = finding("SLM-LIC-006", package(tmp_path / "b", "MIT", {"LICENSE": MIT}, "apache-2.0"))
    assert found.code == "no-copy"
    assert "Apache License 2.0, 4(a)" in found.want
    assert found.fix.startswith("add LICENSES/Apache-2.0.txt")


def test_one_text_is_not_that_of_two_licences(tmp_path):
    folder = package(tmp_path, "LicenseRef-home", {"LICENSE": OWN * 20}, "ncsa")
    assert failures(folder) == {"SLM-LIC-006": "no-copy"}


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("Llama-3-mine", True),
        ("llama3_mine", True),
        ("me/Llama 3 mine", True),
        ("Meta-Llama-3-8B-mine", True),
        ("Llama-mine", False),
        ("mine-Llama-3", False),
        ("tiny-llama", False),
    ],
)
def test_the_name_begins_as_the_licence_of_the_base_asks(tmp_path, name, good):
    files = {"LICENSE": LLAMA, "NOTICE": LLAMA_NOTICE}
    folder = package(tmp_path, "LicenseRef-llama3", files, "llama3")
    manifest = (folder / "slm.toml").read_text().replace('"tiny-llama"', f'"{name}"')
    (folder / "slm.toml").write_text(manifest)
    assert failures(folder) == ({} if good else {"SLM-LIC-006": "other-name"})


def test_a_quantised_model_keeps_its_name(tmp_path):
    files = {"LICENSE": LLAMA, "NOTICE": LLAMA_NOTICE}
    assert failures(package(tmp_path, "LicenseRef-llama3", files, "llama3", "quantized")) == {}


def test_no_base_and_a_listed_licence_do_not_read_the_table(tmp_path):
    folder = package(tmp_path, "MIT", {"LICENSE": MIT})
    code = (
        "import sys, slmconform; report = slmconform.check(sys.argv[1], profile='packaged')\n"
        "assert report.exit_status in (0, 3), report\n"
        "assert 'slmconform.package.duties' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
