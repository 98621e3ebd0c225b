"""WGT: safetensors files, index, values, dtypes, digests, parameter count, headers and layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmconform.engine.registry import BlockedBy, Nonconformance, NotExamined, Stage, check
from slmconform.package.formats import executable
from slmconform.package.layers import layer_problems
from slmconform.package.problem import PackageProblem, printable, several, shown
from slmconform.package.read import CONFIG
from slmconform.package.sharding import index_problems
from slmconform.package.tensors import FLOAT_NAMES
from slmconform.package.weights import INDEX, SINGLE

if TYPE_CHECKING:
    from slmconform.package.read import Package
    from slmconform.package.tensors import TensorEntry

SHORT_NAMES = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "torch.float32": "float32",
    "torch.float16": "float16",
    "torch.bfloat16": "bfloat16",
    "torch.float64": "float64",
}


@check("SLM-WGT-001", stage=Stage.STATIC, needs=("SLM-PKG-001", "SLM-PKG-002"))
def weights_are_safetensors(package: Package) -> str:
    """The weights are well-formed safetensors within the limits of the standard."""
    weights = package.weights
    named = (package.config or {}).get("transformers_weights", SINGLE)
    if named not in (SINGLE, INDEX):
        raise Nonconformance(
            code="weights-elsewhere",
            where=f"{CONFIG}: transformers_weights",
            got=shown(named if isinstance(named, str) else repr(named)),
            want=f"{SINGLE}, or shards with {INDEX}",
            why="the file that is loaded would not be the one that is checked",
            fix=f"rename the file to {SINGLE} and remove the key",
        )
    if not weights.files and INDEX in package.folder.entries and weights.index is None:
        raise NotExamined(f"{INDEX} cannot be read (SLM-CFG-001)")
    # Pickles beside good weights are SLM-PKG-003's finding alone; in their place they hide them.
    if _executable(package, weights.files or package.folder.files()):
        raise BlockedBy("SLM-PKG-003")
    if not weights.files:
        entry = package.folder.entries.get(SINGLE)
        raise Nonconformance(
            code="no-weights",
            where=SINGLE,
            got=f"{SINGLE} is a {entry.kind}" if entry else f"no {SINGLE}",
            want=f"{SINGLE}, or shards with {INDEX}",
            fix="save the weights as safetensors: model.save_pretrained(folder)",
        )
    if weights.problems:
        raise several(weights.problems).finding()
    return f"{len(weights.tensors)} tensors in {len(weights.files)} files"


def _executable(package: Package, paths: Sequence[str]) -> bool:
    """Whether one of the files is executable or cannot be read: SLM-PKG-003 reports both."""
    try:
        return any(executable(package.folder, path) for path in paths)
    except PackageProblem:
        return True


@check("SLM-WGT-002", stage=Stage.STATIC, needs=("SLM-WGT-001", "SLM-CFG-001"))
def index_and_shards_agree(package: Package) -> str:
    """The index names every tensor of every shard exactly once and no other."""
    if problems := index_problems(package.weights, package.folder):
        raise several(problems).finding()
    if INDEX not in package.folder.entries:
        return "one file, no index"
    return f"{len(package.weights.weight_map)} tensors in {len(package.weights.files)} shards"


@check("SLM-WGT-003", stage=Stage.STATIC, needs=("SLM-WGT-001",))
def weights_are_finite(package: Package) -> str:
    """Every floating-point weight is finite, and every boolean one is 0 or 1."""
    weights = package.weights
    bad = {name: seen for name, seen in weights.scan().items() if seen.bad}
    if not bad:
        return f"{weights.parameters / 1e6:.1f} M values in {len(weights.tensors)} tensors"
    name, seen = min(bad.items())
    entry = weights.tensors[name]
    what = "booleans other than 0 and 1" if entry.dtype == "BOOL" else "not finite"
    total = sum(one.bad for one in bad.values())
    raise Nonconformance(
        code="bad-boolean" if entry.dtype == "BOOL" else "not-finite",
        where=f"{entry.file}: {name}{_position(entry, seen.first_bad)}",
        got=f"{seen.bad} of {entry.values} values {what}"
        + (f", {total} in {len(bad)} tensors" if len(bad) > 1 else ""),
        want="finite values, and booleans of 0 or 1",
        why="a NaN or an infinity spreads to every output that it reaches",
        fix="take the weights from a step before the training diverged",
    )


@check("SLM-WGT-004", stage=Stage.STATIC, needs=("SLM-WGT-001",))
def dtypes_are_declared(package: Package) -> str:
    """Every floating-point tensor has a declared dtype."""
    declared, source = _declared_dtypes(package)
    floating = [e for e in package.weights.tensors.values() if e.floating]
    other = [e for e in floating if FLOAT_NAMES.get(e.dtype) not in declared]
    if not other:
        used = sorted({FLOAT_NAMES[e.dtype] for e in floating})
        return f"{len(floating)} tensors in {' and '.join(used) or 'no floating-point dtype'}"
    if not source:
        raise NotExamined("neither slm.toml nor config.json declares a dtype")
    first = other[0]
    name = FLOAT_NAMES.get(first.dtype, first.dtype)
    raise Nonconformance(
        code="undeclared-dtype",
        where=f"{first.file}: {first.name}",
        got=f"{name}" + (f", as {len(other)} of {len(floating)} tensors" if other[1:] else ""),
        want=f"{' or '.join(sorted(declared))}, as {source} says",
        fix=f'declare other_dtypes = ["{name}"] in [loader], or convert the tensors',
    )


def _declared_dtypes(package: Package) -> tuple[set[str], str]:
    """The declared dtypes and who declares them; float32 and nobody where none is named."""
    if package.manifest:
        loader = package.manifest.loader
        return {loader.dtype, *loader.other_dtypes}, "slm.toml"
    config = package.config or {}
    inner = config.get("text_config")
    scopes = [config, inner] if isinstance(inner, dict) else [config]
    named = [scope.get(key) for scope in scopes for key in ("dtype", "torch_dtype")]
    names = {SHORT_NAMES.get(name, name) for name in named if isinstance(name, str)}
    return names | {"float32"}, "config.json" if names else ""


@check(
    "SLM-WGT-005",
    stage=Stage.STATIC,
    needs=("SLM-MAN-005", "SLM-WGT-001", "SLM-WGT-002", "SLM-WGT-004"),
)
def tensors_are_those_recorded(package: Package) -> str:
    """The names, shapes and dtypes are those that evidence lists."""
    recorded = {r.name: (r.dtype, tuple(r.shape)) for r in package.require_evidence().tensors}
    present = {n: (e.dtype, e.shape) for n, e in package.weights.tensors.items()}
    gone = sorted(recorded.keys() - present.keys())
    added = sorted(present.keys() - recorded.keys())
    changed = sorted(n for n in recorded.keys() & present.keys() if recorded[n] != present[n])
    if not (gone or added or changed):
        return f"{len(present)} tensors"
    parts = []
    if gone:
        parts.append(f"{_listed(gone)} missing")
    if added:
        parts.append(f"{_listed(added)} added")
    for name in changed[:3]:
        (was_dtype, was), (now_dtype, now) = recorded[name], present[name]
        parts.append(f"{name} is {now_dtype} {list(now)}, recorded {was_dtype} {list(was)}")
    raise Nonconformance(
        code="tensor-gone" if gone else "tensor-added" if added else "tensor-changed",
        where=printable((gone + added + changed)[0]),
        got="; ".join(parts),
        want=f"the {len(recorded)} tensors of the recording",
        fix="restore the weights, or raise model.version and record again",
    )


@check("SLM-WGT-006", stage=Stage.STATIC, needs=("SLM-WGT-003", "SLM-WGT-005"))
def values_are_those_recorded(package: Package) -> str:
    """The bytes of every tensor have the recorded digest."""
    evidence = package.require_evidence()
    recorded = {record.name: record.sha256 for record in evidence.tensors}
    seen = package.weights.scan()
    changed = sorted(name for name in recorded if seen[name].sha256 != recorded[name])
    if changed:
        raise Nonconformance(
            code="weights-changed",
            where=f"{package.weights.tensors[changed[0]].file}: {changed[0]}",
            got=f"{len(changed)} of {len(recorded)} tensors hold other values: {_listed(changed)}",
            want="the bytes of the recording",
            fix="restore the weights, or raise model.version and record again",
        )
    digest = package.weights.digest
    if digest != evidence.weights_digest:
        raise Nonconformance(
            code="weights-digest",
            where="conformance/evidence.json: weights_digest",
            got=f"{evidence.weights_digest[:16]}…",
            want=f"{digest[:16]}…, the digest of the tensors it lists",
            fix="record again: `slmconform record`",
        )
    return f"digest {digest[:16]}… over {len(recorded)} tensors"


@check("SLM-WGT-007", stage=Stage.STATIC, needs=("SLM-MAN-001", "SLM-WGT-001", "SLM-WGT-005"))
def parameter_count_is_true(package: Package) -> str:
    """The declared number of parameters is that of the weights."""
    declared = package.require_manifest().model.parameters
    counted = package.weights.parameters
    if declared is None:
        return f"{counted} in the files, none declared"
    if declared != counted:
        raise Nonconformance(
            code="parameter-count",
            where="slm.toml: model.parameters",
            got=shown(declared),
            want=f"{counted}, the number of floating-point values in the weights",
            fix=f"write parameters = {counted}, or remove the line",
        )
    return f"{counted} parameters"


@check("SLM-WGT-008", stage=Stage.STATIC, needs=("SLM-WGT-001",))
def headers_are_canonical(package: Package) -> str:
    """The headers of the weights are as the reference writer has them."""
    weights = package.weights
    if weights.oddities:
        raise several(weights.oddities).finding()
    return f"{len(weights.files)} headers"


@check(
    "SLM-WGT-009",
    stage=Stage.STATIC,
    needs=("SLM-WGT-001", "SLM-WGT-002", "SLM-WGT-003", "SLM-WGT-006"),
)
def layers_have_weights_of_their_own(package: Package) -> str:
    """No layer is constant, and none is the copy of another."""
    weights = package.weights
    if problems := list(layer_problems(weights.tensors, weights.scan())):
        raise several(problems).finding()
    return f"{len(weights.tensors)} tensors looked at"


def _position(entry: TensorEntry, flat: int) -> str:
    """The index of a value along every axis, as ``[2, 5]``."""
    index = []
    for size in reversed(entry.shape):
        flat, at = divmod(flat, size)
        index.append(at)
    return str(index[::-1]) if index else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return printable(", ".join(names[:3]))[:600] + more
