"""Telling a pickle by its opcodes, followed one by one without carrying any of them out.

Old pickles begin with no mark at all, so prose and word lists have to be told from them: a stack
that would underflow, an argument that an unpickler would refuse and an import that names no known
module all end the walk.
"""

from __future__ import annotations

import importlib.util
import pickletools
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmap import mmap

OPCODES = 200_000  # that are followed before the file counts as a pickle
ALL_OPCODES = 1_000_000  # in all files of a package; those of sound ones are a few hundred
LONGEST_NAME = 500  # bytes, of a module and what is imported from it

TABLE = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
CALLS = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
IMPORTS = frozenset({"GLOBAL", "INST"})
NAMED_ON_THE_STACK = frozenset({"STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
OLD_MODULES = frozenset({"__builtin__", "commands", "copy_reg", "cPickle", "exceptions", "nt"})

_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_NUMBER = re.compile(rb"[\s\d+\-._eEinfatyINFATYL]+")
_TEXT = {
    "INT": _NUMBER,
    "LONG": _NUMBER,
    "FLOAT": _NUMBER,
    "GET": _NUMBER,
    "PUT": _NUMBER,
    "STRING": re.compile(rb"\s*(['\"]).*\1\s*", re.DOTALL),
}
_IMPORT = re.compile(rb"([A-Za-z_][\w.]*)\n([A-Za-z_][\w.]*)\n")


@dataclass
class Patience:
    """How many opcodes are still followed; shared by the files of a package."""

    left: int = ALL_OPCODES


@dataclass
class _Stack:
    """How many objects lie above each mark; an unpickler stops where one is missing."""

    heights: list[int] = field(default_factory=lambda: [0])

    def apply(self, opcode: pickletools.OpcodeInfo) -> bool:
        """Pop and push as the opcode does; False where there is too little to pop."""
        needed = opcode.stack_before
        if pickletools.markobject in needed:
            if len(self.heights) == 1:
                return False
            self.heights.pop()
            count = needed.index(pickletools.markobject)
        elif opcode.name == "POP" and self.heights[-1] == 0 and len(self.heights) > 1:
            self.heights.pop()
            return True
        else:
            count = len(needed)
        self.heights[-1] -= count
        if self.heights[-1] < 0:
            return False
        if opcode.name == "MARK":
            self.heights.append(0)
        else:
            self.heights[-1] += len(opcode.stack_after)
        return True


def walk(data: bytes | mmap, patience: Patience | None = None) -> str:
    """How the bytes are a pickle, or an empty text where an unpickler would do no harm.

    They are one if an import is followed by a call, if a protocol mark is followed by a whole
    pickle, or if there are more opcodes in a row than anything else has by accident.
    """
    patience = patience or Patience()
    stack, imported, at = _Stack(), "", 0
    marked = data[0] == 0x80
    for _ in range(min(OPCODES, patience.left)):
        patience.left -= 1
        opcode = TABLE.get(data[at]) if at < len(data) else None
        end = _end(data, at + 1, opcode) if opcode else 0
        if opcode is None or not at < end <= len(data) or not stack.apply(opcode):
            return ""
        if not _legal(opcode.name, data, at + 1, end):
            return ""
        if opcode.name in IMPORTS:
            imported = _imported(data[at + 1 : end], marked=marked) or imported
        elif opcode.name in NAMED_ON_THE_STACK:
            imported = imported or "by a name on its stack"
        if imported and opcode.name in CALLS:
            return f"it imports {imported} and calls it"
        if opcode.name == "STOP":
            return "it is a pickle from its first byte to its stop" if marked or imported else ""
        at = end
    return "its opcodes are those of a pickle"


def _end(data: bytes | mmap, at: int, opcode: pickletools.OpcodeInfo) -> int:
    """Where the argument that starts at ``at`` ends; past the data where it is cut off."""
    length = opcode.arg.n if opcode.arg else 0
    if length in _LENGTH_BYTES:
        width = _LENGTH_BYTES[length]
        return at + width + int.from_bytes(data[at : at + width], "little")
    if length != pickletools.UP_TO_NEWLINE:
        return at + length
    for _ in range(2 if opcode.name in IMPORTS else 1):
        at = data.find(b"\n", at) + 1
        if not at:
            return len(data) + 1
    return at


def _legal(name: str, data: bytes | mmap, begin: int, end: int) -> bool:
    """Whether an unpickler takes this argument; of long ones only the type is judged."""
    if name == "PROTO":
        return data[begin] <= 5
    if name in IMPORTS:
        return end - begin <= LONGEST_NAME
    pattern = _TEXT.get(name)
    return pattern is None or bool(pattern.fullmatch(data[begin : end - 1]))


def _imported(argument: bytes, *, marked: bool) -> str:
    """``module.name`` of an import opcode; empty for prose that looks like one."""
    match = _IMPORT.fullmatch(argument)
    if not match:
        return ""
    module, name = match[1].decode(), match[2].decode()
    return f"{module}.{name}" if marked or _known(module.partition(".")[0]) else ""


def _known(module: str) -> bool:
    """Whether an import of this top-level module can succeed here, or could in old Python."""
    if module in sys.stdlib_module_names or module in OLD_MODULES or module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
