"""LIC: expression, text and card; each defect fails in exactly one requirement."""

from __future__ import annotations

import pytest
from package_builders import MIT, judge, make_package
from tokenizer_builders import as_files, failures, fast

from slmconform.engine.registry import Nonconformance, NotApplicable
from slmconform.package.licence import licence_text

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


def card(text: str) -> dict[str, str]:
    return {"README.md": f"---\n{text}\n---\n# A model\n"}


def package(tmp_path, licence, files, base=""):
    """A package whose LICENSE is replaced: None leaves none."""
    replace = {'license = "MIT"': f'license = "{licence}"'}
    if base:
        table = f'[model.base]\nname = "b"\nrelation = "finetune"\nlicense = "{base}"\n\n[loader]'
        replace["[loader]"] = table
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
        {"LICENSE": LLAMA} | card("license: llama3"),
        "",
    ),
    "hub licence under the author's name for it": (
        "LicenseRef-Meta-Llama-3-Community",
        {"LICENSE": LLAMA} | card("license: llama3"),
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


# name -> (declared, files, requirement, code)
DEFECTS = {
    "L01 no text at all": ("MIT", {}, "SLM-LIC-002", "no-text"),
    "L02 an identifier without its text": (
        "MIT",
        {"LICENSE": "SPDX-License-Identifier: MIT\n"},
        "SLM-LIC-002",
        "no-text",
    ),
    "L02 a pointer to the text": (
        "Apache-2.0",
        {
            "LICENSE": "Licensed under the Apache License, Version 2.0 (the License). See "
            "http://www.apache.org/licenses/LICENSE-2.0 for its text. " * 3
        },
        "SLM-LIC-002",
        "no-text",
    ),
    "L02 one text for two licences": (
        "MIT AND Apache-2.0",
        {"LICENSE": MIT},
        "SLM-LIC-002",
        "no-text",
    ),
    "L02 an own licence by its name": (
        "LicenseRef-home",
        {"LICENSE": "LicenseRef-home"},
        "SLM-LIC-002",
        "no-text",
    ),
    "L02 a notice alone": ("MIT", {"NOTICE": OWN * 9}, "SLM-LIC-002", "no-text"),
    "L02 the text in a source file": ("MIT", {"license.json": "{}"}, "SLM-LIC-002", "no-text"),
    "L03 the text of another licence": ("MIT", {"LICENSE": APACHE}, "SLM-LIC-003", "other-licence"),
    "L03 own licence with a known text": (
        "LicenseRef-home",
        {"LICENSE": MIT},
        "SLM-LIC-003",
        "other-licence",
    ),
    "L03 a known own licence with another's text": (
        "LicenseRef-gemma",
        {"LICENSE": LLAMA},
        "SLM-LIC-003",
        "other-licence",
    ),
    "L10 two texts disagree": (
        "MIT",
        {"LICENSE": MIT, "COPYING": APACHE},
        "SLM-LIC-003",
        "other-licence",
    ),
    "the card says another": (
        "MIT",
        {"LICENSE": MIT} | card("license: apache-2.0"),
        "SLM-LIC-004",
        "card-disagrees",
    ),
    "the card says other": (
        "MIT",
        {"LICENSE": MIT} | card("license: other\nlicense_name: secret"),
        "SLM-LIC-004",
        "card-disagrees",
    ),
    "declared and card changed together": (
        "MIT",
        {"LICENSE": APACHE} | card("license: apache-2.0"),
        "SLM-LIC-003",
        "other-licence",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_fails_in_exactly_one_requirement(tmp_path, name):
    declared, files, requirement, code = DEFECTS[name]
    assert failures(package(tmp_path, declared, files)) == {requirement: code}


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
