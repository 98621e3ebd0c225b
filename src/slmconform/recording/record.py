"""`slmconform record`: the evidence of a package, written whole or not at all."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmconform import __version__
from slmconform.engine.command import cache_option, command
from slmconform.engine.confinement import confinement
from slmconform.engine.judging import judge
from slmconform.engine.model_process import UNTRUSTED_CODE
from slmconform.engine.options import CheckOptions, CouldNotRun, ProcessOptions, Watch
from slmconform.engine.state import own_code
from slmconform.harmless import printable
from slmconform.isolation.client import ForkServer, shared_server
from slmconform.isolation.scratch import scratch_folder
from slmconform.package.folder import UnreadablePackage, scan
from slmconform.package.problem import PackageProblem
from slmconform.package.read import Package
from slmconform.package.variants import files_of_variants
from slmconform.recording.asking import NoAnswer, ask
from slmconform.report.writing import Unwritable, require_writable, write_whole
from slmconform.standard.catalogue import catalogue
from slmconform.standard.evidence import (
    Evidence,
    FileRecord,
    ModelRecord,
    TensorRecord,
    TrainingRecord,
)
from slmconform.standard.files import EVIDENCE, EVIDENCE_LIMIT, EVIDENCE_TENSORS, MANIFEST
from slmconform.standard.manifest import Manifest
from slmconform.standard.report import Outcome, Report

LEAST = "reproducible"  # what is recorded in any case
SENT_LIMIT = 16 * EVIDENCE_LIMIT  # bytes that are read of what the model's process leaves
IGNORED = ("evidence",)  # what is there is about to be replaced


class RecordingRefused(Exception):
    """The package is not fit to be recorded; ``report`` says what fails, where that is why."""

    def __init__(self, reason: str, exit_status: int, report: Report | None = None) -> None:
        super().__init__(reason)
        self.exit_status, self.report = exit_status, report


@dataclass(frozen=True, kw_only=True)
class RecordOptions(ProcessOptions):
    """What a caller may choose; ``time_budget`` in seconds.

    The budget is for the reference training: it lowers the number of steps, never below ten.
    """

    time_budget: float | None = None


@dataclass(frozen=True)
class Recorded:
    """The path of ``evidence.json``, and sentences for the person who has to go on."""

    evidence: Path
    lines: tuple[str, ...]


def record(
    path: Path | str,
    options: RecordOptions | None = None,
    *,
    watch: Watch = lambda _: None,
    server: ForkServer | None = None,
) -> Recorded:
    """Check what needs no reference, measure the references, and write both files at once.

    Other device classes that were recorded for the same weights, configuration and float64
    outputs are kept, with their training where that is of the same recipe. Raises
    `RecordingRefused`, `CouldNotRun`, `Unwritable` or `UnreadablePackage`.
    """
    options = options or RecordOptions()
    package = Package(path, ignore=IGNORED, hub_cache=options.hub_cache)
    _require_recordable(package, options)
    server = server or shared_server()
    _require_sound(package, options, watch, server)
    with scratch_folder() as scratch:
        seen = _measure(package, options, Path(scratch), watch, server)
        try:
            # The process owns the folder: a link or a FIFO in it is not followed.
            tensors = scan(scratch).read("evidence.safetensors", SENT_LIMIT)
            evidence = _evidence(package, seen, tensors)
        except (PackageProblem, UnreadablePackage, ValueError, KeyError, TypeError) as error:
            raise RecordingRefused(f"the model's process sent no evidence: {error}", 1) from error
    content = (evidence.model_dump_json(indent=1) + "\n").encode("utf-8")
    if max(len(content), len(tensors)) > EVIDENCE_LIMIT:
        raise RecordingRefused(f"the evidence is larger than {EVIDENCE_LIMIT} bytes", 2)
    (package.root / EVIDENCE).parent.mkdir(exist_ok=True)
    write_whole({package.root / EVIDENCE_TENSORS: tensors, package.root / EVIDENCE: content})
    lines = [f"recorded {printable(str(package.root / EVIDENCE), 4096)}"]
    lines[0] += f" ({len(content) / 1024:.0f} KiB and its tensors)"
    lines += _steps(package, evidence, options.time_budget)
    words = ["check", str(path), *cache_option(options.hub_cache)]
    lines.append(f"next: {command('slmconform', *words)}")
    return Recorded(package.root / EVIDENCE, tuple(lines))


def _steps(package: Package, evidence: Evidence, budget: float | None) -> list[str]:
    """How far the reference training was recorded, where that is not to its end."""
    recipe, trained = package.require_manifest().training, evidence.training
    if recipe is None or trained is None or trained.steps == recipe.steps:
        return []
    within = f" and fit {budget:g} s (but at least ten)" if budget else ""
    return [
        f"of the training's {recipe.steps} steps, {trained.steps} are recorded: as many as can be"
        f" compared{within}"
    ]


def _require_recordable(package: Package, options: RecordOptions) -> None:
    """What can be refused before the model is run."""
    declared(package)
    entry = own_code(package)
    if entry and not options.trust_code:
        raise RecordingRefused(f"{entry} {UNTRUSTED_CODE}", 3)
    folder = (package.root / EVIDENCE).parent
    if folder.exists() and not folder.is_dir():
        raise Unwritable(f"{folder} is a file; evidence needs a directory of this name")
    require_writable(package.root / EVIDENCE if folder.exists() else folder)


def declared(package: Package) -> Manifest:
    """The manifest of a package; raises `CouldNotRun` with what to do where there is none."""
    if package.manifest is None:
        state = "is not valid: see `slmconform check`" if package.has_manifest else "does not exist"
        fix = "" if package.has_manifest else "; `slmconform init` writes one"
        raise CouldNotRun(f"{package.root / MANIFEST} {state}{fix}")
    return package.manifest


def _require_sound(
    package: Package, options: RecordOptions, watch: Watch, server: ForkServer
) -> None:
    """Nothing that can be asked without a reference may fail."""
    chosen = CheckOptions(profile=_highest(package), ignore=IGNORED, **options.process)
    # The same package, not its path: its weights are hashed once for the check and the evidence.
    report = judge(package, chosen, watch, server, time.perf_counter())
    if report.failures:
        ids = ", ".join(r.id for r in report.failures)
        raise RecordingRefused(f"the package does not hold: {ids}", 1, report)
    claimed = catalogue().profiles[max(declared(package).profile, LEAST, key=_rank)].ids
    open_ = (r for r in report.results if r.outcome is Outcome.NOT_EXAMINED)
    unknown = [r for r in open_ if r.id in claimed]
    if unknown:
        raise RecordingRefused(unknown[0].detail, 3, report)


def _measure(
    package: Package, options: RecordOptions, scratch: Path, watch: Watch, server: ForkServer
) -> dict[str, Any]:
    try:
        seen = ask(
            server,
            "measure",
            {
                "package": str(package.root),
                "device": options.device,
                "ignore": list(IGNORED),
                "hub_cache": package.hub_cache,
                "time_budget": options.time_budget,
            },
            confinement(package, options, scratch),
            watch=watch,
        )
    except NoAnswer as error:
        raise RecordingRefused(f"the measurement broke off: {error}", 1) from None
    if "refused" in seen:
        raise RecordingRefused(str(seen["refused"]), 1)
    return seen


def _rank(profile: str) -> int:
    return list(catalogue().profiles).index(profile)


def _highest(package: Package) -> str:
    """The profile that what is declared can be asked for, whatever the author claims so far."""
    manifest = package.require_manifest()
    if manifest.evaluation or manifest.variants:
        return "evaluated"
    return "trainable" if manifest.training else LEAST


def _evidence(package: Package, seen: dict[str, Any], tensors: bytes) -> Evidence:
    manifest = package.require_manifest()
    name, device = seen.pop("device")
    found = Evidence(
        spec=manifest.spec,
        tool=f"slmconform {__version__}",
        model=ModelRecord(
            name=manifest.model.name, version=manifest.model.version, task=manifest.model.task
        ),
        files=_files(package),
        tensors=_tensors(package),
        weights_digest=package.weights.digest,
        evidence_tensors=hashlib.sha256(tensors).hexdigest(),
        devices={name: device},
        **seen,
    )
    earlier = Package(package.root, hub_cache=package.hub_cache).evidence
    same = earlier is not None and all(
        getattr(earlier, key) == getattr(found, key)
        for key in ("weights_digest", "configuration", "inputs", "evidence_tensors")
    )
    if earlier is None or not same:
        return found
    kept = earlier.devices
    if not _same_training(earlier.training, found.training):
        kept = {of: row.model_copy(update={"training": None}) for of, row in kept.items()}
    return found.model_copy(update={"devices": {**kept, **found.devices}})


def _same_training(one: TrainingRecord | None, other: TrainingRecord | None) -> bool:
    """Whether what a device did in one training can be held against the other."""
    keys = ("recipe", "data_sha256", "steps", "losses")
    return (
        one is not None
        and other is not None
        and all(getattr(one, key) == getattr(other, key) for key in keys)
    )


def _files(package: Package) -> list[FileRecord]:
    folder, variants = package.folder, files_of_variants(package)
    return [
        FileRecord(path=path, size=folder.entries[path].size, sha256=folder.sha256(path))
        for path in folder.recorded()
        if path not in variants
    ]


def _tensors(package: Package) -> list[TensorRecord]:
    scanned = package.weights.scan()
    return [
        TensorRecord(
            name=name, dtype=entry.dtype, shape=list(entry.shape), sha256=scanned[name].sha256
        )
        for name, entry in sorted(package.weights.tensors.items())
    ]
