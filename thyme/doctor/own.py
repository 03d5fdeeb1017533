"""Checks of what is ours: the sandbox and the embedded model."""

from __future__ import annotations

from thyme.doctor.findings import Finding
from thyme.sandbox import check

EMBEDDED = "nano"


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

    folder = checkpoint_path()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    if not (folder / "model.safetensors").is_file():
        mend = "the installation is not whole: pip install --force-reinstall thyme-vl"
        return [Finding(name="embedded model", state="fault", said="its weights are missing", mend=mend)]
    return [Finding(name="embedded model", state="ok", said=f"{size / 2**20:.0f} MiB")]
