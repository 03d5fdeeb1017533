"""Checks of libraries: torch and the GPU, transformers, vLLM, the extras. Imports happen in other processes."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import metadata
from typing import Any, Final

from thyme.doctor.child import ChildError, told_by
from thyme.doctor.findings import Finding

DISTRIBUTION: Final = "thyme-vl"
LOCAL: Final = "to run models here: pip install 'thyme-vl[local]' (in a checkout with -c constraints.txt)"
AGAIN: Final = "pip install --force-reinstall"
_TORCH: Final = """
import json, torch
cuda = torch.cuda.is_available()
devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if cuda else []
print(json.dumps({"version": torch.__version__, "built": torch.version.cuda or torch.version.hip, "cuda": cuda,
    "devices": [[d.name, d.total_memory] for d in devices], "bf16": cuda and torch.cuda.is_bf16_supported(),
    "sum": float(torch.ones(3).sum())}))
"""
_TRANSFORMERS: Final = """
import json, transformers
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil
print(json.dumps({"version": transformers.__version__}))
"""
_EXTRA: Final = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
_NAME: Final = re.compile(r"[\w.-]+")
_NOT_FOR_USERS: Final = {"all", "dev", "bench"}


def torch() -> list[Finding]:
    """Torch, and what it sees of GPUs."""
    if not _version("torch"):
        return [Finding(name="torch", state="absent", said="not installed", mend=LOCAL), _gpu(None)]
    try:
        found = told_by(_TORCH)
    except ChildError as error:
        return [Finding(name="torch", state="fault", said=f"cannot be imported: {error}", mend=f"{AGAIN} torch")]
    built = f"for CUDA {found['built']}" if found["built"] else "for CPUs"
    return [Finding(name="torch", state="ok", said=f"{found['version']}, built {built}"), _gpu(found)]


def _gpu(found: Any) -> Finding:
    """What torch sees, against what the driver says."""
    if found and found["devices"]:
        names = ", ".join(f"{name} ({memory / 2**30:.0f} GiB)" for name, memory in found["devices"])
        if not found["bf16"]:
            mend = "train with bf16 = false, or on a newer GPU"
            return Finding(name="GPU", state="warning", said=f"{names}, without bfloat16", mend=mend)
        return Finding(name="GPU", state="ok", said=names)
    driver = _driver()
    if driver is None:
        return Finding(name="GPU", state="absent", said="none; the embedded model needs none")
    if found and not found["built"]:
        mend = f"install the torch that is built for CUDA: {AGAIN} torch, without constraints.txt"
        return Finding(name="GPU", state="fault", said=f"{driver}, but this torch is built for CPUs", mend=mend)
    mend = "compare the driver's CUDA version (nvidia-smi) with torch's; CUDA_VISIBLE_DEVICES may hide the GPU"
    return Finding(name="GPU", state="fault", said=f"{driver}, but torch does not see it", mend=mend)


def _driver() -> str | None:
    """GPUs as the driver names them; None where there is no driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    asked = [command, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "nvidia-smi does not answer"
    return done.stdout.strip().replace("\n", "; ") if done.returncode == 0 and done.stdout.strip() else None


def transformers() -> list[Finding]:
    """Transformers with the models that are used, and torchvision, which breaks it where it does not fit torch."""
    if not _version("transformers"):
        return [Finding(name="transformers", state="absent", said="not installed", mend=LOCAL)]
    vision = _version("torchvision")
    try:
        found = told_by(_TRANSFORMERS)
    except ChildError as error:
        mend = "pip uninstall torchvision: thyme does not need it" if vision else f"{AGAIN} transformers"
        return [Finding(name="transformers", state="fault", said=f"cannot be imported: {error}", mend=mend)]
    beside = f"with torchvision {vision}" if vision else "without torchvision, as it should be"
    return [Finding(name="transformers", state="ok", said=f"{found['version']}, {beside}")]


def vllm() -> list[Finding]:
    """VLLM: only its version, as importing it takes long and may take a GPU."""
    version = _version("vllm")
    if version is None:
        mend = "to serve with it: an environment of its own with vllm and thyme-vl, or any server by URL#NAME"
        return [Finding(name="vLLM", state="absent", said="not installed", mend=mend)]
    return [Finding(name="vLLM", state="ok", said=version)]


def extras() -> list[Finding]:
    """Which extras of the package are complete."""
    wanted = required()
    if not wanted:
        mend = "pip install -e . in the checkout"
        return [Finding(name="extras", state="warning", said=f"{DISTRIBUTION} is not installed", mend=mend)]
    found = []
    for extra, names in wanted.items():
        missing = sorted(name for name in names if _version(name) is None)
        mend = f"pip install '{DISTRIBUTION}[{extra}]'" if missing else ""
        said = f"missing: {', '.join(missing)}" if missing else "complete"
        found.append(Finding(name=f"extra {extra}", state="absent" if missing else "ok", said=said, mend=mend))
    return found


def required() -> dict[str, set[str]]:
    """Distributions by extra, for those that users install; empty where the package itself is not installed."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, set[str]] = {}
    for line in lines:
        extra, name = _EXTRA.search(line), _NAME.match(line)
        if extra and name and extra[1] not in _NOT_FOR_USERS and name[0] != DISTRIBUTION:
            found.setdefault(extra[1], set()).add(name[0])
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
