"""Names that code expects to be there: modules it never imported, variables that were lost (``names``, ``variables``).

They are looked up where Python looks last, among the builtins, and only for a block that reads such a name: a name is
found at the very moment at which there would be a `NameError`, and never otherwise.
"""

from __future__ import annotations

import builtins
import dis
import importlib
import importlib.machinery
import re
import sys
import types
from collections.abc import Callable
from typing import Any

from . import windows
from .callers import expects
from .paths import Paths, exists

MODULES = {
    "cv": "cv2", "cv2": "cv2", "cv3": "cv2", "cv4": "cv2", "CV": "cv2", "CV2": "cv2", "opencv": "cv2",
    "np": "numpy", "numpy": "numpy", "plt": "matplotlib.pyplot", "matplotlib": "matplotlib", "pd": "pandas",
    "pandas": "pandas", "scipy": "scipy", "skimage": "skimage", "sympy": "sympy", "ndimage": "scipy.ndimage",
    "measure": "skimage.measure", "morphology": "skimage.morphology", "exposure": "skimage.exposure",
    "segmentation": "skimage.segmentation", "PIL": "PIL", "Image": "PIL.Image", "ImageOps": "PIL.ImageOps",
    "ImageDraw": "PIL.ImageDraw", "ImageFont": "PIL.ImageFont", "ImageFilter": "PIL.ImageFilter",
    "ImageEnhance": "PIL.ImageEnhance", "ImageChops": "PIL.ImageChops", "ImageStat": "PIL.ImageStat",
    "ImageColor": "PIL.ImageColor", "ImageMath": "PIL.ImageMath", "math": "math", "os": "os", "re": "re",
    "json": "json", "sys": "sys", "io": "io", "random": "random", "time": "time", "glob": "glob", "shutil": "shutil",
    "string": "string", "copy": "copy", "base64": "base64", "itertools": "itertools", "functools": "functools",
    "collections": "collections", "statistics": "statistics", "pathlib": "pathlib", "traceback": "traceback",
    "colorsys": "colorsys", "operator": "operator", "heapq": "heapq", "tempfile": "tempfile", "uuid": "uuid",
    "datetime": "datetime", "fractions": "fractions", "decimal": "decimal",
}  # fmt: skip
"""Names that stand for a module."""

MEMBERS = {
    "Path": "pathlib", "Counter": "collections", "defaultdict": "collections", "deque": "collections",
    "namedtuple": "collections", "OrderedDict": "collections", "BytesIO": "io", "StringIO": "io",
    "combinations": "itertools", "permutations": "itertools", "deepcopy": "copy", "reduce": "functools",
    "lru_cache": "functools", "sqrt": "math", "ceil": "math", "floor": "math", "pi": "math", "atan2": "math",
    "hypot": "math", "Fraction": "fractions", "Decimal": "decimal", "dataclass": "dataclasses",
    "List": "typing", "Tuple": "typing", "Dict": "typing", "Optional": "typing", "Any": "typing", "Union": "typing",
}  # fmt: skip
"""Names that stand for a member of a module."""

MISNAMED = {
    "cv": "cv2", "cv3": "cv2", "cv4": "cv2", "CV": "cv2", "CV2": "cv2", "opencv": "cv2", "cv2.cv2": "cv2",
    "pil": "PIL", "Pillow": "PIL", "pillow": "PIL", "Image": "PIL.Image", "Numpy": "numpy", "Math": "math",
}  # fmt: skip
"""Modules that are imported under a name they do not have."""

_PATHS = frozenset({"image_paths", "img_paths", "processed_path"})
_INPUT = re.compile(r"(?:input_|original_)?(?:image|img)_?(?:path|file|filename)(?:_?(\d+))?|input_path", re.IGNORECASE)
_REPAIRS = frozenset({"names", "variables", "windows"})
_STORE_NAME, _LOAD_NAME, _LOAD_GLOBAL, _EXTENDED_ARG = (
    dis.opmap[name] for name in ("STORE_NAME", "LOAD_NAME", "LOAD_GLOBAL", "EXTENDED_ARG")
)
_NEEDED = ("__import__", "__build_class__")
"""What the interpreter looks for in the builtins without asking `__missing__`."""


class _Builtins(dict[str, Any]):
    """The builtins, and behind them the names that code expects."""

    def __init__(self, find: Callable[[str], Any]) -> None:
        super().__init__({name: getattr(builtins, name) for name in _NEEDED})
        self._find = find

    def __missing__(self, name: str) -> Any:
        try:
            return builtins.__dict__[name]
        except KeyError:
            return self._find(name)


def arm(code: types.CodeType, namespace: dict[str, Any], paths: Paths, screen: windows.Screen) -> None:
    """Let `code`, about to run in `namespace`, find the names it expects."""
    namespace.pop("__builtins__", None)  # what an earlier block was given; `exec` puts Python's own there
    if paths.enabled.isdisjoint(_REPAIRS) or not expected_names(code, namespace, paths.last_saved is not None):
        return
    namespace["__builtins__"] = _Builtins(lambda name: _find(name, paths, screen))


def expected_names(code: types.CodeType, known: dict[str, Any], has_saved: bool) -> set[str]:
    """Names that `code` reads, that are not in `known`, and that can be found.

    Those that it binds itself are left out, so that ordinary code is not slowed down by a look behind the builtins; all
    but ``processed_path`` of a later block (`has_saved`), which is often read before it is bound anew.
    """
    there = builtins.__dict__
    found = {name for name in _mentioned(code) if name not in known and name not in there and is_findable(name)}
    kept = {"processed_path"} if has_saved else set()
    return {name for name in found if _reads(code, name) and (name in kept or not _has(code, _STORE_NAME, name))}


def _mentioned(code: types.CodeType) -> set[str]:
    """Names that a block, its functions and classes have to do with in any way: a first, quick look."""
    return set(code.co_names).union(*(_mentioned(item) for item in code.co_consts if isinstance(item, types.CodeType)))


def _reads(code: types.CodeType, name: str) -> bool:
    """Whether a block, its functions or classes look `name` up outside of themselves."""
    if _has(code, _LOAD_NAME, name) or _has(code, _LOAD_GLOBAL, name):
        return True
    return any(isinstance(item, types.CodeType) and _reads(item, name) for item in code.co_consts)


def _has(code: types.CodeType, operation: int, name: str) -> bool:
    """Whether one operation of `code` is about `name`; much faster than `dis`."""
    if name not in code.co_names:
        return False
    number = code.co_names.index(name)
    if operation != _LOAD_GLOBAL:
        return _holds(code.co_code, operation, number)
    return _holds(code.co_code, operation, 2 * number) or _holds(code.co_code, operation, 2 * number + 1)


def _holds(operations: bytes, operation: int, argument: int) -> bool:
    """Whether one of `operations`, two bytes each, is this one with this argument."""
    wanted, prefix = bytes((operation, argument & 255)), argument >> 8
    place = operations.find(wanted)
    while place >= 0:
        prefixed = place > 1 and operations[place - 2] == _EXTENDED_ARG
        if place % 2 == 0 and prefix == (operations[place - 1] if prefixed else 0):
            return True
        place = operations.find(wanted, place + 1)
    return False


def is_findable(name: str) -> bool:
    """Whether there is something that a missing `name` stands for."""
    return name in MODULES or name in MEMBERS or name in _PATHS or name in windows.NAMES or bool(_INPUT.fullmatch(name))


def _find(name: str, paths: Paths, screen: windows.Screen) -> Any:
    """What a missing name stands for.

    Raises:
        KeyError: Nothing; Python makes a `NameError` of it.
    """
    if expects("NameError"):  # code that tries whether a name is there works as it is
        raise KeyError(name)
    if "variables" in paths.enabled and (value := _variable(name, paths)) is not None:
        paths.note("variables", f"{name} was not defined; it is {str(value)[:200]}")
        return value
    if "windows" in paths.enabled and name in windows.NAMES:
        return windows.stand_in(name, screen, paths)
    if "names" in paths.enabled and (name in MODULES or name in MEMBERS):
        return _imported(name, paths)
    raise KeyError(name)


def _variable(name: str, paths: Paths) -> Any:
    """The value of a variable of ours that is gone; None where there is none."""
    if name == "processed_path":
        last = paths.last_saved
        return last if last is not None and exists(paths.real(last)) else None
    if name in _PATHS:
        return list(paths.inputs)
    matched = _INPUT.fullmatch(name)
    if matched is None or not paths.inputs:
        return None
    number = int(matched[1] or 1) if len(matched[1] or "") < 4 else 0
    return paths.inputs[max(number, 1) - 1] if number <= len(paths.inputs) else None


def _imported(name: str, paths: Paths) -> Any:
    source = MODULES.get(name) or MEMBERS[name]
    try:
        module = importlib.import_module(source)
    except ImportError:
        raise KeyError(name) from None
    if name in MODULES:
        paths.note("names", f"{name} was not imported" + (f"; it is {source}" if name != source else ""))
        return module
    paths.note("names", f"{name} was not imported; it is {source}.{name}")
    return getattr(module, name)


def install(paths: Paths) -> None:
    """Find modules that are imported under a name they do not have. Call once, in the forked process."""
    if "names" in paths.enabled:
        sys.meta_path.append(_MisnamedModules(paths))


class _MisnamedModules:
    """Asked last, for what no other finder knows."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in MISNAMED or expects("ImportError", "ModuleNotFoundError"):
            return None
        self._paths.note("names", f"there is no module {name}; it is {MISNAMED[name]}")
        return importlib.machinery.ModuleSpec(name, _Loader(MISNAMED[name]))  # type: ignore[arg-type]  # is a loader


class _Loader:
    """Gives out a module that there is, unchanged."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: Any = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Only undo what importing it under another name did to it."""
        module.__spec__ = self._spec
