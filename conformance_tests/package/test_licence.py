"""Licence expressions, recognised texts and model cards, without a manifest."""

from __future__ import annotations

import hashlib
import re
import time
import tomllib
from importlib.resources import files

import pytest
from package_builders import MIT

from slmconform.package import licence
from slmconform.package.folder import scan

TABLE = tomllib.loads(
    (files("slmconform.package") / "licences" / "recognised.toml").read_text("utf-8")
)
ROWS = {row["id"]: row for row in TABLE["licence"]}

# Short licences as they are published (SPDX list), without their title.
BSD_2 = """Redistribution and use in source and binary forms, with or without modification, are
permitted provided that the following conditions are met:
1. Redistributions of source code must retain the above copyright notice, this list of conditions
and the following disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of
conditions and the following disclaimer in the documentation and/or other materials provided with
the distribution.
{third}THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS
OR IMPLIED WARRANTIES ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER BE LIABLE FOR ANY
DIRECT DAMAGES, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE."""
THIRD = """3. Neither the name of the copyright holder nor the names of its contributors may be used
to endorse or promote products derived from this software without specific prior written permission.
"""
ISC = """Permission to use, copy, modify, and/or distribute this software for any purpose with or
without fee is hereby granted{kept}. THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL
WARRANTIES. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY DAMAGES."""
KEPT = """, provided that the above copyright notice and this permission notice appear in all
copies"""

TEXTS = {
    "MIT": MIT,
    "MIT-0": MIT.replace(", subject to the following conditions:", ".").replace(
        MIT[MIT.index("The above copyright notice") : MIT.index("THE SOFTWARE IS")], ""
    ),
    "Apache-2.0": licence.licence_text("Apache-2.0"),
    "BSD-2-Clause": BSD_2.format(third=""),
    "BSD-3-Clause": BSD_2.format(third=THIRD),
    "ISC": ISC.format(kept=KEPT),
    "0BSD": ISC.format(kept=""),
}


@pytest.mark.parametrize("name", TEXTS)
def test_published_texts_are_recognised_as_themselves_alone(name):
    assert licence.licence_of(TEXTS[name].encode(), "LICENSE").recognised == (name,)


@pytest.mark.parametrize("name", TEXTS)
def test_layout_and_encoding_do_not_matter(name):
    text = TEXTS[name].replace('"', "\u201c").replace("\n", "\r\n\t# ")
    for data in (text.encode(), text.upper().encode(), text.encode("utf-16")):
        assert licence.licence_of(data, "LICENSE").recognised == (name,)


@pytest.mark.parametrize("name", ROWS)
def test_phrases_tell_each_licence_from_every_other(name):
    text = ". ".join(ROWS[name]["phrases"])
    found = set(licence.licence_of(text.encode(), "LICENSE").recognised)
    assert found == {name}


def test_phrases_are_written_as_texts_are_read():
    for row in ROWS.values():
        for phrase in (*row["phrases"], *row.get("absent", ())):
            assert licence.normalised(phrase) == phrase


def test_table_ids_are_spdx_or_references():
    ids = [*ROWS, *TABLE["card"].values(), *TABLE["newer"]["licences"]]
    for one in ids:
        assert licence.parse(one).text in (one, f"{one}-only")


def test_own_words_leave_a_text_unrecognised():
    x11 = MIT + "Except as contained in this notice, the name of the holders shall not be used."
    assert licence.licence_of(x11.encode(), "LICENSE").recognised == ()
    advertising = BSD_2.format(third=THIRD) + "All advertising materials must say so."
    assert licence.licence_of(advertising.encode(), "LICENSE").recognised == ()


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 100, b"\xff\xfe\x00", b"%PDF-1.7\n\xe2\xe3\xcf\xd3"]
)
def test_bytes_that_are_no_text_are_read_as_nothing(data):
    assert licence.licence_of(data, "LICENSE").recognised == ()


@pytest.mark.parametrize(
    ("text", "canonical", "ids"),
    [
        ("mit", "MIT", ("MIT",)),
        ("MIT or apache-2.0", "MIT OR Apache-2.0", ("MIT", "Apache-2.0")),
        ("openmdw-1.0", "OpenMDW-1.0", ("OpenMDW-1.0",)),
        ("(OpenMDW-1.0 OR MIT) AND ISC", None, ("OpenMDW-1.0", "MIT", "ISC")),
        ("GPL-2.0-only WITH rsync-linking-exception", None, ("GPL-2.0-only",)),
        ("LicenseRef-gemma", "LicenseRef-gemma", ("LicenseRef-gemma",)),
        ("(" * 190 + "MIT" + ")" * 190, None, ("MIT",)),
        ("MIT OR MIT", "MIT OR MIT", ("MIT",)),
    ],
)
def test_expressions(text, canonical, ids):
    found = licence.parse(text)
    assert found.ids == ids
    assert found.text == (canonical or text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "MIT AND",
        "()",
        "(",
        "MIT/Apache-2.0",
        "AND",
        "MIT WITH MIT",
        "NONE",
        "MIT\x00",
        "a b",
        "OpenMDW-1.0 MIT",
        "MIT WITH OpenMDW-1.0",
        "(" * 400,
        "LicenseRef-",
        "LicenseRef-openrail++",
    ],
)
def test_what_is_no_expression_never_crashes(text):
    with pytest.raises(licence.InvalidLicence, match="not an SPDX expression"):
        licence.parse(text)


def test_card_ids_become_expressions():
    for stated, spdx in TABLE["card"].items():
        assert licence.from_card(stated.upper()) == spdx
    assert licence.from_card("apache-2.0") == "Apache-2.0"
    assert licence.from_card("cc-by-nc-4.0") == "CC-BY-NC-4.0"
    assert licence.from_card("My (own) licence!") == "LicenseRef-my-own-licence"


# What the hub lists as licences of models, besides `other` and `unknown`: those of the SPDX list,
# and families and licences of one's own, which have no id there.
LISTED = re.findall(
    r"\S+",
    """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda
cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0
cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0
epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0 lgpl-lr lppl-1.3c mit
mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 osl-3.0 pddl postgresql unlicense wtfpl zlib
""",
)
OUTSIDE = re.findall(
    r"\S+",
    """
apple-amlr apple-ascl bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m bsd cc
creativeml-openrail-m deepfloyd-if-license fair-noncommercial-research-license gemma gfdl gpl
grok2-community h-research intel-research lgpl llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
openrail openrail++
""",
)


@pytest.mark.parametrize("stated", LISTED + OUTSIDE)
def test_every_licence_of_the_hub_has_an_expression(tmp_path, stated):
    meant = licence.from_card(stated)
    assert licence.parse(meant).text == meant
    assert meant.startswith(licence.REFERENCE) == (stated in OUTSIDE)
    assert licence.agrees(stated, licence.parse(meant).ids)
    (tmp_path / "README.md").write_text(front(f"license: {stated}"))
    assert licence.inferred_licence(scan(tmp_path)) == meant


@pytest.mark.parametrize("stated", OUTSIDE)
def test_a_name_that_only_the_hub_has_is_told_what_to_write(stated):
    with pytest.raises(licence.InvalidLicence) as caught:
        licence.parse(stated)
    assert f"write {licence.from_card(stated)!r}" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "(" * 500_000 + "MIT" + ")" * 500_000,
        "MIT" + " OR MIT" * 140_000 + " OR",
        "MIT/" * 250_000,
        "x" * 10**6,
        " " * 10**6,
        "MIT AND " * 100_000,
        "\u202e" * 10**6,
    ],
    ids=lambda text: ascii(text[:8]),
)
def test_enormous_texts_are_refused_in_time(text):
    start = time.monotonic()
    with pytest.raises(licence.InvalidLicence) as caught:
        licence.parse(text)
    assert time.monotonic() - start < 10
    assert len(str(caught.value)) < 1000
    assert licence.parse(licence.from_card(text)).text


def front(text: str) -> str:
    return f"---\n{text}\n---\n# Title\n"


@pytest.mark.parametrize(
    ("text", "stated", "inferred"),
    [
        (front("license: apache-2.0"), ("apache-2.0",), "Apache-2.0"),
        (front('license: "mit"  # as asked'), ("mit",), "MIT"),
        (front("license: [mit, apache-2.0]"), ("mit", "apache-2.0"), "MIT OR Apache-2.0"),
        (front("license: [mit, isc, mit]"), ("mit", "isc"), "MIT OR ISC"),
        (front("license:\n  - mit\n- isc\ntags:\n- a"), ("mit", "isc"), "MIT OR ISC"),
        (front("license: other\nlicense_name: x-1"), ("x-1",), "LicenseRef-x-1"),
        (front("license: gemma"), ("gemma",), "LicenseRef-gemma"),
        (front("license: unknown"), (), None),
        (front("license: no"), ("no",), "LicenseRef-no"),
        (front("a:\n  license: mit"), (), None),
        ("\ufeff" + front("license: mit").replace("\n", "\r\n"), ("mit",), "MIT"),
        ("---\nlicense: mit\n", (), None),
        ("license: mit\n", (), None),
        ("", (), None),
        (front("license: " + "x" * 10**6), (), None),
    ],
)
def test_cards(tmp_path, text, stated, inferred):
    (tmp_path / "README.md").write_bytes(text.encode())
    folder = scan(tmp_path)
    assert licence.card_licences(licence.read(folder).card) == stated
    assert licence.inferred_licence(folder) == inferred


def test_without_a_card_the_only_recognised_text_is_inferred(tmp_path):
    (tmp_path / "LICENSE").write_text(MIT)
    assert licence.inferred_licence(scan(tmp_path)) == "MIT"
    (tmp_path / "NOTICE").write_text(TEXTS["ISC"])
    assert licence.inferred_licence(scan(tmp_path)) == "MIT"
    (tmp_path / "COPYING").write_text(TEXTS["ISC"])
    assert licence.inferred_licence(scan(tmp_path)) is None


def test_bundled_texts_are_whole():
    text = licence.licence_text("Apache-2.0")
    assert text is not None
    assert licence.licence_of(text.encode(), "x").recognised == ("Apache-2.0",)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    for other in ("MIT", "LicenseRef-gemma", "../recognised", "nothing"):
        assert licence.licence_text(other) is None


def test_files_that_hold_licences(tmp_path):
    names = ["LICENSE", "licence.md", "LICENSE-MIT", "LICENSE_GEMMA", "UNLICENSE", "COPYING.LESSER"]
    names += ["NOTICE", "LICENSES/MIT.txt"]
    others = [
        "license.py",
        "licensed_data.csv",
        "README.md",
        "sub/LICENSE",
        "license.json",
        "a.txt",
    ]
    for name in names + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert sorted(t.path for t in licence.read(scan(tmp_path)).texts) == sorted(names)


def test_files_that_hold_notices(tmp_path):
    here = ["NOTICE", "Notice.txt", "third-party-notices.md", "LICENSES/x.notice"]
    others = ["LICENSE", "notice.py", "notices.json", "sub/NOTICE", "README.md"]
    for number, name in enumerate(here + others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"Words: {number}!", "utf-16" if number == 1 else "utf-8")
    found = licence.notices(scan(tmp_path))
    assert sorted(found.replace("words ", "").split()) == ["0", "1", "2", "3"]
