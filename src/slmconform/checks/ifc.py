"""IFC: the model loads completely, and its interface is the declared one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slmconform.checks.cfg import LOADABLE
from slmconform.engine.registry import (
    Inconclusive,
    Nonconformance,
    NotApplicable,
    NotExamined,
    Stage,
    check,
)

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench
    from slmconform.model.loaded import Outputs
    from slmconform.standard.manifest import OutputSpec


def few(names: tuple[str, ...] | list[str]) -> str:
    """The first three names and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


@check("SLM-IFC-001", stage=Stage.DYNAMIC, needs=(*LOADABLE, "SLM-CFG-006"))
def ties_are_kept(bench: Bench) -> str:
    """Parameters that share storage are those that the record or the configuration ties."""
    from slmconform.model.loaded import CandidateError

    try:
        model = bench.model
    except CandidateError as error:
        raise NotApplicable("the model does not load: see SLM-IFC-002") from error
    ties, evidence = model.ties(), bench.package.evidence
    if evidence is not None:
        if ties != evidence.ties:
            raise Nonconformance(
                code="tie-changed",
                got=f"{_groups(ties)} after loading",
                want=f"{_groups(evidence.ties)}, as recorded",
                where="config.json: tie_word_embeddings",
                why="a broken tie leaves the second tensor at random values",
                fix="restore tie_word_embeddings, or ship both tensors and record again",
            )
        return f"{_groups(ties)}, as recorded"
    tied = _embeddings_tied(model.module)
    if tied is None:
        return f"{_groups(ties)}; the configuration asks for none"
    if not tied:
        raise Nonconformance(
            code="tie-lost",
            got="input and output embeddings are two tensors",
            want="one tensor, as tie_word_embeddings = true says",
            where="config.json: tie_word_embeddings",
            fix="set tie_word_embeddings to false and ship both tensors, or save the model tied",
        )
    return f"{_groups(ties)}, as the configuration asks"


def _groups(ties: list[list[str]]) -> str:
    return "; ".join(" = ".join(group) for group in ties) or "no ties"


def _embeddings_tied(module: Any) -> bool | None:
    """Whether input and output embeddings share storage; None where nothing asks for it.

    A class that ties nothing does not heed the configuration either.
    """
    from slmconform.model.probes import text_config

    if not getattr(module, "_tied_weights_keys", None):
        return None
    config: Any = getattr(module, "config", None)
    if not (_asks(config) and _asks(text_config(config))):
        return None
    try:
        output, inputs = module.get_output_embeddings(), _input_embeddings(module)
    except (NotImplementedError, AttributeError):
        return None
    weight = getattr(output, "weight", None)
    if weight is None:
        return None
    given = [one for one in inputs if one.shape == weight.shape]
    return any(one.data_ptr() == weight.data_ptr() for one in given) if given else None


def _input_embeddings(module: Any) -> list[Any]:
    """The tables of the model and of its decoder, which need not be the same."""
    parts = [module, module.get_decoder()] if hasattr(module, "get_decoder") else [module]
    tables = [part.get_input_embeddings() for part in parts if part is not None]
    return [table.weight for table in tables if getattr(table, "weight", None) is not None]


def _asks(config: object) -> bool:
    return getattr(config, "tie_word_embeddings", False) is True


@check("SLM-IFC-002", stage=Stage.DYNAMIC, needs=("SLM-IFC-001",))
def loads_completely(bench: Bench) -> str:
    """The model loads offline, with every tensor in its place."""
    from slmconform.model.loaded import CandidateError

    try:
        model = bench.model
    except CandidateError as error:
        raise Nonconformance(
            code="does-not-load",
            got=str(error),
            want="a model that loads from its own folder, without network",
            where=f"{bench.loader.kind} loader, {bench.loader.class_ or bench.loader.entry}",
            fix="load the folder by hand with this class and mend what the library says",
        ) from error
    loading = model.loading
    maker = "the class that the manifest or config.json names"
    if bench.loader.kind == "torch":
        maker = f"the module that {bench.loader.entry} builds"
    for code, names, why in (
        ("missing", loading.missing, "no file fills these: they are left at random values"),
        ("unexpected", loading.unexpected, "the model ignores these: a part of it is lost"),
        ("mismatched", loading.mismatched, "other shapes: these are left at random values"),
    ):
        if names:
            raise Nonconformance(
                code=f"{code}-tensors",
                got=f"{len(names)} {code}: {few(names)}",
                want="every tensor of the files in the model, and the reverse",
                where=f"{type(model.module).__name__}",
                why=why,
                fix=f"save the weights anew from {maker}",
            )
    count = sum(p.numel() for p in model.module.parameters())
    return f"{type(model.module).__name__}, {count:,} parameters, {bench.loader.dtype}"


@check("SLM-IFC-003", stage=Stage.DYNAMIC, needs=("SLM-IFC-002", "SLM-WGT-003"))
def nothing_uninitialised(bench: Bench) -> str:
    """Every parameter and buffer has a defined value."""
    from slmconform.measure.forward import undefined

    names = undefined(bench)
    if names:
        raise Nonconformance(
            code="uninitialised",
            got=f"{len(names)} hold uninitialised memory: {few(names)}",
            want="a value from the files or computed on loading",
            where=names[0],
            why="the loader allocates this tensor and nothing fills it: each load sees garbage",
            fix="register the buffer as persistent and ship it, or compute it when loading",
        )
    return "no parameter or buffer is left as allocated"


@check("SLM-IFC-004", stage=Stage.DYNAMIC, needs=("SLM-IFC-003", "SLM-WGT-006"))
def values_are_the_files(bench: Bench) -> str:
    """Loaded parameters are bit for bit the tensors of the files, after the declared cast."""
    from slmconform.measure.loading import compared

    found = compared(bench)
    if found.different:
        raise Nonconformance(
            code="values-differ",
            got=f"{len(found.different)} tensors differ: {few(found.different)}",
            want="the values in the safetensors files",
            where=found.different[0],
            why="something overwrites these after reading: a tie, an initialisation, a conversion",
            fix="find what changes them; ship the values that the model really uses",
        )
    if found.unaccounted:
        raise Inconclusive(
            f"{len(found.unaccounted)} tensors cannot be traced between files and model: "
            f"{few(found.unaccounted)}"
        )
    rest = f", {found.rearranged} rearranged" if found.rearranged else ""
    return f"{found.named} tensors bitwise{rest}"


@check("SLM-IFC-005", stage=Stage.DYNAMIC, needs=("SLM-IFC-003",))
def outputs_as_declared(bench: Bench) -> str:
    """Outputs have their declared names, dtypes and axes at three sizes."""
    from slmconform.measure.forward import SIZES, native
    from slmconform.model import probes
    from slmconform.model.loaded import CandidateError

    shown = ""
    for which in SIZES:
        sizes = probes.sizes(bench.interface, which)
        try:
            outputs = native(bench, which)
        except CandidateError as error:
            raise Nonconformance(
                code="forward-raises",
                got=str(error),
                want="outputs for every declared size",
                where=f"forward on the {which} inputs: {_sizes(sizes)}",
                fix="mend the model, or declare the axes that it really supports",
            ) from error
        inputs = bench.inputs(which)
        for spec in bench.interface.inputs:
            for axis, size in zip(spec.axes, inputs[spec.name].shape, strict=True):
                if isinstance(axis, str):
                    sizes[axis] = int(size)
        for output in bench.interface.outputs:
            _require_output(bench, output, outputs, sizes)
        shown = shown or ", ".join(outputs)
    ranges = [f"{n} {a.min}..{a.max}" for n, a in bench.interface.axes.items()]
    return f"{shown} at {', '.join(ranges) or 'the declared sizes'}"


def _sizes(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def _require_output(
    bench: Bench, spec: OutputSpec, outputs: Outputs, sizes: dict[str, int]
) -> None:
    if spec.name not in outputs:
        raise Nonconformance(
            code="output-missing",
            got=f"outputs {', '.join(outputs) or 'none'}",
            want=f"an output named {spec.name}",
            where=f"slm.toml: interface.outputs, {spec.name}",
            fix="return it, or declare the outputs that are returned",
        )
    value = outputs[spec.name]
    dtype = str(value.dtype).removeprefix("torch.")
    cast = bench.options.dtype if bench.options.dtype and dtype == bench.options.dtype else None
    if dtype != spec.dtype and cast is None:
        raise Nonconformance(
            code="output-dtype",
            got=dtype,
            want=spec.dtype,
            where=f"output {spec.name}",
            fix="declare the dtype that is returned, or cast in the model",
        )
    want = [sizes.get(a, f"any {a}") if isinstance(a, str) else a for a in spec.axes]
    got = list(value.shape)
    fits = len(got) == len(want) and all(
        isinstance(w, str) or g == w for g, w in zip(got, want, strict=True)
    )
    if not fits:
        raise Nonconformance(
            code="output-shape",
            got=f"shape {got}",
            want=f"{spec.axes} = {want}",
            where=f"output {spec.name}",
            fix="declare the axes that are returned, or mend the model",
        )


@check("SLM-IFC-006", stage=Stage.DYNAMIC, needs=("SLM-IFC-005",))
def outputs_are_finite(bench: Bench) -> str:
    """Every output at every size is finite."""
    from slmconform.measure.compare import place
    from slmconform.measure.forward import SIZES, native

    allowed = {o.name for o in bench.interface.outputs if o.negative_infinity}
    for which in SIZES:
        for name, value in native(bench, which).items():
            bad = ~value.isfinite()
            if name in allowed:
                bad &= value != float("-inf")
            if bool(bad.any()):
                flat = int(bad.int().argmax())
                raise Nonconformance(
                    code="not-finite",
                    got=f"{int(bad.sum())} of {bad.numel()} values are NaN or infinite",
                    want="finite values",
                    where=f"{place(name, flat, value.shape)} on the {which} inputs",
                    fix="look for an overflow, a division by zero or an unmasked -inf",
                )
    return "all values finite at the smallest, typical and largest size"


@check("SLM-IFC-007", stage=Stage.DYNAMIC, needs=("SLM-IFC-005",))
def inputs_left_alone(bench: Bench) -> str:
    """A forward pass changes none of its inputs."""
    from slmconform.measure.forward import side_effects

    touched, _ = side_effects(bench)
    if touched:
        raise Nonconformance(
            code="input-changed",
            got=f"changed in place: {few(touched)}",
            want="inputs as they were passed",
            where=f"input {touched[0]}",
            fix="replace the in-place operation on it in forward",
        )
    return "inputs bitwise unchanged"


@check("SLM-IFC-008", stage=Stage.DYNAMIC, needs=("SLM-IFC-005",))
def parameters_left_alone(bench: Bench) -> str:
    """A forward pass in evaluation mode changes no parameter or persistent buffer."""
    from slmconform.measure.forward import side_effects

    _, changed = side_effects(bench)
    if changed:
        raise Nonconformance(
            code="parameter-changed",
            got=f"{len(changed)} changed by one forward pass: {few(changed)}",
            want="parameters and persistent buffers as loaded",
            where=changed[0],
            fix="keep running state out of forward in evaluation mode",
        )
    return "parameters and buffers bitwise unchanged"


@check("SLM-IFC-009", stage=Stage.DYNAMIC, needs=("SLM-DET-002",))
def saving_keeps_the_model(bench: Bench) -> str:
    """Saved and loaded again, the model gives bitwise the same outputs."""
    from slmconform.measure.compare import bitwise
    from slmconform.measure.forward import native, saved_and_reloaded
    from slmconform.model.loaded import CandidateError

    try:
        again = saved_and_reloaded(bench)
    except CandidateError as error:
        raise Nonconformance(
            code="does-not-save",
            got=str(error),
            want="a model that can be saved and loaded",
            where=error.phase,
            fix="call save_pretrained by hand and mend what the library says",
        ) from error
    gap = bitwise(again, native(bench, "typical"))
    if gap:
        raise Nonconformance(
            code="reload-differs",
            got=gap,
            want="bitwise equal outputs after saving and loading",
            where=gap.partition(":")[0],
            why="some state of the model is not saved, or is saved changed",
            fix="register the state as a parameter or persistent buffer",
        )
    return "outputs bitwise equal after saving and loading"


@check("SLM-IFC-010", stage=Stage.DYNAMIC, needs=("SLM-IFC-005",))
def cache_as_declared(bench: Bench) -> str:
    """A key-value cache is returned if and only if it is declared."""
    from slmconform.model.inference import returns_cache

    declared = bench.interface.capabilities.kv_cache
    if bench.loader.kind != "transformers" and declared:
        raise NotExamined("the standard does not say how own code takes and returns a cache")
    if bench.task not in ("causal-lm", "seq2seq-lm") or bench.loader.kind != "transformers":
        raise NotApplicable("only generating transformers models have a key-value cache")
    returned = returns_cache(bench.model, bench.inputs("typical"), bench.count)
    if returned != declared:
        raise Nonconformance(
            code="cache-missing" if declared else "cache-undeclared",
            got="a cache is returned" if returned else "no cache is returned",
            want=f"kv_cache = {str(declared).lower()}",
            where="slm.toml: interface.capabilities.kv_cache",
            fix=f"declare kv_cache = {str(returned).lower()}, or mend the model",
        )
    return "returned, as declared" if declared else "none, as declared"
