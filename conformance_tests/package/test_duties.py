"""The table of duties, and the rule that a derived licence carries what its base propagates."""

from __future__ import annotations

import random
import re
from itertools import product

import pytest
from licence_page import PAGE, page

from slmconform.package import duties, licence
from slmconform.package.duties import Verdict, alternatives, clauses, judge, licences, row_of

ROWS = {row.id: row for row in licences()}
CLAUSES = {clause.id: clause for clause in clauses()}
COMPATIBLE, UNKNOWN, CONFLICT = Verdict.COMPATIBLE, Verdict.UNKNOWN, Verdict.CONFLICT


def verdict(declared: str, base: str, relation: str = "finetune") -> Verdict:
    given = licence.parse(licence.from_card(base))
    return judge(licence.parse(declared), given, relation).verdict


# --- the table -----------------------------------------------------------------------------------


def test_the_page_is_made_from_the_table():
    assert PAGE.read_text("utf-8") == page(), "python conformance_tests/package/licence_page.py"
    assert "This is no legal advice." in page()


def test_the_page_shows_every_licence_and_clause_once():
    text = page()
    for one in (*ROWS, *CLAUSES):
        assert len(re.findall(rf"^\| `?{re.escape(one)}`? \|", text, re.MULTILINE)) == 1, one


def test_rows_hold_ids_that_a_manifest_can_have():
    for one, row in ROWS.items():
        for name in (one, *row.under, *(licence.REFERENCE + also for also in row.also)):
            assert licence.parse(name).text in (name, f"{name}-only"), name


def test_rows_name_only_clauses_and_relations_that_there_are():
    relations = {"itself", "finetune", "adapter", "quantized", "pruned", "distilled", "merge"}
    for row in ROWS.values():
        reached = {clause for ids in row.reaches.values() for clause in ids}
        assert {*row.unsure, *row.copies_only, *reached} <= set(CLAUSES), row
        assert not set(row.sources) & set(row.unsure), row
        assert set(row.reaches) <= relations, row
        assert all(source.strip() for source in row.sources.values()), row
    assert all(set(clause.relations) <= relations for clause in CLAUSES.values())


def test_rows_hold_what_their_clauses_need_to_be_judged():
    for row in ROWS.values():
        assert bool(row.under) == ("share-alike" in row.sources), row
        assert bool(row.notice) == ("notice" in row.sources), row
        assert bool(row.prefix) == ("name-prefix" in row.sources), row
        if row.under:  # the same licence carries its own clause
            assert {row.id, licence.base_id(row.id)} & set(row.under), row


def test_no_two_rows_have_the_same_name():
    names = [one for row in ROWS.values() for one in (row.id, *(f"x-{a}" for a in row.also))]
    assert len({duties._key(name) for name in names}) == len(names)


def test_only_licences_outside_the_list_ask_for_a_notice():
    # so a listed licence without a base is told without reading the table
    notice = CLAUSES["notice"]
    asking = {row.id for row in ROWS.values() if row.binds(notice, duties.ITSELF)}
    assert {one for one in asking if "notice" in ROWS[one].sources} <= {
        one for one in ROWS if one.startswith(licence.REFERENCE)
    }
    assert [one.id for one in clauses() if duties.ITSELF in one.relations] == ["notice"]


@pytest.mark.parametrize(
    ("spelling", "row"),
    [
        ("MIT", "MIT"),
        ("GPL-3.0-or-later", "GPL-3.0"),
        ("GPL-2.0-or-later", "GPL-2.0-or-later"),
        ("AGPL-3.0-only", "AGPL-3.0"),
        ("Apache-2.0 WITH LLVM-exception", "Apache-2.0"),
        ("LicenseRef-Llama3.1", "LicenseRef-llama3.1"),
        ("LicenseRef-Llama-3.1-Community-License", "LicenseRef-llama3.1"),
        ("LicenseRef-Meta-Llama-3-Community", "LicenseRef-llama3"),
        ("LicenseRef-gemma-terms-of-use", "LicenseRef-gemma"),
        ("LicenseRef-Qwen-Research-License", "LicenseRef-qwen-research"),
        ("LicenseRef-deepseek-license", "LicenseRef-deepseek"),
        ("LicenseRef-Mistral-AI-Research-License", "LicenseRef-mrl"),
    ],
)
def test_spellings_of_one_licence(spelling, row):
    found = row_of(spelling)
    assert found
    assert found.id == row


@pytest.mark.parametrize(
    "name", ["LicenseRef-MIT", "LicenseRef-llama", "LicenseRef-llama5", "LicenseRef-", "GPL-1.0+"]
)
def test_what_is_not_in_the_table_has_no_row(name):
    assert row_of(name) is None


# --- the rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "base", "clause"),
    [
        ("Apache-2.0", "cc-by-nc-4.0", "non-commercial"),
        ("MIT", "qwen-research", "non-commercial"),
        ("CC-BY-4.0", "mrl", "non-commercial"),
        ("MIT", "gpl-3.0", "share-alike"),
        ("GPL-2.0-only", "gpl-3.0", "share-alike"),
        ("GPL-3.0-only", "GPL-2.0-only", "share-alike"),
        ("GPL-3.0-only", "AGPL-3.0-only", "share-alike"),
        ("CC-BY-4.0", "cc-by-sa-4.0", "share-alike"),
        ("CC-BY-SA-4.0", "cc-by-nc-sa-4.0", "non-commercial"),
        ("CC-BY-NC-4.0", "cc-by-nc-sa-4.0", "share-alike"),
        ("CC-BY-ND-4.0", "cc-by-nd-4.0", "no-derivatives"),
        ("Apache-2.0", "llama3.1", "use-restrictions"),
        ("MIT", "gemma", "use-restrictions"),
        ("Apache-2.0", "creativeml-openrail-m", "use-restrictions"),
        ("MIT", "deepseek", "use-restrictions"),
    ],
)
def test_a_conflict_names_the_clause_and_its_source(declared, base, clause):
    given = licence.parse(licence.from_card(base))
    found = judge(licence.parse(declared), given, "finetune")
    assert found.verdict is CONFLICT
    assert clause in [one.clause.id for one in found.conflicts]
    assert all(re.search(r", [\w(]", one.source) for one in found.conflicts)


@pytest.mark.parametrize(
    ("declared", "base"),
    [
        ("Apache-2.0", "mit"),
        ("MIT", "apache-2.0"),
        ("LicenseRef-mine", "mit"),
        ("CC-BY-NC-4.0", "cc-by-nc-4.0"),
        ("CC-BY-NC-SA-4.0", "cc-by-nc-4.0"),
        ("CC-BY-NC-4.0", "mrl"),
        ("GPL-3.0-or-later", "gpl-3.0"),
        ("AGPL-3.0-only", "gpl-3.0"),
        ("GPL-3.0-only", "GPL-2.0-or-later"),
        ("GPL-2.0-only", "lgpl-2.1"),
        ("CC-BY-SA-4.0", "cc-by-sa-3.0"),
        ("MPL-2.0", "mpl-2.0"),
        ("EUPL-1.2", "eupl-1.2"),
        ("LAL-1.3", "cc-by-sa-4.0"),
        ("LicenseRef-llama3.1", "llama3.1"),
        ("LicenseRef-Llama-3.1-Community", "llama3.1"),
        ("Apache-2.0 AND LicenseRef-llama3.1", "llama3.1"),
        ("LicenseRef-gemma", "gemma"),
    ],
)
def test_what_is_carried_is_compatible(declared, base):
    assert verdict(declared, base) is COMPATIBLE


@pytest.mark.parametrize(
    ("declared", "base"),
    [
        ("MIT", "other"),
        ("MIT", "my-licence"),
        ("MIT", "openrail"),
        ("MIT", "MIT AND"),
        ("MIT", "("),
        ("LicenseRef-mine", "LicenseRef-mine"),
        ("LicenseRef-mine", "cc-by-nc-4.0"),
        ("Artistic-2.0", "cc-by-nc-4.0"),
        ("MIT", "mpl-2.0"),
        ("EPL-2.0", "cc-by-sa-4.0"),
        ("MPL-2.0", "eupl-1.2"),
        ("LicenseRef-gemma", "llama3"),
        ("MIT", "MIT AND LicenseRef-theirs"),
    ],
)
def test_what_is_not_known_is_neither(declared, base):
    assert verdict(declared, base) is UNKNOWN


@pytest.mark.parametrize(
    ("declared", "base", "relation", "reached"),
    [
        ("Apache-2.0", "cc-by-nc-4.0", "quantized", CONFLICT),
        ("Apache-2.0", "cc-by-nc-4.0", "adapter", CONFLICT),
        ("Apache-2.0", "cc-by-nc-4.0", "distilled", UNKNOWN),
        ("CC-BY-NC-4.0", "cc-by-nc-4.0", "distilled", COMPATIBLE),
        ("Apache-2.0", "gemma", "distilled", CONFLICT),
        ("Apache-2.0", "llama3.1", "distilled", UNKNOWN),
        ("CC-BY-ND-4.0", "cc-by-nd-4.0", "quantized", UNKNOWN),
        ("CC-BY-ND-4.0", "cc-by-nd-4.0", "merge", CONFLICT),
        ("MIT", "apache-2.0", "distilled", COMPATIBLE),
    ],
)
def test_a_clause_is_judged_where_it_surely_reaches(declared, base, relation, reached):
    assert verdict(declared, base, relation) is reached


NC, FREE = "CC-BY-NC-4.0", "Apache-2.0"


@pytest.mark.parametrize(
    ("declared", "base", "reached"),
    [
        # who receives the model may choose: every choice has to carry
        (f"{FREE} OR {NC}", NC, CONFLICT),
        (f"{FREE} AND {NC}", NC, COMPATIBLE),
        (f"(MIT OR {FREE}) AND {NC}", NC, COMPATIBLE),
        (f"MIT OR {FREE} AND {NC}", NC, CONFLICT),
        # who builds on the base may choose: one choice suffices
        ("MIT", f"MIT OR {NC}", COMPATIBLE),
        ("MIT", f"MIT AND {NC}", CONFLICT),
        ("MIT", "LicenseRef-theirs OR MIT", COMPATIBLE),
        ("MIT", f"LicenseRef-theirs OR {NC}", UNKNOWN),
        ("MIT", f"LicenseRef-theirs AND {NC}", CONFLICT),
        # each choice may go back to another one of the base
        ("GPL-2.0-only OR OSL-3.0", "GPL-2.0-only OR OSL-3.0", COMPATIBLE),
        ("GPL-2.0-only OR MIT", "GPL-2.0-only OR OSL-3.0", CONFLICT),
        # an exception only lifts
        ("MIT", "GPL-3.0-only WITH GCC-exception-3.1", UNKNOWN),
        ("GPL-3.0-only", "GPL-3.0-only WITH GCC-exception-3.1", COMPATIBLE),
        ("GPL-3.0-only WITH GCC-exception-3.1", "GPL-3.0-only", UNKNOWN),
        ("Apache-2.0 WITH LLVM-exception", NC, CONFLICT),
        ("Apache-2.0 WITH LLVM-exception", "mit", COMPATIBLE),
    ],
)
def test_expressions(declared, base, reached):
    assert verdict(declared, base) is reached


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("MIT", [{"MIT"}]),
        ("MIT OR ISC", [{"ISC"}, {"MIT"}]),
        ("MIT AND ISC", [{"ISC", "MIT"}]),
        ("MIT OR ISC AND 0BSD", [{"0BSD", "ISC"}, {"MIT"}]),
        ("(MIT OR ISC) AND 0BSD", [{"0BSD", "ISC"}, {"0BSD", "MIT"}]),
        ("0BSD AND MIT OR ISC", [{"0BSD", "MIT"}, {"ISC"}]),
        ("GPL-2.0-only WITH GCC-exception-2.0", [{"GPL-2.0-only WITH GCC-exception-2.0"}]),
        ("(" * 190 + "MIT" + ")" * 190, [{"MIT"}]),
    ],
)
def test_alternatives_of_an_expression(text, sets):
    assert [set(one) for one in alternatives(licence.parse(text)) or ()] == sets


def test_alternatives_are_true_where_their_expression_is():
    rng = random.Random(0)
    leaves = ["MIT", "ISC", "0BSD", "Zlib"]

    def made(depth: int) -> str:
        if not depth or rng.random() < 0.2:
            return rng.choice(leaves)
        joined = rng.choice([" AND ", " OR "]).join(made(depth - 1) for _ in range(2))
        return f"({joined})" if rng.random() < 0.5 else joined

    for _ in range(300):
        text = licence.parse(made(4)).text
        sets = alternatives(licence.parse(text))
        assert sets is not None
        read = text.replace("0BSD", "_0BSD").replace("AND", "and").replace("OR", "or")
        for given in product([False, True], repeat=len(leaves)):
            true = dict(zip(leaves, given, strict=True))
            kept = {leaf for leaf in leaves if true[leaf]}
            said = eval(read, {"_0BSD": true["0BSD"]}, true)
            assert said == any(one <= kept for one in sets), text


def test_too_many_alternatives_are_not_judged():
    many = " AND ".join(f"(LicenseRef-{i} OR MIT)" for i in range(20))
    assert alternatives(licence.parse(many)) is None
    assert verdict("MIT", many) is UNKNOWN
    assert verdict(many, NC) is UNKNOWN
    repeated = " AND ".join(["(MIT OR ISC)"] * 20)
    assert verdict(repeated, "mit") is COMPATIBLE


# --- what has to be shipped ----------------------------------------------------------------------

COPY, NOTICE, NAME = "licence-copy", "notice", "name-prefix"


@pytest.mark.parametrize(
    ("given", "relation", "owed", "open_"),
    [
        ("MIT", "finetune", [COPY], []),
        ("MIT", "distilled", [], [COPY]),
        ("MIT", "itself", [], []),
        ("0BSD", "finetune", [], []),
        ("BSL-1.0", "finetune", [], [COPY]),
        ("llama3", "finetune", [COPY, NOTICE, NAME], []),
        ("llama3", "quantized", [COPY, NOTICE], [NAME]),
        ("llama3", "distilled", [], [COPY, NOTICE, NAME]),
        ("llama3.1", "distilled", [NAME], [COPY, NOTICE]),
        ("llama3", "itself", [NOTICE], []),
        ("gemma", "distilled", [COPY, NOTICE], []),
        ("mrl", "itself", [NOTICE], []),
        ("mrl", "finetune", [], [COPY, NOTICE]),
    ],
)
def test_what_a_licence_asks_to_be_shipped(given, relation, owed, open_):
    (found,) = duties.required(licence.parse(licence.from_card(given)), relation)
    assert [one.clause.id for one in found.duties] == owed
    assert [one.partition(" of ")[0] for one in found.unknown] == open_


def test_each_choice_asks_for_its_own():
    found = duties.required(licence.parse("0BSD OR MIT AND LicenseRef-theirs"), "finetune")
    assert [len(one.duties) for one in found] == [0, 1]
    assert [one.unknown for one in found] == [(), ("every clause of LicenseRef-theirs",)]
