"""How model code came to ask for something: on the way to an error, or only to see whether it is there."""

from __future__ import annotations

import dis
import sys
from types import CodeType, FrameType

CODE_PREFIX = "<code "
"""What the file names of model code start with."""

_ACCESS = {"LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"}
_FIRST_CALLER = 2


def asked_directly() -> bool:
    """Whether the caller's caller is model code that reads an attribute or imports a name, not `hasattr` and the like.

    Code that looks before it leaps, or catches `AttributeError`, works as it is.
    """
    frame = sys._getframe(_FIRST_CALLER)
    if not frame.f_code.co_filename.startswith(CODE_PREFIX):
        return False
    name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    return name in _ACCESS and not expects("AttributeError", "ImportError")


def unpacks(count: int) -> bool:
    """Whether the caller's caller is model code that takes what it gets apart into `count` parts."""
    frame = sys._getframe(_FIRST_CALLER)
    if not frame.f_code.co_filename.startswith(CODE_PREFIX):
        return False
    code = frame.f_code.co_code
    place = frame.f_lasti + 2
    while place < len(code) and dis.opname[code[place]] == "CACHE":
        place += 2
    return place < len(code) and dis.opname[code[place]] == "UNPACK_SEQUENCE" and code[place + 1] == count


def expects(*errors: str) -> bool:
    """Whether model code on the stack has a handler for one of `errors`, by its name."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        is_ours = code.co_filename.startswith(CODE_PREFIX) and not set(errors).isdisjoint(code.co_names)
        if is_ours and not handled(code).isdisjoint(errors):
            return True
        frame = frame.f_back
    return False


def handled(code: CodeType) -> set[str]:
    """Names of the exceptions that handlers of `code` catch: ``error`` for `cv2.error`."""
    names: set[str] = set()
    loaded: list[str] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname.startswith("LOAD_") and isinstance(instruction.argval, str):
            loaded.append(instruction.argval)
        elif instruction.opname == "CHECK_EXC_MATCH":
            names.update(loaded)
        elif instruction.opname != "BUILD_TUPLE":
            loaded.clear()
    return names


def is_caught() -> bool:
    """Whether any handler of model code would see an error raised now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(CODE_PREFIX):
            entries = dis._parse_exception_table(code)  # type: ignore[attr-defined]  # no public reader of this table
            if any(entry.start <= frame.f_lasti < entry.end for entry in entries):
                return True
        frame = frame.f_back
    return False
