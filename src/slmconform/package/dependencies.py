"""The declared dependencies: requirements by name (PEP 508) over version ranges (PEP 440)."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from slmconform.package.problem import PackageProblem, shown
from slmconform.standard.files import MANIFEST
from slmconform.standard.manifest import DependenciesSection

# What each kind of loader itself imports.
LOADER_NEEDS = {"transformers": ("torch", "transformers"), "torch": ("torch",)}
# What these libraries or their tokenizers import by themselves where it is installed.
COMPANIONS = frozenset(
    {
        *("torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "numpy"),
        *("sentencepiece", "protobuf", "tiktoken", "blobfile", "mistral-common", "regex"),
        *("jinja2", "packaging", "filelock", "requests", "httpx", "tqdm", "pyyaml", "fsspec"),
        *("accelerate", "kernels", "triton", "einops", "scipy", "psutil", "hf-xet"),
        *("hf-transfer", "bitsandbytes", "optimum", "optimum-quanto", "quanto", "torchao"),
        *("autoawq", "auto-gptq", "gptqmodel", "compressed-tensors", "hqq", "aqlm", "vptq"),
        *("flash-attn", "xformers", "mamba-ssm", "causal-conv1d", "flash-linear-attention"),
        *("peft", "gguf", "onnx", "onnxruntime", "onnxruntime-gpu", "ml-dtypes"),
        *("pillow", "torchvision", "torchaudio", "timm", "librosa", "soundfile", "av"),
        *("sacremoses", "ftfy", "spacy", "jieba", "rjieba", "fugashi", "ipadic", "unidic"),
        *("unidic-lite", "sudachipy", "sudachidict-core", "rhoknp", "pythainlp", "emoji"),
        *("nltk", "phonemizer", "pandas", "setuptools", "typing-extensions"),
    }
)
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_BOUNDING = frozenset({">", ">=", "==", "===", "~="})


@dataclass(frozen=True, slots=True)
class Dependency:
    """One entry of ``dependencies.requires``; ``name`` is normalised."""

    where: str
    name: str
    requirement: Requirement
    applies: bool

    @property
    def range(self) -> SpecifierSet:
        """The versions that the entry allows."""
        return self.requirement.specifier

    @property
    def bounded(self) -> bool:
        """Whether some operator keeps versions from before it out."""
        return any(one.operator in _BOUNDING for one in self.range)

    @property
    def marker(self) -> str:
        """The condition under which the entry applies, empty where it always does."""
        return str(self.requirement.marker or "")


@dataclass(frozen=True, slots=True)
class Dependencies:
    """All that a manifest declares about its surroundings."""

    python: SpecifierSet
    requires: tuple[Dependency, ...]

    @property
    def names(self) -> frozenset[str]:
        """The declared distributions, whatever their markers."""
        return frozenset(one.name for one in self.requires)


@dataclass(frozen=True, slots=True)
class Installed:
    """What this environment holds: a version, and the texts of what it requires itself."""

    version: Version
    requires: tuple[str, ...]


def read(section: DependenciesSection) -> Dependencies:
    """Parse the ``[dependencies]`` table; raises `PackageProblem` at the first bad entry."""
    requires = tuple(_dependency(text, i) for i, text in enumerate(section.requires))
    try:
        python = SpecifierSet(section.python)
    except InvalidSpecifier:
        raise PackageProblem(
            "python-range",
            f"{MANIFEST}: dependencies.python",
            shown(section.python),
            "a version range as PEP 440 defines it",
            'write for instance python = ">=3.11"',
        ) from None
    return Dependencies(python, requires)


def conflict(declared: Dependencies) -> PackageProblem | None:
    """Ranges that no version can satisfy: alone, together, or beside what is installed."""
    if declared.python.is_unsatisfiable():
        where = f"{MANIFEST}: dependencies.python"
        return _empty(where, f"python {declared.python}")
    for one in declared.requires:
        if one.range.is_unsatisfiable():
            return _empty(one.where, str(one.requirement))
    for first, second in combinations(declared.requires, 2):
        if _meet(first, second) and (first.range & second.range).is_unsatisfiable():
            return _disjoint(second, str(second.requirement), f"{first.requirement} above it")
    return _conflict_with_installed(declared)


def unsatisfied(declared: Dependencies) -> list[PackageProblem]:
    """Where this environment is not one of those declared."""
    found: list[PackageProblem] = []
    python = platform.python_version()
    if not declared.python.contains(python, prereleases=True):
        found.append(
            PackageProblem(
                "python",
                f"{MANIFEST}: dependencies.python",
                f"this is Python {python}",
                f"python {declared.python}",
                "check under a Python of the range, or widen it if the model works on this one",
            )
        )
    found += [p for one in declared.requires if one.applies and (p := _unsatisfied(one))]
    return found


def unbounded(declared: Dependencies) -> list[Dependency]:
    """Entries without a lower bound, unless another entry that always applies gives one."""
    bounded = {one.name for one in declared.requires if one.bounded and not one.marker}
    return [one for one in declared.requires if not one.bounded and one.name not in bounded]


def unused(declared: Dependencies, imported: frozenset[str], kind: str) -> list[Dependency]:
    """Entries that nothing is known to use: no import, no loader, no other declared dependency.

    Judged are those that apply here and are installed, of which the environment knows what they
    provide.
    """
    known = imported | COMPANIONS | set(LOADER_NEEDS[kind])
    return [
        one
        for one in declared.requires
        if one.applies
        and one.name not in known
        and installed(one.name) is not None
        and not any(_requires(other, one.name) for other in declared.requires)
    ]


def _requires(one: Dependency, name: str) -> bool:
    found = installed(one.name)
    return found is not None and any(_required(found, one.requirement.extras, name))


@cache
def installed(name: str) -> Installed | None:
    """A distribution of this environment; None where absent or of an unreadable version."""
    try:
        metadata = importlib.metadata.metadata(name)
        version = Version(metadata["Version"])
    except (importlib.metadata.PackageNotFoundError, InvalidVersion, KeyError, TypeError):
        return None
    return Installed(version, tuple(metadata.get_all("Requires-Dist") or ()))


def _dependency(text: str, index: int) -> Dependency:
    where = f"{MANIFEST}: dependencies.requires[{index}]"
    try:
        requirement = Requirement(text)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    except InvalidRequirement:
        if "://" in text or text.lstrip().startswith((".", "/", "~")):
            raise _fetched(where, text) from None
        raise _unparseable(where, text) from None
    except (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion):
        raise _unparseable(where, text, "its marker cannot be evaluated") from None
    if requirement.url is not None:
        raise _fetched(where, text)
    return Dependency(where, canonicalize_name(requirement.name), requirement, applies)


def _unparseable(where: str, text: str, why: str = "") -> PackageProblem:
    return PackageProblem(
        "unparseable",
        where,
        shown(text),
        "a name and a version range as PEP 508 defines them",
        'write for instance "torch>=2.10"',
        why=why,
    )


def _fetched(where: str, text: str) -> PackageProblem:
    return PackageProblem(
        "url",
        where,
        shown(text),
        "a requirement by name and version range, without a URL or a path",
        "depend on a released version by name",
        why="what a URL serves can change or vanish without a new version",
    )


def _empty(where: str, text: str) -> PackageProblem:
    return PackageProblem(
        "empty-range",
        where,
        f"{shown(text)} allows no version at all",
        "a range that some version satisfies",
        "correct the bounds",
    )


def _disjoint(one: Dependency, got: str, other: str) -> PackageProblem:
    return PackageProblem(
        "disjoint",
        one.where,
        f"{shown(got)} and {shown(other)} have no version in common",
        f"ranges of {one.name} with a common version",
        "declare one range that holds for every use",
    )


def _meet(first: Dependency, second: Dependency) -> bool:
    """Whether there is an environment in which both entries certainly apply."""
    if first.name != second.name:
        return False
    always = not first.marker or not second.marker
    return always or first.marker == second.marker or (first.applies and second.applies)


def _conflict_with_installed(declared: Dependencies) -> PackageProblem | None:
    """A declared range that an installed, declared dependency itself rules out."""
    ranges = [one for one in declared.requires if one.applies]
    for one, other in permutations(ranges, 2):
        found = installed(one.name)
        if found is None or not one.range.contains(found.version, prereleases=True):
            continue
        for needed in _required(found, one.requirement.extras, other.name):
            if (other.range & needed.specifier).is_unsatisfiable():
                return _ruled_out(other, needed, f"{one.name} {found.version}")
    return None


def _ruled_out(declared: Dependency, needed: Requirement, by: str) -> PackageProblem:
    return PackageProblem(
        "disjoint-with-installed",
        declared.where,
        f"{shown(str(declared.requirement))}, but {by}, which is installed and within its own "
        f"declared range, requires {needed.name}{needed.specifier}",
        f"a range of {declared.name} that {by} accepts",
        "correct the range, or narrow that of the dependency to versions that accept it",
    )


def _required(found: Installed, extras: set[str], name: str) -> Iterator[Requirement]:
    """What an installed distribution requires of another one, under the extras in use."""
    for text in found.requires:
        begin = _NAME.match(text)
        if begin is None or canonicalize_name(begin.group()) != name:
            continue
        try:
            needed = Requirement(text)
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras)):
                yield needed
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            continue  # metadata of somebody else's distribution, not of the package


def _unsatisfied(one: Dependency) -> PackageProblem | None:
    found = installed(one.name)
    if found is not None and one.range.contains(found.version, prereleases=True):
        return None
    got = f"{one.name} {found.version} is installed" if found else f"{one.name} is not installed"
    return PackageProblem(
        "installed-version" if found else "not-installed",
        one.where,
        got,
        shown(str(one.requirement)),
        "check in an environment of the declared versions, or correct the declaration if the "
        "model works with this one",
    )
