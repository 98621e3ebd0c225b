"""What a candidate reaches for, told by the interpreter's audit events (PEP 578).

A hook cannot be removed, and each event is written on the result pipe before its action happens.
Native code raises no events; what it may do is left to the layers of the sandbox.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from slmconform.isolation.events import (
    EXECUTED,
    NATIVE,
    NETWORK,
    PROCESS,
    READ,
    SIGNAL,
    TAMPER,
    WRITE,
    Event,
)
from slmconform.isolation.protocol import RecordWriter
from slmconform.isolation.sandbox import installed

LIMIT = 200  # events told of one process
_TEXT = 200  # characters of what an event tells

_CALLS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"),
            *("socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request"),
        ),
        NETWORK,
    ),
    **dict.fromkeys(
        (
            *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"),
            *("os.fork", "os.forkpty", "pty.spawn"),
        ),
        PROCESS,
    ),
    **dict.fromkeys(("os.kill", "os.killpg"), SIGNAL),
}
# With own code alone: libraries do these at their import and harm nobody.
_OWN_CALLS: Mapping[str, str] = {
    **dict.fromkeys(("socket.__new__", "socket.bind"), NETWORK),
    **dict.fromkeys(("ctypes.dlopen", "ctypes.dlsym", "ctypes.string_at"), NATIVE),
}
# Ways from own code to the frames and objects of the checks that judge it.
_INTROSPECTION = frozenset(
    {
        *("sys._getframe", "sys._current_frames", "sys.settrace", "sys.setprofile"),
        *("sys.addaudithook", "sys.monitoring.register_callback", "marshal.loads"),
        *("gc.get_objects", "gc.get_referrers", "gc.get_referents"),
        *("object.__getattr__", "object.__setattr__", "code.__new__"),
    }
)
_FRAMES = frozenset({"tb_frame", "gi_frame", "cr_frame", "ag_frame"})
_CODE = frozenset({"__code__", "__defaults__", "__kwdefaults__"})
# These hand a frame on to whoever calls them; other library functions keep it to themselves.
_HANDING_ON = frozenset(
    {
        *("currentframe", "stack", "trace", "getouterframes", "getinnerframes"),
        *("walk_stack", "walk_tb", "settrace_all_threads", "setprofile_all_threads"),
        *("set_trace", "<lambda>"),  # of bdb and pdb, and `logging.currentframe`
    }
)

_PATHS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.utime"), (0,)),
    **dict.fromkeys(("os.chmod", "os.chown", "os.setxattr", "os.removexattr"), (0,)),
    **dict.fromkeys(("os.rename", "os.link"), (0, 1)),
    "os.symlink": (1,),
}
# Where the descriptors of the folders stand that those paths begin at, if they are relative.
_FOLDERS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("os.rmdir", "os.remove"), (1,)),
    **dict.fromkeys(("os.mkdir", "os.chmod", "os.symlink"), (2,)),
    **dict.fromkeys(("os.chown", "os.utime"), (3,)),
    **dict.fromkeys(("os.rename", "os.link"), (2, 3)),
}
_LISTING = frozenset({"os.listdir", "os.scandir"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Auditor:
    """Tells of one process; ``code`` is the package whose own code runs, empty where none does.

    ``readable`` and ``scratch`` are the folders that the job may read and write.
    """

    writer: RecordWriter
    scratch: str
    readable: tuple[str, ...]
    code: str
    told: set[Event] = field(default_factory=set)
    _inside: threading.local = field(default_factory=threading.local)
    _owner: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        self._libraries = tuple(os.path.realpath(one) + os.sep for one in installed())
        self._handlers: dict[str, Callable[[str, tuple[Any, ...]], None]] = {
            **dict.fromkeys(_CALLS, self._call),
            **dict.fromkeys(_PATHS, self._change),
            "open": self._open,
        }
        if self.code:
            self._handlers |= {
                **dict.fromkeys(_OWN_CALLS, self._own_call),
                **dict.fromkeys(_LISTING, self._list),
                **dict.fromkeys(_INTROSPECTION, self._introspect),
                "compile": self._compile,
                "exec": self._exec,
                "import": self._import,
            }

    def start(self) -> None:
        """Listen from now on, to this process and those that it forks."""
        handlers, inside = self._handlers, self._inside

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            handler = handlers.get(event)
            if handler is None or getattr(inside, "busy", False):
                return
            inside.busy = True
            try:
                handler(event, arguments)
            finally:
                inside.busy = False

        sys.addaudithook(hook)

    def tell(self, kind: str, what: object, where: str = "") -> None:
        """Note an event once; a forked process keeps it for `told`."""
        event = Event(kind, str(what)[:_TEXT], where)
        if event in self.told or len(self.told) >= LIMIT:
            return
        self.told.add(event)
        if os.getpid() == self._owner:
            self.writer.event(event)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> None:
        kind = _CALLS[name]
        if kind == SIGNAL and arguments[0] in (os.getpid(), 0):
            return
        frame = self._own_frame()
        if kind == PROCESS and frame is None and self._is_ours(_trigger()):
            return  # the second process of the checks themselves
        self.tell(kind, f"{name}({_shown(arguments)})", _place(frame))

    def _own_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        frame = self._own_frame(beyond_imports=False)
        unix = name == "socket.__new__" and arguments[1:2] == (1,)
        if frame is not None and not unix:
            self.tell(_OWN_CALLS[name], f"{name}({_shown(arguments)})", _place(frame))

    def _change(self, name: str, arguments: tuple[Any, ...]) -> None:
        folders = _FOLDERS.get(name, ())
        for number, index in enumerate(_PATHS[name]):
            folder = arguments[folders[number]] if number < len(folders) else -1
            path = _path(arguments[index], folder)
            if path and not self._within(path, (self.scratch,)):
                self.tell(WRITE, f"{name} {path}", _place(self._own_frame()))

    def _open(self, _: str, arguments: tuple[Any, ...]) -> None:
        (name, mode, flags), path = arguments, _path(arguments[0])
        if not path or path == os.devnull:
            return
        # `os.open` does not say which folder its path begins at. Whoever opened that was heard.
        if mode is None and not os.path.isabs(os.fsdecode(name)) and not os.path.lexists(path):  # noqa: PTH117
            return
        if isinstance(flags, int) and flags & _WRITING:
            if not self._within(path, (self.scratch,)):
                self.tell(WRITE, path, _place(self._own_frame()))
        elif self.code:
            self._read(path)

    def _list(self, _: str, arguments: tuple[Any, ...]) -> None:
        if path := _path(arguments[0] if arguments[0] is not None else "."):
            self._read(path)

    def _read(self, path: str) -> None:
        if self._within(path, (self.scratch, *self.readable, *self._libraries)):
            return
        frame = self._own_frame()
        if frame is not None:
            self.tell(READ, path, _place(frame))

    def _introspect(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name.startswith("object."):
            attribute = arguments[1] if len(arguments) > 1 else ""
            if attribute not in (_FRAMES if name.endswith("getattr__") else _CODE):
                return
            if attribute in _CODE and not self._judges(arguments[0]):
                return
            name = f"{type(arguments[0]).__name__}.{attribute}"
        frame = _trigger()
        while frame is not None and frame.f_code.co_name in _HANDING_ON:
            frame = frame.f_back
        if frame is not None and self._is_own(frame):
            self.tell(TAMPER, name, _place(frame))

    def _judges(self, function: object) -> bool:
        """Whether a function belongs to the checks or to what they compute with."""
        module = str(getattr(function, "__module__", "")).partition(".")[0]
        return module in ("slmconform", "torch", "json", "os", "builtins")

    def _compile(self, _: str, arguments: tuple[Any, ...]) -> None:
        """Own code that passes as that of a library would go unnoticed from there on."""
        name, frame = os.fsdecode(arguments[1] or ""), _trigger()
        if name.startswith(self._libraries) and frame is not None and self._is_own(frame):
            self.tell(TAMPER, f"compile {name}", _place(frame))

    def _exec(self, _: str, arguments: tuple[Any, ...]) -> None:
        self._executed(getattr(arguments[0], "co_filename", ""))

    def _import(self, _: str, arguments: tuple[Any, ...]) -> None:
        if len(arguments) > 1 and isinstance(arguments[1], str):
            self._executed(arguments[1])

    def _executed(self, path: str) -> None:
        if path.startswith(self.code + os.sep):
            self.tell(EXECUTED, os.path.relpath(path, self.code))

    def _within(self, path: str, folders: tuple[str, ...]) -> bool:
        real = os.path.realpath(path)
        return any(
            real == one.rstrip(os.sep) or real.startswith(one.rstrip(os.sep) + os.sep)
            for one in folders
        )

    def _own_frame(self, *, beyond_imports: bool = True) -> FrameType | None:
        """The innermost frame of the package's own code, None where it is not on the stack.

        Without ``beyond_imports`` also where a library is being imported: what it does then, it
        does for whoever imports it.
        """
        if not self.code:
            return None
        frame = _trigger()
        while frame is not None and not self._is_own(frame):
            if not beyond_imports and frame.f_code.co_name == "<module>":
                return None
            frame = frame.f_back
        return frame

    def _is_own(self, frame: FrameType) -> bool:
        """Whether a frame runs code of the package, or code that nobody installed."""
        if not self.code:
            return False
        file = frame.f_code.co_filename
        if file.startswith(self.code + os.sep):
            return True
        if file.startswith("<"):  # made by exec: of whom, says the module that it runs in
            module = sys.modules.get(str(frame.f_globals.get("__name__", "")))
            file = str(getattr(module, "__file__", None) or "") if module else ""
            if module is not None and not file:
                return False  # built in
        return not file.startswith(self._libraries)

    def _is_ours(self, frame: FrameType | None) -> bool:
        return frame is not None and frame.f_globals.get("__name__") == "slmconform.measure.replay"


def _trigger() -> FrameType | None:
    """The frame whose action raised the event: the innermost that is not of this module."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame


def _path(value: object, folder: int = -1) -> str:
    """The absolute path that an event names, empty for a descriptor.

    ``folder`` is the descriptor of the folder that a relative one begins at, if there is one.
    """
    if isinstance(value, int) or value is None:
        return ""
    try:
        path = os.fsdecode(value)  # type: ignore[arg-type]
        if folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)  # noqa: PTH115, PTH118
        return os.path.abspath(path)  # noqa: PTH100
    except OSError:
        return ""
    except (TypeError, ValueError):
        return ""


def _shown(arguments: tuple[Any, ...]) -> str:
    """Arguments of a call in a few words; objects by their type alone."""
    return ", ".join(_word(one) for one in arguments if one is not None)


def _word(value: object) -> str:
    if type(value) in (list, tuple):
        return " ".join(_word(one) for one in value[:8])  # type: ignore[index]
    plain = type(value) in (str, bytes, int, float, bool)  # whose repr is no code of the package
    return repr(value)[:80] if plain else type(value).__name__


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
