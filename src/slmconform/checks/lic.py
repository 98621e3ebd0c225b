"""LIC: a licence that machines can read, with its text, said the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.engine.registry import Nonconformance, NotApplicable, Stage, check
from slmconform.package import licence
from slmconform.package.problem import shown
from slmconform.standard.files import MANIFEST

if TYPE_CHECKING:
    from slmconform.package.licence import Expression, LicenceText
    from slmconform.package.read import Package


@check("SLM-LIC-001", stage=Stage.STATIC, needs=("SLM-MAN-001",))
def licence_is_an_expression(package: Package) -> str:
    """The declared licence is a valid SPDX expression."""
    return _expression(package).text


@check("SLM-LIC-002", stage=Stage.STATIC, needs=("SLM-LIC-001",))
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
    if base is None:
        return ()
    return licence.parse(licence.from_card(base.license)).ids


def _allowed(text: LicenceText, allowed: tuple[str, ...]) -> bool:
    if any(licence.accompanies(one, to) for one in text.recognised for to in allowed):
        return True
    # A licence may be built on a known one or quote it: then it says considerably more than that.
    return text.surplus > licence.OWN_WORDS
