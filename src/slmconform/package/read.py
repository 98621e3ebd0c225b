"""A package: everything that its files say, read on first use and without running anything."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, cast

from slmconform.engine.registry import NotExamined
from slmconform.package.folder import Folder, UnreadablePackage, scan
from slmconform.package.hub_cache import LAYOUT, blobs_of
from slmconform.package.problem import PackageProblem
from slmconform.package.weights import INDEX, Weights
from slmconform.standard.files import EVIDENCE, MANIFEST

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from slmconform.package.chat_templates import ChatTemplates
    from slmconform.package.licence import LicenceFiles
    from slmconform.package.tokenizer import TokenizerFiles
    from slmconform.standard.evidence import Evidence
    from slmconform.standard.manifest import Manifest

CONFIG = "config.json"


class Package:
    """One directory; raises `UnreadablePackage` where there is no directory to read.

    ``ignore`` names documents to be treated as absent: "manifest" while a new one is inferred,
    "evidence" while a new one is recorded. ``hub_cache``: it is a snapshot in the cache of a hub
    client, whose links are followed into the blobs of that cache.
    """

    def __init__(
        self, root: Path | str, *, ignore: Collection[str] = (), hub_cache: bool = False
    ) -> None:
        self._ignore = frozenset(ignore)
        blobs = blobs_of(root) if hub_cache else None
        self.folder: Folder = scan(root, blobs)
        if hub_cache and blobs is None:
            raise UnreadablePackage(
                f"{root}: no snapshot of a hub cache; --hub-cache is for {LAYOUT}"
            )
        self.root: Path = self.folder.root

    @property
    def hub_cache(self) -> bool:
        """Whether links are followed into the blobs of a hub client's cache."""
        return self.folder.blobs is not None

    @property
    def has_manifest(self) -> bool:
        """Whether there is a ``slm.toml``, valid or not."""
        return MANIFEST in self.folder.entries and "manifest" not in self._ignore

    @property
    def has_evidence(self) -> bool:
        """Whether there is a ``conformance/evidence.json``, valid or not."""
        return EVIDENCE in self.folder.entries and "evidence" not in self._ignore

    @cached_property
    def _manifest(self) -> Manifest | PackageProblem | None:
        from slmconform.package.documents import read_manifest

        if not self.has_manifest:
            return None
        try:
            return read_manifest(self.folder)
        except PackageProblem as problem:
            return problem

    @cached_property
    def _evidence(self) -> Evidence | PackageProblem | None:
        from slmconform.package.documents import read_evidence

        if not self.has_evidence:
            return None
        try:
            return read_evidence(self.folder)
        except PackageProblem as problem:
            return problem

    @property
    def manifest(self) -> Manifest | None:
        """The manifest; None where there is none or it is not valid."""
        return None if isinstance(self._manifest, PackageProblem) else self._manifest

    @property
    def manifest_problem(self) -> PackageProblem | None:
        """What is wrong with the manifest, if anything."""
        return self._manifest if isinstance(self._manifest, PackageProblem) else None

    @property
    def evidence(self) -> Evidence | None:
        """The evidence; None where there is none or it is not valid."""
        return None if isinstance(self._evidence, PackageProblem) else self._evidence

    @property
    def evidence_problem(self) -> PackageProblem | None:
        """What is wrong with the evidence, if anything."""
        return self._evidence if isinstance(self._evidence, PackageProblem) else None

    def require_manifest(self) -> Manifest:
        """The manifest; raises `NotExamined` where there is none to read."""
        if self.manifest is None:
            state = "not valid (SLM-MAN-001)" if self.has_manifest else "not there"
            raise NotExamined(f"{MANIFEST} is {state}")
        return self.manifest

    def require_evidence(self) -> Evidence:
        """The evidence; raises `NotExamined` where there is none to read."""
        if self.evidence is None:
            state = "not valid (SLM-MAN-005)" if self.has_evidence else "not there"
            raise NotExamined(f"{EVIDENCE} is {state}")
        return self.evidence

    def json(self, path: str) -> object:
        """A JSON file, read strictly and once; raises `PackageProblem`. Not to be changed."""
        return self.folder.json(path)

    def table(self, path: str) -> dict[str, object] | None:
        """A JSON file that holds an object; None where it is absent or anything else."""
        if path not in self.folder.entries:
            return None
        try:
            value = self.json(path)
        except PackageProblem:
            return None
        return cast("dict[str, object]", value) if isinstance(value, dict) else None

    @property
    def config(self) -> dict[str, object] | None:
        """``config.json``; None where it is absent or unreadable."""
        return self.table(CONFIG)

    @cached_property
    def weights(self) -> Weights:
        """The safetensors weights; their headers are read on first use."""
        return Weights(self.folder, self.table(INDEX))

    @cached_property
    def tokenizer(self) -> TokenizerFiles:
        """The tokenizer's files."""
        from slmconform.package.tokenizer import read

        return read(self.folder)

    @cached_property
    def chat_templates(self) -> ChatTemplates:
        """The chat templates of the tokenizer."""
        from slmconform.package.chat_templates import read

        return read(self.folder)

    @cached_property
    def licence(self) -> LicenceFiles:
        """The licence texts and the model card's metadata."""
        from slmconform.package.licence import read

        return read(self.folder)

    @property
    def sources(self) -> list[str]:
        """The Python source files."""
        return [path for path in self.folder.files() if path.endswith(".py")]
