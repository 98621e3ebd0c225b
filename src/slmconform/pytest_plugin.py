"""The pytest plugin: the hooks, and nothing else.

It is loaded in every run of pytest on the machine, so it imports nothing that pytest has not
imported already; the rest comes with the first ``slm.toml``.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slmconform.plugin.case import CASE, Case
from slmconform.standard.files import MANIFEST

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from slmconform.plugin.collecting import ManifestFile


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    from slmconform.plugin.options import add

    add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse wrong options, and register the markers: all where their list is asked for.

    Else they are registered with the first package: the catalogue need not be read before.
    """
    from slmconform.plugin.options import chosen

    chosen(config)
    text = "slmconform: a requirement of the standard for small language models"
    config.addinivalue_line("markers", text)
    if config.option.markers:
        from slmconform.plugin.collecting import register_markers

        register_markers(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ManifestFile | None:
    """A package is collected by its manifest."""
    if file_path.name != MANIFEST or not parent.config.getini("slmconform"):
        return None
    from slmconform.plugin.collecting import ManifestFile

    return ManifestFile.from_parent(parent, path=file_path)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a function under `slmconform.parametrize` its requirements."""
    marker = metafunc.definition.get_closest_marker("slmconform")
    if marker is not None and marker.args:
        from slmconform.plugin.collecting import spread

        spread(metafunc, *marker.args, **marker.kwargs)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note what an item asks, while its id is still the plain one."""
    asked = getattr(getattr(item, "callspec", None), "params", {})
    case = getattr(item, "case", asked.get("requirement"))
    if isinstance(case, Case):
        item.stash[CASE] = case
        case.collected(item)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell each examination what was selected: it runs once, and asks nothing else."""
    for item in session.items:
        if case := item.stash.get(CASE, None):
            case.examination.wanted.add(case.id)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hold the report of an item to what the engine answered."""
    report = yield
    if (case := item.stash.get(CASE, None)) and call.when == "call":
        from slmconform.plugin.reporting import complete

        complete(item, case, report)
    return report


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """A failure for want of an answer is counted, and told in the last section, not one by one."""
    told = getattr(report, "slmconform", None)
    if told and told["unanswered"] and report.failed:
        return "unanswered", "U", ("UNANSWERED", {"red": True})
    return None


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Say what became of each package."""
    reports = [one for many in terminalreporter.stats.values() for one in many]
    if told := [one for one in reports if hasattr(one, "slmconform")]:
        from slmconform.plugin.reporting import closing

        terminalreporter.section("slmconform")
        for line in closing(told):
            terminalreporter.write_line(line)
