"""What a person sees of a training: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slmconform.engine.command import cache_option, command
from slmconform.harmless import printable
from slmconform.recording.train import Curve, Follower, Step, TrainOptions
from slmconform.report.curve import inside
from slmconform.report.plot import Frame, Glyphs, Series, beside, plot
from slmconform.report.streams import say, tell
from slmconform.report.text import WIDTH, paint, wrap

if TYPE_CHECKING:
    from rich.console import Group
    from rich.spinner import Spinner

HEIGHT = 11
TAIL = 6  # the last steps, in the live view
REFRESH = 8  # a second
VERDICTS = {0: "32", 1: "1;31", 3: "33"}


class _Silent:
    """Shows nothing."""

    def watch(self, phase: str) -> None:
        """Nothing."""

    def begin(self, curve: Curve) -> None:
        """Nothing."""

    def step(self, one: Step) -> None:
        """Nothing."""


class _Lines:
    """One line a step on standard output, as it is made."""

    def watch(self, phase: str) -> None:
        """The phase on standard error."""
        tell(printable(phase))

    def begin(self, curve: Curve) -> None:
        """Title and head of the table."""
        self._curve = curve
        say("\n".join([*title(curve), "", head(curve)]))

    def step(self, one: Step) -> None:
        """One line of the table."""
        say(row(self._curve, one))


class _Live:
    """Curves and the last steps, drawn anew while the training runs."""

    def __init__(self, marks: Glyphs) -> None:
        from rich.spinner import Spinner

        self._marks = marks
        self._curve: Curve | None = None
        self._waiting = Spinner("dots", "reading the package")

    def watch(self, phase: str) -> None:
        """The phase in the only line."""
        from rich.text import Text

        self._waiting.update(text=Text(printable(phase)))

    def begin(self, curve: Curve) -> None:
        """From here on the curve is drawn."""
        self._curve = curve

    def step(self, one: Step) -> None:
        """Nothing: the view is drawn by the clock, not by the step."""

    def view(self) -> Group | Spinner:
        """What to draw now."""
        from rich.console import Group
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        curve = self._curve
        if curve is None:
            return self._waiting
        done, steps = len(curve.steps), curve.plan.steps
        lines = [head(curve), *(row(curve, one) for one in curve.steps[-TAIL:])]
        return Group(
            *(Text(line) for line in title(curve)),
            Padding(ProgressBar(total=steps, completed=done, width=WIDTH)),  # ends its line
            *(Text(line, no_wrap=True, overflow="crop") for line in curves(curve, self._marks)),
            *(Text(line, no_wrap=True, overflow="crop") for line in lines),
        )


def on_terminal() -> bool:
    """Whether standard output is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def following(marks: Glyphs, *, quiet: bool) -> Iterator[Follower]:
    """Whoever shows a training on standard output while it runs."""
    if quiet:
        yield _Silent()
    elif on_terminal():
        from rich.live import Live

        view = _Live(marks)
        with Live(get_renderable=view.view, refresh_per_second=REFRESH, transient=True):
            yield view
    else:
        yield _Lines()


def title(curve: Curve) -> list[str]:
    """Which model is trained, how long, and where."""
    plan, model = curve.plan, curve.model
    of = f" of {plan.whole}" if plan.steps < plan.whole else ""
    what = f"slmconform train: {model.name} {model.version}, {plan.steps}{of} steps"
    return wrap(f"{what} in {plan.dtype} on {plan.device}", "")


def head(curve: Curve) -> str:
    """The head of the table of steps."""
    names = [f"{'step':>6}", f"{'loss':>15}"]
    if curve.plan.referenced:
        names += [f"{'reference':>15}", f"{'deviation':>10}"]
    if curve.plan.bounded:
        names += [f"{'allowed':>9}", f"{'share':>9}"]
    return "".join([*names, f"{'rate':>10}"])


def row(curve: Curve, one: Step) -> str:
    """One step in the table."""
    cells = [f"{one.step:>6}", f"{one.loss:>#15.8g}"]
    if curve.plan.referenced:
        cells += [_cell(one.reference, 15, "#.8g"), _cell(one.deviation, 10, ".1e")]
    if curve.plan.bounded:
        cells += [_cell(one.allowed, 9, ".1e"), _cell(one.share, 9, _fixed(one.share))]
    return "".join([*cells, f"{one.learning_rate:>10.3g}", " OUT" * one.outside])


def _cell(value: float | None, width: int, form: str) -> str:
    return " " * width if value is None else f"{format(value, form):>{width}}"


def _fixed(share: float | None) -> str:
    """Three decimals, as long as the column has room for them."""
    return ".3f" if share is None or not share >= 1e4 else ".1e"


def curves(curve: Curve, marks: Glyphs) -> list[str]:
    """The loss by step, and beside it the deviation below the allowed one."""
    loss: list[float | None] = [one.loss for one in curve.steps]
    deviation = [one.deviation for one in curve.steps]
    allowed = [one.allowed for one in curve.steps]
    wrong = [one.deviation if one.outside else None for one in curve.steps]
    steps, two = curve.plan.steps, curve.plan.referenced
    frame = Frame((WIDTH - 2) // 2 if two else WIDTH, HEIGHT, steps, marks)
    left = plot("loss", [Series(loss, marks.point)], frame)
    if not two:
        return [line.rstrip() for line in left]
    name = f"deviation {marks.point}"
    name += f"  allowed {marks.bound}" if curve.plan.bounded else " from float64"
    series = [
        Series(allowed, marks.bound),
        Series(deviation, marks.point),
        Series(wrong, marks.outside),
    ]
    return [line.rstrip() for line in beside(left, plot(name, series, frame, log=True))]


@dataclass(frozen=True)
class View:
    """How a summary is shown: ``quiet`` the verdict only."""

    glyphs: Glyphs
    quiet: bool = False
    colour: bool = False


def summary(curve: Curve, view: View) -> list[str]:
    """What came out: the title again where a live view has taken it away, curves, verdict."""
    lines = title(curve) if on_terminal() and not view.quiet else []
    lines += [] if view.quiet else ["", *curves(curve, view.glyphs), ""]
    first, last = curve.steps[0], curve.steps[-1]
    count = len(curve.steps)
    lines += [f"{count} step{'s' * (count > 1)}, loss {first.loss:.6g} -> {last.loss:.6g}"]
    worst = curve.worst
    if worst.share is not None:
        lines += [f"largest share of the allowed deviation: {worst.share:.3g}, step {worst.step}"]
    elif worst.deviation is not None:
        lines += [f"largest deviation from float64: {worst.deviation:.1e}, step {worst.step}"]
    words = verdict(curve)
    painted = [paint(one, VERDICTS[curve.exit_status], colour=view.colour) for one in words]
    return [*lines, *painted, f"exit status {curve.exit_status}"]


def verdict(curve: Curve) -> list[str]:
    """The verdict in words."""
    if not curve.plan.bounded:
        known = "no recorded envelope" if curve.plan.referenced else "no reference"
        return wrap(f"verdict: {known} to compare with: {curve.plan.unanswered}", "")
    outside, count = curve.outside, len(curve.steps)
    if not outside:
        return ["verdict: every step is within the recorded envelope"]
    first = outside[0]
    return wrap(
        f"verdict: outside the recorded envelope, first at step {first.step}: deviation "
        f"{first.deviation:.2g}, allowed {first.allowed:.2g} ({len(outside)} of {count} steps)",
        "",
    )


def keeping(curve: Curve, path: Path, options: TrainOptions) -> str:
    """The command that keeps the curve, beside the package where one stands in it."""
    target = Path(f"{curve.root.name}-training.csv")
    if inside(target, curve.root):
        target = curve.root.resolve().parent / target.name
    words = ["train", str(path)]
    words += ["--trust-code"] * options.trust_code
    words += ["--device", options.device] if options.device != "auto" else []
    words += ["--steps", str(options.steps)] if options.steps else []
    words += cache_option(options.hub_cache)
    return f"to keep it: {command('slmconform', *words, '--output', str(target))}"
