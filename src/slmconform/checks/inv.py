"""INV: what must not matter does not, shown in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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
    from slmconform.measure.compare import Difference

NUMERIC = ("SLM-DET-001",)


def judge(take: Callable[[], Difference], what: str, *, code: str, why: str, fix: str) -> str:
    """Pass with the figures or raise; ``what`` was passed through the model in ``take``."""
    from slmconform.measure.compare import require
    from slmconform.model.loaded import CandidateError

    try:
        found = take()
    except CandidateError as error:
        raise Nonconformance(
            code="forward-raises",
            got=str(error),
            want="outputs, as for the same rows in the typical batch",
            where=f"forward on {what}",
            fix=fix,
        ) from error
    return require(found, code=code, why=why, fix=fix)


@check("SLM-INV-001", stage=Stage.DYNAMIC, needs=NUMERIC)
def batch_size(bench: Bench) -> str:
    """A row alone gives what it gives in its batch."""
    from slmconform.measure.invariance import batch_gap

    return judge(
        lambda: batch_gap(bench),
        "one row alone",
        code="batch-dependent",
        why="a row's outputs depend on the other rows of its batch",
        fix="look for statistics or sorting over the batch axis",
    )


@check("SLM-INV-002", stage=Stage.DYNAMIC, needs=("SLM-INV-001",))
def row_order(bench: Bench) -> str:
    """Rows in another order give the same outputs in that order."""
    from slmconform.measure.invariance import permuted_gap

    return judge(
        lambda: permuted_gap(bench),
        "the rows in reverse order",
        code="order-dependent",
        why="a row's outputs depend on its place in the batch",
        fix="look for an index over the batch axis",
    )


@check("SLM-INV-003", stage=Stage.DYNAMIC, needs=NUMERIC)
def mask_of_ones(bench: Bench) -> str:
    """Leaving the mask out equals a mask of ones."""
    from slmconform.measure.invariance import unmasked_gap
    from slmconform.model import probes
    from slmconform.model.loaded import CandidateError

    mask = probes.by_role(bench.interface, "mask")
    try:
        unmasked_gap(bench)
    except CandidateError as error:
        if mask is not None and mask.required:
            raise NotApplicable(f"the mask cannot be left out: {error}") from error
    return judge(
        lambda: unmasked_gap(bench),
        "the typical batch without its mask, which is declared as not required",
        code="default-mask",
        why="without a mask the model attends to something else than all tokens",
        fix="make the default mask all ones, or declare the mask with required = true",
    )


@check("SLM-INV-004", stage=Stage.DYNAMIC, needs=("SLM-INV-002", "SLM-INV-007"))
def right_padding(bench: Bench) -> str:
    """Masked tokens to the right change nothing at real tokens."""
    return _padding(bench, "right")


@check("SLM-INV-005", stage=Stage.DYNAMIC, needs=("SLM-INV-004",))
def left_padding(bench: Bench) -> str:
    """Masked tokens to the left change nothing at real tokens."""
    return _padding(bench, "left")


def _padding(bench: Bench, side: str) -> str:
    from slmconform.measure.invariance import mask_ignored, padding_gap
    from slmconform.model.architecture import padding_counts
    from slmconform.model.loaded import CandidateError

    if side not in bench.interface.capabilities.padding:
        raise NotApplicable(f"{side} padding is not declared")
    ignored = False
    try:
        gap = padding_gap(bench, side)
        ignored = gap.max_abs > gap.bound and mask_ignored(bench, side)
        if gap.max_abs > gap.bound and not ignored and not bench.declared:
            if reason := padding_counts(bench.model.module):
                raise NotApplicable(f"masked tokens count by design: {reason}")
            raise Inconclusive(
                f"{side} padding changes real tokens by {gap.max_abs:.1e} although the mask has "
                "an effect: some architectures are so by design; declare "
                "interface.capabilities.padding"
            )
    except CandidateError as error:
        if not bench.declared:
            raise Inconclusive(f"{side} padding cannot be tried: {error}") from error
    why = "the mask has an effect, but not everywhere: some layer still sees masked tokens"
    if ignored:
        why = "the attention mask is ignored: masked and unmasked runs are bitwise equal"
    elif side == "left":
        why = "masked tokens still reach the others, or positions count them"
    return judge(
        lambda: padding_gap(bench, side),
        f"rows padded on the {side}",
        code="mask-ignored" if ignored else "padding-leaks",
        why=why,
        fix="pass attention_mask to every attention layer and to the pooling",
    )


@check("SLM-INV-006", stage=Stage.DYNAMIC, needs=("SLM-INV-001",))
def causality(bench: Bench) -> str:
    """A later token reaches earlier outputs if and only if the model is not causal."""
    from slmconform.measure.invariance import future_gap

    causal = bench.interface.capabilities.causal
    if not causal and not bench.declared:
        raise NotExamined("whether the model is causal is declared nowhere")
    if causal:
        return judge(
            lambda: future_gap(bench),
            "the typical batch with another last token",
            code="sees-the-future",
            why="a later token changes earlier outputs although the model is declared causal",
            fix="apply the causal mask in every attention implementation",
        )
    gap = future_gap(bench)
    if gap.max_abs == 0.0:
        raise Nonconformance(
            code="is-causal",
            got="no earlier output changes when the last token does",
            want="an influence, as causal = false declares",
            where="slm.toml: interface.capabilities.causal",
            fix="declare causal = true, or remove the causal mask",
        )
    return f"a later token moves earlier outputs by up to {gap.max_abs:.1e}, as declared"


@check("SLM-INV-007", stage=Stage.DYNAMIC, needs=("SLM-INV-006",))
def prefix(bench: Bench) -> str:
    """A prefix alone gives the first outputs of the whole."""
    from slmconform.measure.invariance import prefix_gap

    if not bench.interface.capabilities.causal:
        raise NotApplicable("the model is not causal")
    return judge(
        lambda: prefix_gap(bench),
        "the first half of the typical batch",
        code="prefix-differs",
        why="the length of a sequence changes the outputs at its beginning",
        fix="look for positions counted from the end, or scaling by the length",
    )


@check("SLM-INV-008", stage=Stage.DYNAMIC, needs=("SLM-INV-007", "SLM-IFC-010"))
def cached_decoding(bench: Bench) -> str:
    """Decoding with a key-value cache gives the outputs of one full pass."""
    from slmconform.measure.invariance import cache_gap, constants_gap

    def take() -> Difference:
        found = cache_gap(bench)
        if found.bound < found.max_abs <= constants_gap(bench).max_abs:
            raise Inconclusive(
                f"a cached step is off by {found.max_abs:.1e}, no more than one unit of rounding "
                "in the buffers makes: a step may derive anew what a full pass reads from one"
            )
        return found

    if not bench.interface.capabilities.kv_cache:
        raise NotApplicable("no key-value cache is declared")
    if bench.loader.kind != "transformers":
        raise NotExamined("the standard does not say how own code takes and returns a cache")
    return judge(
        take,
        "the last tokens one by one, with the cache of those before",
        code="cache-differs",
        why="a step with the cache sees other keys, values or positions than a full pass",
        fix="check positions and mask of cached steps",
    )


@check("SLM-INV-009", stage=Stage.DYNAMIC, needs=("SLM-INV-006",))
def attention_implementation(bench: Bench) -> str:
    """Eager and scaled-dot-product attention agree."""
    from slmconform.measure.invariance import attention_gap

    return judge(
        lambda: attention_gap(bench),
        "the typical batch with the other attention implementation",
        code="attention-differs",
        why="one implementation drops a mask, a bias or a scale that the other applies",
        fix="declare loader.attention, and mend the other implementation",
    )


@check("SLM-INV-010", stage=Stage.DYNAMIC, needs=NUMERIC)
def threads(bench: Bench) -> str:
    """Two threads give what one gives."""
    from slmconform.measure.invariance import threads_gap

    return judge(
        lambda: threads_gap(bench),
        "one row on two threads",
        code="thread-dependent",
        why="a parallel reduction changes more than its rounding",
        fix="look for races in own kernels, and for code that asks for the number of threads",
    )
