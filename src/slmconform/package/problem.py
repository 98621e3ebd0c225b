"""What a reader found wrong with a file of the package."""

from __future__ import annotations

from slmconform.engine.registry import Nonconformance
from slmconform.harmless import printable, shown

__all__ = ["PackageProblem", "printable", "several", "shown"]


class PackageProblem(Exception):
    """A file is not what it has to be; ``code`` is a short kebab-case name of the way.

    Readers raise or collect it; the check whose requirement it breaks turns it into a finding.
    """

    def __init__(
        self, code: str, where: str, got: str, want: str, fix: str = "", *, why: str = ""
    ) -> None:
        self.code, self.where, self.got = code, printable(where), printable(got)
        self.want, self.fix, self.why = printable(want), printable(fix), printable(why)
        super().__init__(f"{self.where}: {self.got} (want {self.want})")

    def finding(self) -> Nonconformance:
        """The same as the failure of a check."""
        return Nonconformance(
            code=self.code,
            where=self.where,
            got=self.got,
            want=self.want,
            why=self.why,
            fix=self.fix,
        )


def several(problems: tuple[PackageProblem, ...] | list[PackageProblem]) -> PackageProblem:
    """The first of many problems, saying how many more there are and where."""
    first = problems[0]
    if len(problems) == 1:
        return first
    places = "; ".join(f"{p.where}: {p.got}" for p in problems[1:4])
    more = f"and {len(problems) - 1} more: {places}" + (" …" if len(problems) > 4 else "")
    why = f"{first.why}; {more}" if first.why else more
    return PackageProblem(first.code, first.where, first.got, first.want, first.fix, why=why)
