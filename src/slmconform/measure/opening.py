"""A bench made ready in the candidate's process: device, flags, second process, package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slmconform.measure.bench import Bench, Options
from slmconform.measure.replay import Replay
from slmconform.model.device import device_class, environment, reference_flags, resolve
from slmconform.package.read import Package


@contextmanager
def opened(arguments: Mapping[str, Any]) -> Iterator[tuple[Bench, dict[str, Any]]]:
    """The bench for a job's arguments, and the setting that it measures in.

    ``arguments``: package, device, scratch (paths and names as text), dtype (or None), replay
    (whether a second process is wanted), ignore (documents to treat as absent), hub_cache (whether
    the package is a snapshot in the cache of a hub client).
    Raises `DeviceUnavailable`.
    """
    package = Package(
        Path(arguments["package"]),
        ignore=arguments.get("ignore", ()),
        hub_cache=arguments.get("hub_cache", False),
    )
    device = resolve(arguments["device"])
    options = Options(device, Path(arguments["scratch"]), arguments.get("dtype"))
    with reference_flags(device) as flags:
        replay = None
        if arguments.get("replay"):
            replay = Replay(lambda: Bench(package, options), options.scratch)
        setting = {
            "device": device_class(device),
            "environment": environment(device),
            "flags": flags,
        }
        yield Bench(package, options, replay), setting
