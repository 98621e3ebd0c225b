"""The sandbox of one candidate: layers that the kernel keeps, each named where it is missing.

Entered in the candidate's own process, after the fork and before anything of the package is
touched: network and IPC namespaces, limits, no new privileges, another user, Landlock. What a
system does not have is reported by its name; whoever calls decides whether that is enough.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from slmconform.isolation import landlock
from slmconform.isolation.confinement import LAYERS, Confinement
from slmconform.isolation.libc import call, prctl

NOBODY = 65534  # the overflow user, who owns nothing
OPEN_FILES = 4096
PROCESSES = 512
_SETTLE_S = 10

_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x0800_0000, 0x1000_0000, 0x4000_0000
_PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 8, 38
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION = 0x2008_0522

# What python, torch and the C library read after the fork, wherever they are installed.
_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share"),
    *("/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/zero", "/dev/random"),
    *("/dev/urandom", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat"),
    *("/proc/sys/vm", "/sys/devices/system", "/sys/fs/cgroup"),
)
# What CUDA's libraries read, and its device nodes. They name their threads, in files beneath /proc,
# and take a refusal for a broken system (error 304). Of a process that is forked later only a rule
# for all of /proc lets them; users and Landlock's own rule on tracing keep other processes out.
_CUDA_READ = ("/sys/devices", "/sys/bus/pci", "/sys/module", "/etc/nvidia")
_CUDA_DEVICES = "nvidia*"
_CUDA_THREADS = "/proc"


@dataclass(slots=True)
class Layers:
    """The layers that hold, and for each other one why it does not."""

    active: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, enter: Callable[[], str | None]) -> None:
        """Enter a layer; what it raises, or a reason that it returns, is why it is missing."""
        try:
            reason = enter()
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            self.missing[name] = reason
        else:
            self.active.append(name)


def enter(confinement: Confinement) -> Layers:
    """Confine this process for good, as far as the system can; the layers that hold."""
    layers = Layers()
    if sys.platform != "linux":
        layers.note("limits", lambda: _limit(confinement))
        layers.missing |= {
            name: f"{sys.platform} has no such layer" for name in LAYERS if name != "limits"
        }
        return layers
    separate = _Namespaces()
    layers.note("network", lambda: separate.enter(_CLONE_NEWNET))
    layers.note("ipc", lambda: separate.enter(_CLONE_NEWIPC))
    rules = _Rules(confinement)
    layers.note("limits", lambda: _limit(confinement))
    layers.note("memory", lambda: _limit_memory(confinement))
    layers.note("privileges", lambda: _drop(confinement.scratch))
    layers.note("files", rules.enter)
    layers.note("signals", rules.reason_for_signals)
    redirect(confinement.scratch)
    return layers


class _Namespaces:
    """Namespaces of this process: made by root at once, by others inside a user namespace."""

    def __init__(self) -> None:
        self._mapped = False

    def enter(self, kind: int) -> None:
        """Leave one shared namespace; raises `OSError`."""
        try:
            call("unshare", kind)
        except PermissionError:
            if self._mapped:
                raise
            self._become_root_of_own()
            call("unshare", kind)

    def _become_root_of_own(self) -> None:
        user, group = os.geteuid(), os.getegid()
        call("unshare", _CLONE_NEWUSER)
        self._mapped = True
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


class _Rules:
    """The rules of Landlock, made while this process may still open everything."""

    def __init__(self, confinement: Confinement) -> None:
        self._reason = ""
        self._made: int | None = None
        try:
            if not landlock.version():
                raise OSError("this kernel has no Landlock, or it is switched off")
            read = [*_SYSTEM, *installed(), *confinement.read]
            devices: list[str] = []
            if confinement.cuda:
                read += _CUDA_READ
                devices = [_CUDA_THREADS, *sorted(map(str, Path("/dev").glob(_CUDA_DEVICES)))]
            self._made = landlock.ruleset(read, [confinement.scratch], ["/dev/null", *devices])
        except OSError as error:
            self._reason = str(error)

    def enter(self) -> str:
        """Restrict this process; why it is not, else empty."""
        if self._made is not None:
            landlock.restrict(self._made)
        return self._reason

    def reason_for_signals(self) -> str:
        """Why signals are not confined by the same rules, else empty."""
        if self._reason or self._made is None:
            return self._reason
        known = landlock.version()
        if known < landlock.SIGNALS_FROM:
            return f"version {landlock.SIGNALS_FROM} of Landlock is needed, this kernel has {known}"
        return ""


def installed() -> Iterator[str]:
    """Yield the folders of the interpreter, of installed libraries and of this program."""
    yield from {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    yield from (path for path in sys.path if Path(path).is_absolute())
    from slmconform.standard.catalogue import spec_folder

    yield str(Path(__file__).parents[1])
    yield str(spec_folder().parent)


def _limit(confinement: Confinement) -> None:
    seconds = int(confinement.seconds) * max(os.cpu_count() or 1, 1) + _SETTLE_S
    limits = {
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": confinement.file_size,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_NPROC": PROCESSES,
        "RLIMIT_CORE": 0,
    }
    for name, value in limits.items():
        if (kind := getattr(resource, name, None)) is not None:
            _lower(kind, value)


def _limit_memory(confinement: Confinement) -> str:
    """Limit private memory: address space as such is reserved without measure by CUDA."""
    if confinement.cuda:
        return "unmeasured with CUDA, so not limited there"
    _lower(resource.RLIMIT_DATA, confinement.memory)
    return ""


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _drop(scratch: str) -> None:
    """Become nobody, or keep the user without capabilities; nothing gives them back.

    Nobody keeps one capability, to read files that only their owner may: packages and
    interpreters of root. Which files, Landlock says.
    """
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    kept = 0
    try:
        if os.geteuid() == 0:
            _become_nobody(scratch)
            kept = 1 << _CAP_DAC_READ_SEARCH
    finally:
        _set_capabilities(kept)


def _become_nobody(scratch: str) -> None:
    try:
        os.chown(scratch, NOBODY, NOBODY)
        prctl(_PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        reason = f"this root cannot become user {NOBODY}: {error.strerror}"
        raise OSError(error.errno, reason) from error


def _set_capabilities(mask: int) -> None:
    """Keep only these capabilities, permitted and effective (capset(2), version 3)."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    low = struct.pack("=III", mask, mask, 0)
    call("capset", header, low + struct.pack("=III", 0, 0, 0))


def redirect(scratch: str) -> None:
    """Let libraries keep what they keep in the scratch folder."""
    import tempfile

    os.environ |= {
        "HOME": scratch,
        "TMPDIR": scratch,
        "XDG_CACHE_HOME": scratch,
        "CUDA_CACHE_PATH": scratch,
        "TORCHINDUCTOR_CACHE_DIR": scratch,
        "USER": "nobody",
        "LOGNAME": "nobody",
    }
    tempfile.tempdir = scratch
    # A cached module of the package would be run in place of the source that was read.
    sys.pycache_prefix = str(Path(scratch, "pycache"))
