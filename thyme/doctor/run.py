"""All checks, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from thyme.doctor import libraries, machine, own
from thyme.doctor.findings import Finding
from thyme.errors import UsageError

Check = Callable[[], list[Finding]]

CHECKS: Mapping[str, Check] = {
    "python": machine.python,
    "memory": machine.memory,
    "disk": machine.disk,
    "files": machine.files,
    "sandbox": own.sandbox,
    "model": own.model,
    "torch": libraries.torch,
    "transformers": libraries.transformers,
    "vllm": libraries.vllm,
    "chromium": machine.chromium,
    "extras": libraries.extras,
}
"""By the name under which one alone is asked for."""


def examine(names: Sequence[str] = (), checks: Mapping[str, Check] = CHECKS) -> Iterator[Finding]:
    """Look at one thing after the other.

    A check that fails itself is a fault of what it looks at, not the end of the others.

    Args:
        names: Checks; none: all.
        checks: Those that there are.

    Raises:
        UsageError: There is no check of such a name.
    """
    if unknown := [name for name in names if name not in checks]:
        raise UsageError(f"there is no check {unknown[0]}; there are: {', '.join(checks)}")
    for name in names or checks:
        try:
            yield from checks[name]()
        except Exception as error:
            yield Finding(name=name, state="fault", said=f"could not be looked at ({type(error).__name__}: {error})")
