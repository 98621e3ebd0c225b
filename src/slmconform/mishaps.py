"""What can go wrong by a caller's hand, in one sentence for any front."""

from __future__ import annotations

from slmconform.harmless import printable


def foreseen(error: Exception) -> str | None:
    """The sentence of an error that a caller can bring about; None for a mistake of ours."""
    from slmconform.engine.examine import CouldNotRun
    from slmconform.engine.plan import UnknownRequirement
    from slmconform.isolation.client import ServerUnavailable
    from slmconform.package.folder import UnreadablePackage
    from slmconform.package.problem import PackageProblem
    from slmconform.report.writing import Unwritable

    ours = (CouldNotRun, UnknownRequirement, UnreadablePackage, ServerUnavailable, Unwritable)
    if isinstance(error, PackageProblem):
        return printable(f"{error.where}: {error.got} (want {error.want}); {error.fix}", 2000)
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return printable(": ".join([*names, error.strerror]), 2000)
    if isinstance(error, (*ours, OSError)):
        return printable(str(error), 2000)
    return None
