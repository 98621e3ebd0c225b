"""Licences that are missing, contradict each other, are no licences, or lose what the base asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hostile_row import Row
from package_builders import MIT, make_package
from tokenizer_builders import fast

from slmconform.package.licence import licence_text

APACHE = licence_text("Apache-2.0") or ""
OWN = "You may run this model at home. You may not sell it. There is no warranty of any kind. " * 4
LLAMA = "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT “Llama Materials” 2. Additional Commercial Terms. "
NOTICE = "Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms."
GEMMA = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma"


def package(
    declared: str = "MIT",
    *,
    base: str = "",
    relation: str = "finetune",
    name: str = "tiny-llama",
    card: str = "",
    **texts: str | bytes,
) -> Callable[[Path], object]:
    """A builder of a package under a licence; ``texts`` are files, `__` standing for a slash."""
    replace = {'license = "MIT"': f"license = {json.dumps(declared)}", '"tiny-llama"': f'"{name}"'}
    if base:
        table = f'name = "base"\nrelation = "{relation}"\nlicense = {json.dumps(base)}\n'
        replace["[loader]"] = f"[model.base]\n{table}\n[loader]"
    files: dict[str, str | bytes] = {"tokenizer.json": json.dumps(fast())}
    files |= {path.replace("__", "/"): text for path, text in texts.items()}
    if card:
        files["README.md"] = f"---\n{card}\n---\n# A model\n"

    def build(folder: Path) -> None:
        make_package(folder, replace=replace, files=files)
        if "LICENSE" not in texts:
            (folder / "LICENSE").unlink()

    return build


MITS = package(LICENSE=MIT)
TEXTS = [
    Row(
        id_,
        says,
        build,
        kills,
        code,
        outcome="warn" if kills == "SLM-LIC-004" else "fail",
        twin=twin,
    )
    for id_, says, kills, code, build, twin in [
        (
            "L01-no-declaration",
            "the manifest declares no licence",
            "SLM-MAN-001",
            "missing-key",
            lambda folder: make_package(folder, replace={'license = "MIT"\n': ""}),
            MITS,
        ),
        (
            "L01-no-text",
            "the declared licence has no text anywhere",
            "SLM-LIC-002",
            "no-text",
            package(),
            MITS,
        ),
        (
            "L02-identifier-alone",
            "the licence file holds an identifier and no text",
            "SLM-LIC-002",
            "no-text",
            package(LICENSE="SPDX-License-Identifier: MIT\n"),
            MITS,
        ),
        (
            "L02-pointer",
            "the licence file points to where the text is",
            "SLM-LIC-002",
            "no-text",
            package("Apache-2.0", LICENSE="See http://www.apache.org/licenses/LICENSE-2.0 " * 5),
            package("Apache-2.0", LICENSE=APACHE),
        ),
        (
            "L02-one-of-two",
            "two licences are declared and the text of one is there",
            "SLM-LIC-002",
            "no-text",
            package("MIT AND Apache-2.0", LICENSE=MIT),
            package("MIT AND Apache-2.0", LICENSE=MIT, LICENSES__x=APACHE),
        ),
        (
            "L02-own-by-name",
            "the text of a licence of one's own is its name",
            "SLM-LIC-002",
            "no-text",
            package("LicenseRef-home", LICENSE="LicenseRef-home"),
            package("LicenseRef-home", LICENSE=OWN),
        ),
        (
            "L02-notice-alone",
            "there is a notice and no licence",
            "SLM-LIC-002",
            "no-text",
            package(NOTICE=OWN * 2),
            package(LICENSE=MIT, NOTICE=OWN * 2),
        ),
        (
            "L02-data-file",
            "what is called licence is no text",
            "SLM-LIC-002",
            "no-text",
            package(**{"license.json": json.dumps([MIT])}),
            package(**{"license.md": MIT}),
        ),
        (
            "L03-other-text",
            "the text is that of another licence",
            "SLM-LIC-003",
            "other-licence",
            package(LICENSE=APACHE),
            package("Apache-2.0", LICENSE=APACHE),
        ),
        (
            "L03-other-text-utf16",
            "the text of another licence in another encoding",
            "SLM-LIC-003",
            "other-licence",
            package(LICENSE=APACHE.encode("utf-16")),
            package(LICENSE=MIT.encode("utf-16")),
        ),
        (
            "L03-known-text-for-own",
            "a licence of one's own with the text of a known one",
            "SLM-LIC-003",
            "other-licence",
            package("LicenseRef-home", LICENSE=MIT),
            package("LicenseRef-home", LICENSE=MIT + OWN * 10),
        ),
        (
            "L03-another-of-the-hub",
            "a licence of the hub with the text of another one",
            "SLM-LIC-003",
            "other-licence",
            package("LicenseRef-gemma", LICENSE=LLAMA, NOTICE=GEMMA),
            package("LicenseRef-gemma", LICENSE=OWN, NOTICE=GEMMA),
        ),
        (
            "L03-with-card",
            "text and card say one licence, the manifest another",
            "SLM-LIC-003",
            "other-licence",
            package(LICENSE=APACHE, card="license: apache-2.0"),
            package("Apache-2.0", LICENSE=APACHE, card="license: apache-2.0"),
        ),
        (
            "L04-card",
            "the card says other, and names another licence",
            "SLM-LIC-004",
            "card-disagrees",
            package(LICENSE=MIT, card="license: other\nlicense_name: secret"),
            package("LicenseRef-secret", LICENSE=OWN, card="license: other\nlicense_name: secret"),
        ),
        (
            "L03-card",
            "the card says another licence than the manifest",
            "SLM-LIC-004",
            "card-disagrees",
            package(LICENSE=MIT, card="license: apache-2.0"),
            package(LICENSE=MIT, card="license: mit"),
        ),
        (
            "L10-two-files",
            "two licence files disagree",
            "SLM-LIC-003",
            "other-licence",
            package(LICENSE=MIT, COPYING=APACHE),
            package("MIT OR Apache-2.0", LICENSE=MIT, COPYING=APACHE),
        ),
        (
            "L10-folder",
            "a text in LICENSES disagrees with the licence file",
            "SLM-LIC-003",
            "other-licence",
            package(LICENSE=MIT, LICENSES__Apache=APACHE),
            package(LICENSE=MIT, LICENSES__MIT=MIT),
        ),
    ]
]

# A hub's name, or what people write where they have none -> the expression that is meant.
NOT_SPDX = {
    "L04-other": ("other", "LicenseRef-home"),
    "L04-unknown": ("unknown", "LicenseRef-home"),
    "L04-none": ("NONE", "LicenseRef-none"),
    "L05-openrail": ("openrail", "LicenseRef-openrail"),
    "L05-openrail++": ("openrail++", "LicenseRef-openrail-plus-plus"),
    "L05-bigscience": ("bigscience-openrail-m", "LicenseRef-bigscience-openrail-m"),
    "L05-llama3": ("llama3", "LicenseRef-home"),
    "L05-llama3.1": ("llama3.1", "LicenseRef-home"),
    "L05-gemma": ("gemma", "LicenseRef-home"),
    "L05-cc": ("cc", "LicenseRef-cc"),
    "L05-bsd": ("bsd", "LicenseRef-bsd"),
    "L05-gpl": ("gpl", "LicenseRef-gpl"),
    "L05-apple-amlr": ("apple-amlr", "LicenseRef-apple-amlr"),
    "L11-dangling-and": ("MIT AND", "MIT"),
    "L11-empty-parentheses": ("()", "(MIT)"),
    "L11-slash": ("MIT/Apache-2.0", "MIT OR MIT"),
    "L11-blank": (" ", "MIT"),
    "L11-operator": ("AND", "MIT"),
    "L11-exception-of-nothing": ("MIT WITH", "MIT"),
    "L11-licence-as-exception": ("MIT WITH MIT", "MIT AND MIT"),
    "L11-two-licences": ("MIT ISC", "MIT AND MIT"),
    "L11-open-parentheses": ("(" * 399 + "M", "(MIT)"),
    "L11-closed-parentheses": (")" * 400, "(MIT)"),
    "L11-deep-parentheses": ("(" * 198 + "MIT" + ")" * 199, "(" * 150 + "MIT" + ")" * 150),
    "L11-long-name": ("x" * 400, "LicenseRef-" + "x" * 389),
    "L11-operators-alone": ("AND OR " * 57, "MIT OR MIT" + " OR MIT" * 55),
    "L11-control": ("MIT\x00", "MIT"),
    "L11-right-to-left": ("MIT\u202e", "MIT"),
    "L11-code": ("__import__('os').abort()", "MIT"),
    "L11-reference-alone": ("LicenseRef-", "LicenseRef-x"),
    "L11-reference-plus": ("LicenseRef-a++", "LicenseRef-a"),
}
EXPRESSIONS = [
    Row(
        row,
        f"the declared licence is {said[:30]!r}",
        package(said, LICENSE=OWN),
        "SLM-LIC-001",
        "not-spdx",
        twin=package(meant, LICENSE=MIT if "MIT" in meant else OWN),
    )
    for row, (said, meant) in NOT_SPDX.items()
]

ENORMOUS = [
    Row(
        f"L11-{row}",
        says,
        package(said, LICENSE=MIT),
        "SLM-MAN-001",
        code,
        twin=package("MIT" + " OR MIT" * 50, LICENSE=MIT),
    )
    for row, says, said, code in [
        ("empty", "the declared licence is empty", "", "wrong-value"),
        (
            "more-than-400",
            "more than a manifest may have",
            "x" * 401,
            "wrong-value",
        ),
        ("alternatives", "100 kB of alternatives", "MIT" + " OR MIT" * 14_000, "wrong-value"),
        ("900kB", "a licence of 900 kB", "(" * 900_000, "wrong-value"),
        ("1MB", "a licence of 1 MB, beyond what a manifest may be", "x" * 2**20, "too-large"),
    ]
] + [
    Row(
        f"L11-card-{row}",
        says,
        package(LICENSE=MIT, card=card),
        "SLM-LIC-004",
        "card-disagrees",
        outcome="warn",
        twin=package(LICENSE=MIT, card=twin),
    )
    for row, says, card, twin in [
        ("long", "a licence of 200 kB in the card", "license: " + "x" * 200_000, "license: mit"),
        (
            "parentheses",
            "200 kB of parentheses in the card",
            "license: " + "(" * 100_000 + "isc" + ")" * 100_000,
            "license: (mit)",
        ),
        (
            "list",
            "50,000 licences in the card, the last a wrong one",
            f"license: [{'mit,' * 50_000}isc]",
            f"license: [{'mit,' * 50_000}mit]",
        ),
        (
            "alternatives",
            "200 kB of alternatives in the card",
            "license: isc" + " or mit" * 28_000,
            "license: mit" + " or mit" * 28_000,
        ),
    ]
]

NC = "CC-BY-NC-4.0"
DERIVED = [
    Row(f"L08-{row}", says, build, "SLM-LIC-005", "clause-not-carried", twin=twin)
    for row, says, build, twin in [
        (
            "non-commercial",
            "Apache-2.0 on a base that is for non-commercial use only",
            package("Apache-2.0", base=NC, LICENSE=APACHE),
            package(NC, base=NC, LICENSE=OWN * 20),
        ),
        (
            "hub-name",
            "the base's licence is called as a hub calls it",
            package("Apache-2.0", base="cc-by-nc-sa-4.0", relation="quantized", LICENSE=APACHE),
            package(
                "CC-BY-NC-SA-4.0", base="cc-by-nc-sa-4.0", relation="quantized", LICENSE=OWN * 20
            ),
        ),
        (
            "either",
            "a choice between a free licence and that of the base",
            package(f"MIT OR {NC}", base=NC, relation="adapter", LICENSE=MIT, COPYING=OWN * 20),
            package(f"MIT AND {NC}", base=NC, relation="adapter", LICENSE=MIT, COPYING=OWN * 20),
        ),
        (
            "share-alike",
            "MIT on a base under the GPL",
            package(base="gpl-3.0", relation="merge", LICENSE=MIT),
            package("AGPL-3.0-only", base="gpl-3.0", relation="merge", LICENSE=OWN * 30),
        ),
        (
            "no-derivatives",
            "a base of which no derivative may be shared",
            package("CC-BY-ND-4.0", base="cc-by-nd-4.0", relation="pruned", LICENSE=OWN * 20),
            package("CC-BY-ND-4.0", LICENSE=OWN * 20),
        ),
        (
            "use-restrictions",
            "Apache-2.0 on a base whose use restrictions go with it",
            package("Apache-2.0", base="gemma", relation="distilled", LICENSE=APACHE),
            package(
                "Apache-2.0 AND LicenseRef-gemma",
                base="gemma",
                relation="distilled",
                LICENSE=APACHE,
                COPYING=OWN,
                NOTICE=GEMMA,
            ),
        ),
    ]
]

LLAMAS = {"base": "llama3.1", "name": "Llama-3.1-tiny", "LICENSE": LLAMA}
NOTICES = [
    Row(
        f"L09-{row}",
        says,
        build,
        "SLM-LIC-006",
        code,
        twin=twin,
    )
    for row, says, code, build, twin in [
        (
            "no-notice",
            "the notice that the base's licence asks for is not there",
            "no-notice",
            package("LicenseRef-llama3.1", **LLAMAS),
            package("LicenseRef-llama3.1", **LLAMAS, NOTICE=NOTICE),
        ),
        (
            "notice-in-the-licence",
            "the notice is only quoted by the licence",
            "no-notice",
            package("LicenseRef-llama3.1", **(LLAMAS | {"LICENSE": LLAMA + NOTICE})),
            package("LicenseRef-llama3.1", **LLAMAS, **{"Notice.txt": NOTICE.upper()}),
        ),
        (
            "other-notice",
            "the notice is that of another version",
            "no-notice",
            package("LicenseRef-llama3.1", **LLAMAS, NOTICE=NOTICE.replace("3.1", "3.2")),
            package("LicenseRef-llama3.1", **LLAMAS, LICENSES__NOTICE=NOTICE.encode("utf-16")),
        ),
        (
            "without-base",
            "the licence of the model itself asks for a notice",
            "no-notice",
            package("LicenseRef-gemma", LICENSE=OWN),
            package("LicenseRef-gemma", LICENSE=OWN, NOTICE=f"Ours.\n{GEMMA}"),
        ),
        (
            "no-copy",
            "the text of the base's licence is not there",
            "no-copy",
            package(base="Apache-2.0", LICENSE=MIT),
            package(base="Apache-2.0", LICENSE=MIT, **{"LICENSE.base": APACHE}),
        ),
        (
            "name",
            "the name does not begin as the base's licence asks",
            "other-name",
            package("LicenseRef-llama3.1", **(LLAMAS | {"name": "my-bot"}), NOTICE=NOTICE),
            package("LicenseRef-llama3.1", **(LLAMAS | {"name": "me/llama-bot"}), NOTICE=NOTICE),
        ),
    ]
]

ROWS = [*TEXTS, *EXPRESSIONS, *ENORMOUS, *DERIVED, *NOTICES]
