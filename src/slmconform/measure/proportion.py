"""Whether the model that a configuration describes is in proportion to its weights."""

from __future__ import annotations

from slmconform.measure.bench import Bench, measurement
from slmconform.model.outline import Outline, outline
from slmconform.package.read import Package

FACTOR = 4
PARAMETERS = 2**22  # what any machine has room for, whatever the weights hold
BUFFERS = 2**30
PACKED = 4  # values in one byte of quantised weights: two bits each


@measurement
def described(bench: Bench) -> Outline:
    """The model of the configuration, built up to what its weights allow."""
    most = FACTOR * held(bench.package)
    return outline(
        bench.package.root,
        bench.loader,
        parameters=max(most, PARAMETERS),
        buffers=max(most, BUFFERS),
    )


def held(package: Package) -> int:
    """How many values the weights hold; of quantised ones integers hold several each."""
    quantised = "quantization_config" in (package.config or {})
    return sum(
        PACKED * (entry.end - entry.begin) if quantised and not entry.floating else entry.values
        for entry in package.weights.tensors.values()
    )
