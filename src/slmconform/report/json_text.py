"""The report for machines."""

from __future__ import annotations

import json

from slmconform.harmless import COMMAND
from slmconform.standard.report import Report


def as_json(report: Report) -> str:
    """The report as its schema describes it, in ASCII: no terminal and no encoding can spoil it.

    What would be a command to a CI system is spelled so that it is none.
    """
    text = json.dumps(report.model_dump(mode="json"), indent=2, allow_nan=False)
    return COMMAND.sub(r"\\u0023#", text)
