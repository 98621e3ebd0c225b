"""A visible test function over the requirements of a package."""

from __future__ import annotations

from pathlib import Path

import pytest


def parametrize(
    path: str | Path,
    *,
    profile: str | None = None,
    device: str | None = None,
    trust_code: bool | None = None,
    timeout: float | None = None,
    waivers: str | Path | None = None,
) -> pytest.MarkDecorator:
    """Call a test function once for each requirement of the package at ``path``.

    The function takes one argument, ``requirement``, and calls ``requirement.check()``. A relative
    path, of the package or the waivers, begins at the folder of the test. What is not given here
    is as pytest was told.

        @slmconform.parametrize("model", profile="trainable")
        def test_conforms(requirement):
            requirement.check()
    """
    return pytest.mark.slmconform(
        path,
        profile=profile,
        device=device,
        trust_code=trust_code,
        timeout=timeout,
        waivers=waivers,
    )
