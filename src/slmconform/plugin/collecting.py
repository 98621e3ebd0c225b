"""From a manifest to items, one a requirement of its profile; no model is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slmconform.engine.command import command
from slmconform.harmless import printable
from slmconform.package import strict_toml
from slmconform.package.folder import Folder
from slmconform.package.problem import PackageProblem, shown
from slmconform.plugin import options
from slmconform.plugin.case import Case
from slmconform.plugin.examination import Examination
from slmconform.standard.catalogue import Requirement, catalogue
from slmconform.standard.files import MANIFEST, MANIFEST_LIMIT

EXAMINATIONS = pytest.StashKey[dict[object, Examination]]()


class ManifestFile(pytest.File):
    """A ``slm.toml``; its items are the requirements of its profile, sorted by id."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item a requirement."""
        try:
            asked = examination(self.config, self.path.parent, options.chosen(self.config))
        except PackageProblem as problem:
            leave_out = command("pytest", f"--ignore={_relative(self.path, self.config.rootpath)}")
            raise _refusal(problem, self.path, f"{leave_out} leaves it out") from None
        for one in asked.requirements:
            yield RequirementItem.from_parent(self, name=one.id, case=Case(one, asked))


class RequirementItem(pytest.Item):
    """One requirement of one package."""

    def __init__(self, *, case: Case, **fields: Any) -> None:
        super().__init__(**fields)
        self.case = case
        for mark in marks(self.config, case):
            self.add_marker(mark)

    def runtest(self) -> None:
        """Ask."""
        self.case.check()

    def reportinfo(self) -> tuple[Path, None, str]:
        """What stands over a failure."""
        return self.path, None, f"{self.name} of {self.case.examination.name}"


def spread(metafunc: pytest.Metafunc, path: str | Path, **given: Any) -> None:
    """Call a test function once for each requirement; the path is relative to its file."""
    config, here = metafunc.config, metafunc.definition.path.parent
    folder = here / path
    stated = {name: value for name, value in given.items() if value is not None}
    if "waivers" in stated:
        stated["waivers"] = here / stated["waivers"]
    try:
        asked = examination(config, folder, options.chosen(config) | options.checked(stated))
    except PackageProblem as problem:
        hint = f"correct the path or the options given to {metafunc.function.__name__}"
        raise _refusal(problem, folder / MANIFEST, hint) from None
    except pytest.UsageError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    cases = [Case(one, asked) for one in asked.requirements]
    metafunc.parametrize(
        "requirement", [pytest.param(one, id=one.id, marks=marks(config, one)) for one in cases]
    )


def examination(config: pytest.Config, folder: Path, wanted: dict[str, Any]) -> Examination:
    """The one examination of a package under these options in this process."""
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links are for the engine to judge
    known = config.stash.setdefault(EXAMINATIONS, {})
    key = (folder, *sorted(wanted.items()))
    if key not in known:
        profile = _profile(folder, wanted)
        asked = [catalogue().requirements[one] for one in catalogue().profiles[profile].ids]
        name = printable(_relative(folder, config.rootpath))
        known[key] = Examination(folder, name, wanted | {"profile": profile}, asked)
    return known[key]


def _profile(folder: Path, wanted: dict[str, Any]) -> str:
    """The profile to judge by: asked or declared. All else in the manifest is for the engine."""
    profiles = catalogue().profiles
    want = f"one of {', '.join(profiles)}"
    if asked := wanted.get("profile"):
        if asked not in profiles:
            raise PackageProblem("wrong-value", "profile", shown(asked), want, "correct the name")
        return str(asked)
    text = Folder(folder.resolve(), {}, ()).read(MANIFEST, MANIFEST_LIMIT)
    declared = strict_toml.loads(text, MANIFEST).get("profile")
    if isinstance(declared, str) and declared in profiles:
        return declared
    got = "the key is missing" if declared is None else shown(declared)
    raise PackageProblem("wrong-value", f"{MANIFEST}: profile", got, want, "declare a profile")


def _refusal(problem: PackageProblem, manifest: Path, hint: str) -> Exception:
    """What pytest prints in place of items."""
    from slmconform.report.text import evidence

    again = command("slmconform", "check", str(manifest.parent))
    lines = [f"slmconform cannot collect {printable(str(manifest))}", *evidence(problem)]
    lines += [f"      again  {again}", f"      or     {hint}"]
    return pytest.Collector.CollectError("\n".join(lines))


def marks(config: pytest.Config, case: Case) -> list[pytest.MarkDecorator]:
    """The markers of a requirement."""
    register_markers(config)
    return [getattr(pytest.mark, name) for name in marker_names(case.requirement)]


def marker_names(requirement: Requirement) -> list[str]:
    """Such as slmconform, slm_reproducible, slm_inv, slm_must."""
    keyword = requirement.keyword.partition(" ")[0].lower()
    names = (requirement.profile, requirement.area.lower(), keyword)
    return ["slmconform", *(f"slm_{name}" for name in names)]


def register_markers(config: pytest.Config) -> None:
    """Declare them, once, so that ``--strict-markers`` knows them."""
    lines = config.getini("markers")
    known = catalogue()
    texts = {f"slm_{name}": f"added by the profile {name}" for name in known.profiles}
    texts |= {f"slm_{code.lower()}": f"the area {title}" for code, title in known.areas.items()}
    texts |= {f"slm_{word}": f"a {word.upper()}" for word in ("must", "should", "may")}
    for name, text in texts.items():
        if (line := f"{name}: a requirement of the standard, {text}") not in lines:
            config.addinivalue_line("markers", line)


def again(item: pytest.Item) -> str:
    """The command that repeats one item from where pytest was started."""
    config = item.config
    file, _, rest = item.nodeid.partition("::")
    place = _relative(config.rootpath / file, config.invocation_params.dir)
    return command("pytest", f"{place}::{rest}", *options.repeated(config))


def _relative(path: Path, base: Path) -> str:
    """The path from a folder; whole where it lies elsewhere."""
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)
