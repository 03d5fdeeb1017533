"""Checks of what is ours: the sandbox and the embedded model."""

from __future__ import annotations

from thyme.doctor.findings import Finding
from thyme.errors import ModelNotFoundError
from thyme.sandbox import check


def sandbox() -> list[Finding]:
    """The sandbox, by running a line of code at each level."""
    report = check()
    found = []
    for level in report.levels:
        name = f"sandbox, {level.level}"
        if level.available:
            found.append(Finding(name=name, state="ok", said=f"first code after {level.start_s:.2f} s"))
        else:
            state = "absent" if report.best else "fault"
            found.append(Finding(name=name, state=state, said=level.reason, mend=level.advice))
    return found


def model() -> list[Finding]:
    """The files of the embedded model."""
    from thyme.nano import checkpoint_path

    try:
        folder = checkpoint_path()
    except ModelNotFoundError as error:
        mend = "git restore thyme/nano/checkpoint in a checkout, else install thyme-vl again with --force-reinstall"
        return [Finding(name="embedded model", state="fault", said=str(error), mend=mend)]
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return [Finding(name="embedded model", state="ok", said=f"{size / 2**20:.0f} MiB")]
