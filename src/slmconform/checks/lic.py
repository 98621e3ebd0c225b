"""LIC: a licence that machines can read, with its text, said the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.engine.registry import Nonconformance, NotApplicable, Stage, check
from slmconform.package import licence
from slmconform.package.problem import shown
from slmconform.standard.files import MANIFEST
from slmconform.standard.report import NOT_JUDGED

if TYPE_CHECKING:
    from slmconform.package.duties import Duty
    from slmconform.package.licence import Expression, LicenceText
    from slmconform.package.read import Package
    from slmconform.standard.manifest import BaseModelReference


@check("SLM-LIC-001", stage=Stage.STATIC, needs=("SLM-MAN-001",))
def licence_is_an_expression(package: Package) -> str:
    """The declared licence is a valid SPDX expression."""
    return _expression(package).text


@check("SLM-LIC-002", stage=Stage.STATIC, needs=("SLM-LIC-001", "SLM-PKG-001", "SLM-PKG-002"))
def licence_text_is_shipped(package: Package) -> str:
    """The text of every declared licence is in the package."""
    declared = _expression(package).ids
    texts = package.licence.texts
    missing = _without_text(declared, texts)
    if missing:
        raise Nonconformance(
            code="no-text",
            where=", ".join(text.path for text in texts) or "LICENSE",
            got=f"no text of {', '.join(missing)}" + (_shown(texts) if texts else ""),
            want="the full text of every declared licence, in LICENSE or LICENSES/<id>.txt",
            why="an identifier grants nothing where its text is not at hand",
            fix=f"add LICENSES/{missing[0]}.txt with the text of the licence",
        )
    return f"{', '.join(declared)}: {', '.join(text.path for text in texts)}"


@check("SLM-LIC-003", stage=Stage.STATIC, needs=("SLM-LIC-002",))
def licence_text_is_the_declared_one(package: Package) -> str:
    """A recognisable licence text is that of a declared licence."""
    declared = _expression(package).ids
    allowed = (*declared, *_base_ids(package))
    told = [text for text in package.licence.texts if text.recognised and not text.notice]
    for text in told:
        if not _allowed(text, allowed):
            raise Nonconformance(
                code="other-licence",
                where=text.path,
                got=f"the text of {', '.join(text.recognised)}",
                want=f"the text of {', '.join(declared)}, as model.license of {MANIFEST} says",
                why="two licences are stated, and a reader cannot tell which one holds",
                fix="replace the text, or declare its licence",
            )
    if not told:
        raise NotApplicable("no licence text is one that can be recognised")
    return "; ".join(f"{text.path} is {', '.join(text.recognised)}" for text in told)


@check("SLM-LIC-004", stage=Stage.STATIC, needs=("SLM-LIC-003",))
def licence_statements_agree(package: Package) -> str:
    """The model card states the declared licence."""
    expression = _expression(package)
    stated = licence.card_licences(package.licence.card)
    if not stated:
        raise NotApplicable(f"no metadata in {licence.CARD} states a licence")
    for one in stated:
        if not licence.agrees(one, expression.ids):
            raise Nonconformance(
                code="card-disagrees",
                where=f"{licence.CARD}: license",
                got=shown(one),
                want=f"{expression.text}, as model.license of {MANIFEST} says",
                why="model hubs show and filter by the licence in the card",
                fix="state the same licence in the card and in the manifest",
            )
    return f"card: {', '.join(shown(one) for one in stated)}"


@check("SLM-LIC-005", stage=Stage.STATIC, needs=("SLM-LIC-001",))
def licence_carries_the_base(package: Package) -> str:
    """The declared licence carries every clause that the licence of the base propagates."""
    base = package.require_manifest().model.base
    if base is None:
        raise NotApplicable("the model has no base model")
    from slmconform.package import duties

    declared, given = _expression(package), _of_base(base)
    found = duties.judge(declared, given, base.relation)
    if found.conflicts:
        lost = found.conflicts
        raise Nonconformance(
            code="clause-not-carried",
            where=f"{MANIFEST}: model.license",
            got=f"{declared.text}, without {', '.join(f'{one} ({one.source})' for one in lost)}",
            want=f"every clause that {given.text} propagates (relation {base.relation})",
            why=f"{lost[0].clause.says}: {lost[0].clause.carried} (no legal advice)",
            fix=_carrying(declared, lost[0]),
        )
    if found.unknown:
        raise NotApplicable(
            f"{NOT_JUDGED}, and not known to be compatible: whether {declared.text} carries "
            f"{', '.join(found.unknown)} (relation {base.relation})"
        )
    clauses = ", ".join(map(str, found.carried)) or f"nothing that {given.text} propagates"
    return f"{declared.text} carries {clauses}"


@check("SLM-LIC-006", stage=Stage.STATIC, needs=("SLM-LIC-003", "SLM-LIC-005"))
def required_notices_are_shipped(package: Package) -> str:
    """Notices, texts and names that the licence of the base or the model asks for are there."""
    declared, base = _expression(package), package.require_manifest().model.base
    if base is None and not any(map(_is_reference, declared.ids)):
        raise NotApplicable(f"{declared.text} asks for no notice that can be looked for")
    from slmconform.package import duties

    given, relation = (_of_base(base), base.relation) if base else (declared, duties.ITSELF)
    choices = duties.required(given, relation)
    if not choices:
        raise NotApplicable(f"{NOT_JUDGED}: {given.text} leaves too many choices")
    found = [(_breaches(package, one.duties), one) for one in choices]
    breaches, owed = min(found, key=lambda pair: (len(pair[0]), len(pair[1].unknown)))
    if breaches:
        raise breaches[0]
    if owed.unknown:
        raise NotApplicable(f"{NOT_JUDGED}: {', '.join(owed.unknown)}")
    if not owed.duties:
        raise NotApplicable(f"{given.text} asks for nothing that can be looked for")
    return ", ".join(map(str, owed.duties))


def _expression(package: Package) -> Expression:
    declared = package.require_manifest().model.license
    try:
        return licence.parse(declared)
    except licence.InvalidLicence as problem:
        raise Nonconformance(
            code="not-spdx",
            where=f"{MANIFEST}: model.license",
            got=shown(declared),
            want="an SPDX expression, with LicenseRef-<name> for a licence outside the SPDX list",
            fix=problem.hint,
        ) from None


def _without_text(declared: tuple[str, ...], texts: tuple[LicenceText, ...]) -> list[str]:
    """The ids that no file is left for, when each file stands for one id that it is not told by."""
    told = {one: text for one in declared for text in texts if _told(text, one)}
    spare = [text for text in texts if text not in told.values()]
    missing: list[str] = []
    # Ids with the higher demands choose first, so that a short text is left to a LicenseRef.
    rest = sorted((one for one in declared if one not in told), key=_is_reference)
    for one in rest:
        fit = next((text for text in spare if _may_be(text, one)), None)
        if fit is None:
            missing.append(one)
        else:
            spare.remove(fit)
    return missing


def _is_reference(one: str) -> bool:
    return one.startswith(licence.REFERENCE)


def _told(text: LicenceText, declared: str) -> bool:
    return any(licence.serves(one, declared) for one in text.recognised)


def _may_be(text: LicenceText, declared: str) -> bool:
    return licence.is_text_of(text, declared) and not (text.notice and not _is_reference(declared))


def _shown(texts: tuple[LicenceText, ...]) -> str:
    said = (", ".join(text.recognised) or f"{text.length} characters" for text in texts)
    pairs = zip((text.path for text in texts), said, strict=True)
    return f" (there are {'; '.join(f'{path}: {what}' for path, what in pairs)})"


def _base_ids(package: Package) -> tuple[str, ...]:
    """The licences of the model that this one was made from: their texts may be shipped too."""
    base = package.require_manifest().model.base
    return _of_base(base).ids if base else ()


def _of_base(base: BaseModelReference) -> Expression:
    """The licence of the base model, by its SPDX expression or the name that a hub has for it."""
    return licence.parse(licence.from_card(base.license))


def _carrying(declared: Expression, duty: Duty) -> str:
    """How a clause that is not carried can be."""
    correct = "or correct model.base.license if it is wrong"
    if duty.clause.carried_by == "nothing":
        return f"ask the authors of the base model for their leave, {correct}"
    both = f"({declared.text})" if " OR " in declared.text else declared.text
    return f"declare {duty.licence}, or {both} AND {duty.licence}, {correct}"


def _breaches(package: Package, owed: tuple[Duty, ...]) -> list[Nonconformance]:
    """The duties that the files do not show to be kept, each as a finding."""
    tests = {"licence-copy": _no_copy, "notice": _no_notice, "name-prefix": _other_name}
    return [found for duty in owed if (found := tests[duty.clause.id](package, duty))]


def _no_copy(package: Package, duty: Duty) -> Nonconformance | None:
    from slmconform.package import duties

    declared, texts = _expression(package).ids, package.licence.texts
    one = duty.licence.partition(" WITH ")[0]
    if any(duties.row_of(own) is duty.row or duty.row.allows(own) for own in declared):
        return None  # the text of the declared licence is that of this one, or in its place
    if any(_told(text, one) for text in texts) or not _without_text((*declared, one), texts):
        return None
    return Nonconformance(
        code="no-copy",
        where=", ".join(text.path for text in texts),
        got=f"no text of {one}, the licence of the base model{_shown(texts)}",
        want=f"its full text, as {duty.source} asks",
        why=f"{duty.clause.says} (no legal advice)",
        fix=f"add LICENSES/{one}.txt with the text of the licence",
    )


def _no_notice(package: Package, duty: Duty) -> Nonconformance | None:
    if licence.normalised(duty.row.notice) in licence.notices(package.folder):
        return None
    return Nonconformance(
        code="no-notice",
        where="NOTICE",
        got=f"no file called notice that says {shown(duty.row.notice)}",
        want=f"a file NOTICE with that sentence, as {duty.source} asks",
        why=f"{duty.clause.says} (no legal advice)",
        fix="add NOTICE, with the whole sentence as the licence has it",
    )


def _other_name(package: Package, duty: Duty) -> Nonconformance | None:
    name = package.require_manifest().model.name
    letters = licence.letters(name.rpartition("/")[2]).removeprefix("meta")  # as Meta's own are
    if letters.startswith(licence.letters(duty.row.prefix)):
        return None
    return Nonconformance(
        code="other-name",
        where=f"{MANIFEST}: model.name",
        got=shown(name),
        want=f"a name that begins with {shown(duty.row.prefix)}, as {duty.source} asks",
        why=f"{duty.clause.says} (no legal advice)",
        fix="rename the model, here and where it is published",
    )


def _allowed(text: LicenceText, allowed: tuple[str, ...]) -> bool:
    if any(licence.accompanies(one, to) for one in text.recognised for to in allowed):
        return True
    # A licence may be built on a known one or quote it: then it says considerably more than that.
    return text.surplus > licence.OWN_WORDS
