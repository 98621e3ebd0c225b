"""Greedy decoding by full passes: the tokens, and how far each was from another choice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from slmconform.engine.registry import NotApplicable
from slmconform.measure.bench import Bench, measurement
from slmconform.model import probes
from slmconform.model.loaded import Outputs
from slmconform.model.probes import Inputs
from slmconform.standard.evidence import GreedyRecord

PROMPTS = 2
PROMPT = 6
STEPS = 8


def prompts(bench: Bench) -> list[list[int]]:
    """Beginnings of the probe rows; for an encoder-decoder its decoder start token."""
    if bench.task == "seq2seq-lm":
        start = getattr(bench.model.config, "decoder_start_token_id", None)
        if not isinstance(start, int):
            raise NotApplicable("the configuration names no decoder_start_token_id")
        return [[start]] * PROMPTS
    if bench.task != "causal-lm":
        raise NotApplicable(f"a model for {bench.task} does not generate")
    spec = probes.by_role(bench.interface, "tokens")
    if spec is None:
        raise NotApplicable("no input holds tokens")
    rows = bench.inputs("typical")[spec.name][:PROMPTS, :PROMPT]
    return [[int(token) for token in row] for row in rows]


def steps(bench: Bench, prompt: list[int]) -> int:
    """How many tokens to decode within the declared axis."""
    axis = "target" if bench.task == "seq2seq-lm" else "sequence"
    limit = bench.interface.axes.get(axis)
    return STEPS if limit is None else max(0, min(STEPS, limit.max - len(prompt)))


@measurement
def in_float64(bench: Bench) -> list[GreedyRecord]:
    """Greedy continuations of the prompts in float64, with margins."""
    return [
        _continue(bench, bench.float64, row, prompt, steps(bench, prompt))
        for row, prompt in enumerate(prompts(bench))
    ]


def natively(bench: Bench, row: int, prompt: list[int], count: int) -> GreedyRecord:
    """The continuation of one prompt in the model's own dtype."""
    return _continue(bench, bench.native, row, prompt, count)


def _continue(
    bench: Bench, run: Callable[[Inputs], Outputs], row: int, prompt: list[int], count: int
) -> GreedyRecord:
    tokens, margins = list(prompt), []
    for _ in range(count):
        logits = run(_inputs(bench, row, tokens))["logits"][0, -1]
        best = torch.topk(logits, 2)
        tokens.append(int(best.indices[0]))
        margins.append(float(best.values[0].double() - best.values[1].double()))
    return GreedyRecord(prompt=prompt, tokens=tokens[len(prompt) :], margins=margins)


def _inputs(bench: Bench, row: int, tokens: list[int]) -> Inputs:
    grown = torch.tensor([tokens], dtype=torch.int64)
    one = probes.rows(bench.inputs("typical"), slice(row, row + 1))
    if bench.task == "seq2seq-lm":
        spec = probes.by_role(bench.interface, "decoder-tokens")
        return {**one, spec.name: grown} if spec else one
    inputs: dict[str, Tensor] = {}
    for spec in bench.interface.inputs:
        kind = probes.role(spec)
        if kind == "tokens":
            inputs[spec.name] = grown
        elif kind == "mask":
            inputs[spec.name] = torch.ones_like(grown)
        elif kind == "positions":
            inputs[spec.name] = torch.arange(len(tokens)).unsqueeze(0)
        else:
            inputs[spec.name] = torch.zeros_like(grown)
    return inputs
