"""TOK: the chat templates as text, read and never rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.engine.registry import NotApplicable, Stage, check
from slmconform.package.problem import several

if TYPE_CHECKING:
    from slmconform.package.chat_templates import ChatTemplates
    from slmconform.package.read import Package


@check("SLM-TOK-012", stage=Stage.STATIC, needs=("SLM-CFG-001",))
def templates_are_sound(package: Package) -> str:
    """Every chat template is a valid Jinja template, whole, that stays in its sandbox."""
    templates = _templates(package)
    if templates.problems:
        raise several(templates.problems).finding()
    from slmconform.package.template_syntax import problems

    found = [problem for one in templates.found for problem in problems(one)]
    if found:
        raise several(found).finding()
    return ", ".join(one.where for one in templates.found)


@check("SLM-TOK-013", stage=Stage.STATIC, needs=("SLM-CFG-001", "SLM-TOK-012"))
def templates_depend_on_conversation(package: Package) -> str:
    """Every chat template depends on the conversation and the caller's variables alone."""
    templates = _templates(package)
    from slmconform.package.template_conditions import problems

    found = [problem for one in templates.found for problem in problems(one)]
    if found:
        raise several(found).finding()
    return ", ".join(one.where for one in templates.found)


def _templates(package: Package) -> ChatTemplates:
    if not package.chat_templates:
        raise NotApplicable("the package has no chat template")
    return package.chat_templates
