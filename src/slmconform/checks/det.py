"""DET: the same input gives the same output, again and elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmconform.engine.registry import Nonconformance, Stage, check

if TYPE_CHECKING:
    from slmconform.measure.bench import Bench


@check("SLM-DET-001", stage=Stage.DYNAMIC, needs=("SLM-IFC-006", "SLM-IFC-007", "SLM-IFC-008"))
def repetition_is_bitwise(bench: Bench) -> str:
    """The same input again, with the random generators elsewhere, gives the same bits."""
    from slmconform.measure.compare import bitwise
    from slmconform.measure.forward import native, repeated

    gap = bitwise(repeated(bench), native(bench, "typical"))
    if gap:
        raise Nonconformance(
            code="not-repeatable",
            got=gap,
            want="bitwise equal outputs in one process",
            where=gap.partition(":")[0],
            why="something in forward draws random numbers or keeps state: dropout left on?",
            fix="make dropout depend on self.training; keep no state between calls",
        )
    return "bitwise equal under another random state"


@check("SLM-DET-002", stage=Stage.DYNAMIC, needs=("SLM-DET-001", "SLM-IFC-004"))
def fresh_process_gives_the_same(bench: Bench) -> str:
    """Another process loads the model and gives the same bits."""
    from slmconform.measure.forward import native
    from slmconform.measure.replay import fingerprint

    here, there = fingerprint(native(bench, "typical")), bench.replay.result()
    if there.error:
        raise RuntimeError(f"the second process failed: {there.error}")
    unlike = sorted(n for n in here.outputs if here.outputs[n] != there.outputs.get(n))
    if unlike:
        raise Nonconformance(
            code="process-differs",
            got=f"other bits in {', '.join(unlike)}",
            want="bitwise equal outputs from two loads in two processes",
            where=f"output {unlike[0]}",
            why="something is drawn or left undefined while loading",
            fix="ship every tensor; compute buffers without random numbers",
        )
    return f"{', '.join(here.outputs)} bitwise equal in a second process"


@check("SLM-DET-003", stage=Stage.DYNAMIC, needs=("SLM-IFC-002",))
def configuration_is_recorded(bench: Bench) -> str:
    """The configuration in use is the recorded one."""
    from slmconform.measure.configuration import changed, effective

    evidence, own_code = bench.package.require_evidence(), bench.loader.kind == "torch"
    found = changed(evidence.configuration, effective(bench), exact=own_code)
    if found:
        key, (recorded, used) = next(iter(found.items()))
        more = f" ({len(found)} keys differ: {', '.join(found)})" if len(found) > 1 else ""
        raise Nonconformance(
            code="configuration-changed",
            got=f"{_setting(key, used)}{more}",
            want=f"{_setting(key, recorded)}, as recorded",
            where=f"config.json: {key}",
            why="config.json was edited after the recording, or the library reads it otherwise",
            fix="restore the value; if the change is meant, record again under a new version",
        )
    return f"{len(evidence.configuration)} keys as recorded"


def _setting(key: str, value: object) -> str:
    from slmconform.measure.configuration import ABSENT

    return f"no {key}" if value is ABSENT else f"{key} = {value!r}"
