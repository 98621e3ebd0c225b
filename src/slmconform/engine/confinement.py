"""What the process of one package may use: its files, a scratch folder, memory by its size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slmconform.engine.options import ProcessOptions
from slmconform.engine.state import own_code
from slmconform.isolation.confinement import Confinement
from slmconform.package.embedding import input_embedding
from slmconform.package.read import Package

GIB = 2**30
# A training in float64 beside the loaded model was seen to take 81 bytes a parameter, the
# libraries half a GiB; logits and their gradients take 64 KiB for each row of the embedding.
BASE = 3 * GIB
PER_PARAMETER = 128
PER_ROW = 64 * 2**10
FILES = 4  # times the weights may be written, and a GiB


def confinement(
    package: Package, options: ProcessOptions, scratch: str | Path, sealed: Iterable[str] = ()
) -> Confinement:
    """The confinement of a job; ``scratch`` is a folder for it alone.

    ``sealed`` are modules that own code must not change besides those that judge.
    """
    return Confinement(
        read=[str(package.root), *(str(blobs) for blobs in [package.folder.blobs] if blobs)],
        scratch=str(Path(scratch).resolve()),
        memory=memory_limit(package, options),
        file_size=FILES * package.weights.bytes + GIB,
        seconds=options.timeout,
        code=str(package.root) if own_code(package) else "",
        sealed=list(sealed),
        cuda=options.device not in ("cpu", "mps") and Path("/dev/nvidiactl").exists(),
        required=options.require_sandbox,
    )


def memory_limit(package: Package, options: ProcessOptions) -> int:
    """The most bytes of private memory that the process may take."""
    if options.memory is not None:
        return int(options.memory * GIB)
    embedding = input_embedding(package.weights.tensors, package.config)
    rows = embedding.rows if embedding else 0
    return BASE + PER_PARAMETER * package.weights.parameters + PER_ROW * rows
