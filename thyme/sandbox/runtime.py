"""What a session can see of this machine: the interpreter, a few system libraries, and the importable distributions.

Nothing else is visible: not this package, not the other distributions of the same environment, no home, no data.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from thyme.errors import ConfigError

SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib64")
SYSTEM_FILES = ("/etc/ld.so.cache", "/usr/share/zoneinfo", "/usr/share/fonts")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")

ALWAYS = frozenset({"numpy", "PIL", "cv2"})
"""Packages that the zygote imports itself."""

_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NEVER = frozenset({"thyme", "thyme-vl"})


@dataclass(frozen=True)
class Runtime:
    """Paths of the host, all absolute and without symlinks on the way."""

    python: str
    """The interpreter that the zygote is started with."""
    standard_library: tuple[str, ...]
    """``sys.path`` of the zygote before the packages come."""
    trees: tuple[str, ...]
    """Folders and files that are readable."""
    holes: tuple[str, ...]
    """Folders inside `trees` that are not."""
    links: tuple[tuple[str, str], ...]
    """Symlinks of the host's root that libraries are found through, with their targets."""
    packages: tuple[tuple[str, str], ...]
    """Name and path of each entry of a site folder that is importable."""

    def to_json(self) -> dict[str, Any]:
        """As the zygote is told."""
        return asdict(self)


def runtime_for(names: Iterable[str]) -> Runtime:
    """What code may see that may import the distributions `names` and what they require."""
    return _runtime_for(tuple(sorted(set(names))))


@functools.lru_cache(maxsize=4)
def _runtime_for(names: tuple[str, ...]) -> Runtime:
    standard_library = _standard_library()
    candidates = [*standard_library, *_interpreter_libraries(), *_system_library_folders(), *SYSTEM_FILES, *DEVICES]
    trees = _outermost(os.path.realpath(path) for path in candidates if os.path.exists(path))
    return Runtime(
        python=_interpreter(),
        standard_library=standard_library,
        trees=trees,
        holes=_holes(trees),
        links=tuple((path, os.readlink(path)) for path in SYSTEM_LIBRARIES if os.path.islink(path)),
        packages=tuple(sorted(_site_entries(names).items())),
    )


def require_importable(modules: Iterable[str], runtime: Runtime) -> None:
    """Refuse modules that code could not import.

    Raises:
        ConfigError: One belongs neither to the standard library nor to an importable distribution.
    """
    found = sys.stdlib_module_names | {name.split(".")[0] for name, _ in runtime.packages}
    if missing := [module for module in modules if module.split(".")[0] not in found]:
        raise ConfigError(
            f"preload: code may not import {', '.join(missing)}; install it, name its distribution in importable, or "
            "leave it out"
        )


def versions_of(names: Iterable[str]) -> dict[str, str | None]:
    """Installed version of each distribution; None where it is missing."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _interpreter() -> str:
    """The interpreter itself, outside of any virtual environment."""
    base: str = getattr(sys, "_base_executable", sys.executable)
    return os.path.realpath(base)


def _standard_library() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    pure, binary = os.path.realpath(paths["stdlib"]), os.path.realpath(paths["platstdlib"])
    base = os.path.join(os.path.realpath(sys.base_exec_prefix), os.path.relpath(binary, os.path.realpath(sys.prefix)))
    compiled = [os.path.join(folder, "lib-dynload") for folder in (pure, binary, base)]
    return tuple(dict.fromkeys([pure, *(folder for folder in compiled if os.path.isdir(folder))]))


def _interpreter_libraries() -> list[str]:
    """Shared libraries that an interpreter outside of /usr brings along, e.g. in a conda environment."""
    base = os.path.realpath(sys.base_prefix)
    return [] if base == "/usr" else [os.path.join(base, "lib")]


def _system_library_folders() -> list[str]:
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{os.uname().machine}-linux-gnu"
    return [f"/usr/lib/{multiarch}", f"/lib/{multiarch}", "/lib64", "/usr/lib64"]


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """`paths` without those that lie inside another."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not kept or not is_inside(path, kept):
            kept.append(path)
    return tuple(kept)


def is_inside(path: str, folders: Iterable[str]) -> bool:
    """Whether `path` is one of `folders` or below one."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _holes(trees: tuple[str, ...]) -> tuple[str, ...]:
    """Every place inside `trees` where distributions, this package among them, are installed."""
    places = {*site.getsitepackages(), site.getusersitepackages(), *sys.path, str(Path(__file__).parents[1])}
    for tree in trees:
        for pattern in ("site-packages", "dist-packages", "python*/site-packages", "python*/dist-packages"):
            places.update(str(found) for found in Path(tree).glob(pattern))
    real = {os.path.realpath(place) for place in places if place}
    library = _standard_library()
    return _outermost(
        place
        for place in real
        if is_inside(place, trees)
        and not is_inside(place, library[1:])
        and place not in library
        and os.path.isdir(place)
    )


def _site_entries(names: Iterable[str]) -> dict[str, str]:
    """Top-level names in site folders that belong to `names` and their requirements, with their paths."""
    entries: dict[str, str] = {}
    for found in _with_requirements(names):
        for entry, path in _top_level(found):
            entries.setdefault(entry, path)
    for name in sorted(ALWAYS - entries.keys()):  # put there without a record, as some package managers do
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            entries[name] = os.path.realpath(next(iter(spec.submodule_search_locations)))
    return entries


def _with_requirements(names: Iterable[str]) -> Iterator[Distribution]:
    waiting, seen = list(names), set(_NEVER)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        yield found
        for requirement in found.requires or ():
            if match := _REQUIREMENT_NAME.match(requirement):
                waiting += [] if "extra ==" in requirement else [match.group()]


def _top_level(found: Distribution) -> Iterator[tuple[str, str]]:
    """Entries of the site folder that hold the distribution's files."""
    folder = os.path.realpath(str(found.locate_file("")))
    files = [file.parts[0] for file in found.files or () if file.parts]
    for name in {*(files or (found.read_text("top_level.txt") or "").split())} - {"..", "__pycache__"}:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            yield name, path
