"""The curve of a training as a file: CSV or JSON, by its suffix."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

from slmconform import __version__
from slmconform.recording.train import Curve, Step
from slmconform.report.writing import Unwritable, require_writable

COLUMNS = ("step", "loss", "reference", "deviation", "allowed", "learning_rate")
SUFFIXES = (".csv", ".json")


def require_place(path: Path, root: Path) -> None:
    """Raise `Unwritable` where a curve cannot be kept, before any work is done for it.

    Every file in a package is part of what was recorded, so that one more would break it.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise Unwritable(f"{path}: a curve is written as {' or '.join(SUFFIXES)}; name it so")
    if inside(path, root):
        raise Unwritable(
            f"{path} is inside the package, whose files are recorded; name a file outside of it"
        )
    require_writable(path)


def inside(path: Path, root: Path) -> bool:
    """Whether a path leads into a folder, through links too."""
    return path.resolve().is_relative_to(root.resolve())


def content(curve: Curve, path: Path) -> bytes:
    """What to write to a path of one of the `SUFFIXES`."""
    text = as_csv(curve) if path.suffix.lower() == ".csv" else as_json(curve)
    return text.encode("utf-8")


def as_csv(curve: Curve) -> str:
    """One line a step with every digit; empty cells where there is nothing to compare with."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for one in curve.steps:
        cells = _cells(one)
        rows.writerow(["" if cells[name] is None else repr(cells[name]) for name in COLUMNS])
    return text.getvalue()


def as_json(curve: Curve) -> str:
    """The steps and what they belong to; a number that is not finite is null."""
    plan = curve.plan
    table = {
        "tool": f"slmconform {__version__}",
        "model": curve.model.name,
        "version": curve.model.version,
        "device": plan.device,
        "dtype": plan.dtype,
        "recorded_steps" if plan.referenced else "recipe_steps": plan.whole,
        "unanswered": plan.unanswered or None,
        "outside": [one.step for one in curve.outside],
        "exit_status": curve.exit_status,
        "steps": [
            {k: v if v is not None and math.isfinite(v) else None for k, v in _cells(one).items()}
            for one in curve.steps
        ],
    }
    return json.dumps(table, indent=1, allow_nan=False) + "\n"


def _cells(one: Step) -> dict[str, float | None]:
    return {name: getattr(one, name) for name in COLUMNS}
