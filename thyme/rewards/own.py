"""Rewards of one's own: functions that the settings name, loaded from a file or a module, and called one at a time."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from math import isfinite
from pathlib import Path
from types import ModuleType

from thyme.config.rewards import OwnReward
from thyme.errors import ConfigError, ThymeError
from thyme.types import Trajectory

Pay = Callable[[Trajectory], "float | Awaitable[float | None] | None"]
"""What a trajectory is paid; None where the function cannot tell."""


class OwnRewardError(ThymeError):
    """A reward of one's own raised, or gave no number."""


class Payer:
    """Calls one function; never twice at once, so that it need not be safe in threads."""

    def __init__(self, name: str, pay: Pay) -> None:
        """Keep the function of this part."""
        self._name, self._pay = name, pay
        self._turn = asyncio.Lock()

    async def __call__(self, trajectory: Trajectory) -> float | None:
        """What it pays.

        Raises:
            OwnRewardError: It raised, or gave something else than a finite number or None.
        """
        try:
            async with self._turn:
                paid = await self._called(trajectory)
        except Exception as error:  # of somebody else's code, whatever it is
            file = getattr(getattr(self._pay, "__code__", None), "co_filename", "")
            raise OwnRewardError(_told(error, file)) from error
        if paid is None:
            return None
        try:
            value = float(paid)
        except (TypeError, ValueError):
            value = float("nan")
        if not isfinite(value):
            raise OwnRewardError(f"it gave {paid!r}, which is no number")
        return value

    async def _called(self, trajectory: Trajectory) -> float | None:
        if inspect.iscoroutinefunction(self._pay):
            return await self._pay(trajectory)  # type: ignore[no-any-return]
        made = await asyncio.to_thread(self._pay, trajectory)
        return await made if inspect.isawaitable(made) else made


def load_own(own: Mapping[str, OwnReward]) -> dict[str, Payer]:
    """The functions that the settings name.

    Raises:
        ConfigError: One is not there, or its file or module cannot be run.
    """
    return {name: Payer(name, _function(name, one.function)) for name, one in own.items()}


def own_fingerprint(own: Mapping[str, OwnReward]) -> str:
    """Hash of the files and modules behind the settings, so that a run does not go on under another reward."""
    told = hashlib.blake2b(digest_size=16)
    for name, one in sorted(own.items()):
        where, _, function = one.function.rpartition(":")
        file = getattr(_module(name, where), "__file__", None)
        source = Path(file).read_bytes() if file else b""
        told.update(f"{name}\0{function}\0{one.weight!r}\0{one.only_right}\0".encode() + source + b"\0")
    return told.hexdigest()


def _function(part: str, named: str) -> Pay:
    where, _, name = named.rpartition(":")
    found = getattr(_module(part, where), name, None)
    if not callable(found):
        what = "has no such function" if found is None else f"'{name}' is no function"
        raise ConfigError(f"rewards.own.{part}.function = '{named}': {Path(where).name} {what}")
    pay: Pay = found
    return pay


def _module(part: str, where: str) -> ModuleType:
    """The module, run once for all functions that are taken from it."""
    path = Path(where).expanduser() if where.endswith(".py") else None
    if path is not None and not path.is_file():
        raise ConfigError(
            f"rewards.own.{part}.function: no file '{where}'; a path counts from the folder that the command runs in"
        )
    try:
        return import_module(where) if path is None else _of_file(path)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"rewards.own.{part}.function: {where} needs the module '{error.name}', which is not to be found; install "
            "it, or have PYTHONPATH name its folder"
        ) from error
    except Exception as error:  # of somebody else's code, whatever it is
        raise ConfigError(f"rewards.own.{part}.function: {where} cannot be run ({_told(error, where)})") from error


def _told(error: Exception, file: str) -> str:
    """The error in a line, with the place in the file that it came from, or the last one elsewhere."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next((one for one in reversed(frames) if Path(one.filename).name == Path(file).name), frames[-1])
    return f"{type(error).__name__}: {error}; {Path(last.filename).name}, line {last.lineno}"


def _of_file(path: Path) -> ModuleType:
    whole = path.resolve()
    name = f"thyme_own_{hashlib.blake2b(str(whole).encode(), digest_size=8).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, whole)
    assert spec is not None  # by its ending
    assert spec.loader is not None
    if str(whole.parent) not in sys.path:
        sys.path.append(str(whole.parent))  # as of a program: it may import what lies beside it
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
