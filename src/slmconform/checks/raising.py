"""What own code raises while a loss or a gradient is computed, as the finding of a check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slmconform.engine.registry import Nonconformance


@contextmanager
def computing(what: str) -> Iterator[None]:
    """Turn a `CandidateError` into the failure of the check that computes ``what``."""
    from slmconform.model.loaded import CandidateError

    try:
        yield
    except CandidateError as error:
        raise Nonconformance(
            code=f"{error.phase}-raises",
            got=str(error),
            want=what,
            where=WHERE.get(error.phase, error.phase),
            fix="mend the code that raises, or the recipe that asks for it",
        ) from error


WHERE = {
    "load": "slm.toml: training.entry",
    "forward": "forward with gradients enabled, on the first batch",
    "loss": "the function that training.entry names, on the first batch",
    "backward": "the backward pass of the first batch",
}
