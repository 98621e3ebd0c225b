"""Known defects put into the candidate itself: a check that does not tell them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from slmconform.engine.registry import Check, Nonconformance, NotApplicable, Unanswered
from slmconform.engine.self_test import (
    GRADIENT,
    REFERENCE,
    SCRAMBLED,
    WEIGHTS,
    WIDER_EPS,
    ZEROED,
)
from slmconform.measure.bench import Bench
from slmconform.measure.compare import bitwise
from slmconform.measure.forward import float64
from slmconform.standard.report import Outcome, SelfTest

LEAST_EPS = 1e-5  # ten times 1e-12 is still nothing beside a variance
EPS_NAMES = ("eps", "epsilon", "variance_epsilon", "layer_norm_eps", "layernorm_eps")

Injection = Callable[[Bench], str]


def self_test(
    bench: Bench, checks: Mapping[str, Check], outcomes: Mapping[str, Outcome]
) -> Iterator[SelfTest]:
    """One answer for each defect of `slmconform.engine.self_test.DEFECTS`.

    Only requirements that passed are tried. The measurements of ``bench`` are let go first, so
    that no more memory is needed than for the check itself.
    """
    reached = _reached(bench) if outcomes.get(GRADIENT) is Outcome.PASS else []
    bench.forget()
    fresh = Bench(bench.package, replace(bench.options, dtype=None))
    tries: tuple[tuple[str, str, tuple[Injection, ...]], ...] = (
        (SCRAMBLED, WEIGHTS, (scramble_head,)),
        (SCRAMBLED, REFERENCE, (scramble_head, scramble_all)),
        (WIDER_EPS, REFERENCE, (widen_eps,)),
        (ZEROED, GRADIENT, (lambda one: zero_gradient(one, reached),)),
    )
    for defect, one, injections in tries:
        outcome = outcomes.get(one)
        if outcome is not Outcome.PASS:
            detail = f"{one} did not pass" if outcome else f"{one} was not asked"
            yield SelfTest(defect=defect, id=one, found=None, detail=detail)
            continue
        found, detail = None, ""
        for inject in injections:
            found, detail = _tried(fresh, checks[one], inject)
            fresh.forget()
            if found is not False:
                break
        if found is False and defect == WIDER_EPS and _idle(fresh, widen_eps):
            found, detail = None, "no eps reaches the outputs: they stay bitwise the same"
        yield SelfTest(defect=defect, id=one, found=found, detail=detail)


def _reached(bench: Bench) -> list[str]:
    """Untied parameters that get a gradient, that of the largest first."""
    from slmconform.measure.gradient import fixed, probed_gradients, tied

    kept = fixed(bench) | tied(bench)
    sizes = {n: float(g.norm()) for n, g in probed_gradients(bench).of.items() if g is not None}
    return sorted((n for n, s in sizes.items() if s and n not in kept), key=lambda n: -sizes[n])


def _idle(bench: Bench, inject: Injection) -> bool:
    """Whether a defect changes no bit of the float64 outputs: then it is none of this model."""
    before = float64(bench)
    bench.forget()
    inject(bench)
    unchanged = not bitwise(float64(bench), before)
    bench.forget()
    return unchanged


def _tried(bench: Bench, check: Check, inject: Injection) -> tuple[bool | None, str]:
    """Whether a check tells a defect in a freshly loaded model, and what it says of it."""
    try:
        what = inject(bench)
    except NotApplicable as signal:
        return None, signal.reason
    try:
        said = check.function(bench)
    except Nonconformance as told:
        return True, f"{what}: {told.code}"
    except Unanswered as signal:
        return False, f"{what}: no answer: {signal.reason}"
    return False, f"passes with {what}: {said}"


def scramble_head(bench: Bench) -> str:
    """Turn the values of the output layer around."""
    module = bench.model.module
    parameters = {n: p for n, p in module.named_parameters() if p.is_floating_point()}
    head = _output_embedding(module)
    named = [n for n, p in parameters.items() if p is head] or [
        n for n, p in reversed(parameters.items()) if p.ndim > 1
    ]
    for name in named:
        if _turned_around(parameters[name]):
            return f"the values of {name} in reverse"
    raise NotApplicable("no matrix has values that could be scrambled")


def scramble_all(bench: Bench) -> str:
    """Turn the values of every matrix around: whatever a model computes, it computes otherwise."""
    parameters = bench.model.module.parameters()
    matrices = [p for p in parameters if p.is_floating_point() and p.ndim > 1]
    count = sum([_turned_around(one) for one in matrices])
    if not count:
        raise NotApplicable("no matrix has values that could be scrambled")
    return f"the values of all {count} matrices in reverse"


def _output_embedding(module: nn.Module) -> Tensor | None:
    try:
        return getattr(module.get_output_embeddings(), "weight", None)  # type: ignore[operator]
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _turned_around(parameter: Tensor) -> bool:
    """Reverse the order of all values; False where that changes nothing."""
    with torch.no_grad():
        reversed_ = parameter.flatten().flip(0).view_as(parameter)
        if torch.equal(reversed_, parameter):
            return False
        parameter.copy_(reversed_)
    return True


def widen_eps(bench: Bench) -> str:
    """Give every norm ten times its eps."""
    found = []
    for name, part in bench.model.module.named_modules():
        for key in EPS_NAMES:
            eps = vars(part).get(key)
            if isinstance(eps, float) and eps > 0:
                setattr(part, key, max(10 * eps, LEAST_EPS))
                found.append(f"{name}.{key}")
    if not found:
        raise NotApplicable("no module has an eps")
    return f"ten times the eps in {len(found)} modules, {found[0]} first"


def zero_gradient(bench: Bench, reached: list[str]) -> str:
    """Zero one gradient; only it and one more are trained, so that few passes tell it."""
    if len(reached) < 2:
        raise NotApplicable("fewer than two untied parameters get a gradient")
    for name, parameter in bench.model.module.named_parameters():
        parameter.requires_grad_(name in reached[:2])
    parameter = dict(bench.oracle.module.named_parameters())[reached[0]]
    parameter.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]
    return f"the gradient of {reached[0]} set to 0"
