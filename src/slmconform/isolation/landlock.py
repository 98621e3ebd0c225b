"""Landlock: what files a process may open from now on, and whom it may signal (Linux >= 5.13).

Kernel interface: Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h.
A right that is handled and not granted by a rule is denied, for this process and all it starts.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable

from slmconform.isolation.libc import call

# The system calls have these numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # flag of create_ruleset: return the version of the interface
_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
READ = _READ_FILE | _READ_DIR
# What each version of the interface can handle: the bits below this one.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_EXECUTE = 1 << 0
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_NETWORK_FROM, _TCP = 4, 0b11  # bind and connect
SIGNALS_FROM, _SCOPES = 6, 0b11  # abstract sockets and signals


def version() -> int:
    """Return the version of the kernel's interface, 0 where there is none."""
    if sys.platform != "linux":
        return 0
    try:
        return call("syscall", _CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    except OSError:
        return 0


def ruleset(read: Iterable[str], write: Iterable[str], devices: Iterable[str]) -> int:
    """Return a descriptor of rules: beneath ``read`` reading, beneath ``write`` all but running.

    ``devices`` are read, written and controlled. Paths that do not exist are passed over. Nothing
    may be executed. Raises `OSError`.
    """
    known = version()
    rights = (1 << _RIGHTS[min(known, max(_RIGHTS))]) - 1
    attributes = struct.pack(
        "=QQQ",
        rights,
        _TCP if known >= _NETWORK_FROM else 0,
        _SCOPES if known >= SIGNALS_FROM else 0,
    )
    size = 8 if known < _NETWORK_FROM else 16 if known < SIGNALS_FROM else 24
    rules = call("syscall", _CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    for paths, granted in (
        (read, READ),
        (write, rights & ~_EXECUTE),
        (devices, READ | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV),
    ):
        for path in paths:
            _grant(rules, path, granted & rights)
    return rules


def restrict(rules: int) -> None:
    """Put this process under the rules for good; needs no_new_privs. Raises `OSError`."""
    try:
        call("syscall", _RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _grant(rules: int, path: str, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= _FOR_FILES
        call("syscall", _ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, beneath), 0)
    finally:
        os.close(beneath)
