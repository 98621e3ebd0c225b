"""The waivers of ``slm-waivers.toml``: known failures that an adopter accepts for a while."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from slmconform.standard.manifest import Name, Section

Range = Annotated[str, Field(min_length=1, max_length=200)]


class Scope(Section):
    """Where a waiver holds; what is left out holds everywhere.

    ``device`` is a class of devices such as ``cpu`` or ``cuda sm_90``, or the first word of one;
    ``torch`` and ``transformers`` are PEP 440 ranges; ``model`` is the name in a manifest.
    """

    model: Name | None = None
    device: Annotated[str, Field(pattern=r"^[a-z]+( [a-z0-9_]+)?$", max_length=40)] | None = None
    torch: Range | None = None
    transformers: Range | None = None


class Waiver(Section):
    """One failure of one requirement: which, why it is accepted, and until when.

    ``code`` is the failure code: the same requirement failing in another way is not waived.
    ``expires`` is the last day, in UTC, on which the waiver holds.
    """

    id: Annotated[str, Field(pattern=r"^SLM-[A-Z]{3}-\d{3}$")]
    code: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)]
    reason: Annotated[str, Field(min_length=10, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
    issue: Annotated[str, Field(pattern=r"^https?://[^\s\x00-\x1f\x7f]+$", max_length=400)]
    expires: date
    scope: Scope = Field(default_factory=Scope)


class Waivers(Section):
    """The whole file."""

    spec: Literal["1.0"]
    waiver: list[Waiver] = Field(default_factory=list)
