"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import chromium
import hypothesis
import pytest
import tiny_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Tiny models are slower on two threads than on one wherever a core is busy; no test ever asks the hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Examples are not timed: the cores are shared, and a slow moment is no failure.
hypothesis.settings.register_profile("thyme", deadline=None)
hypothesis.settings.load_profile("thyme")


LONGEST = (
    "test_readme.py",
    "test_grpo_distributed.py",
    "test_distributed.py",
    "test_grpo_ablation.py",
    "test_grpo_run.py",
    "test_ui_playground.py",
    "test_resume.py",
    "test_sft.py",
    "test_sft_inputs.py",
    "test_run.py",
    "test_ordinary_user.py",
    "test_attacks.py",
    "test_annotation_pages.py",
    "test_ablation.py",
)
"""Files that take half a minute and more: first, or a process would work on them alone when all others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the tests of one module: while it is open, no other event loop can run in this thread."""
    with chromium.open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, whatever it was set to before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_qwen2_5_vl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer random Qwen2.5-VL checkpoint; its tags are several tokens each."""
    return tiny_model.build_checkpoint(tmp_path_factory.mktemp("models") / "tiny-qwen2.5-vl", "qwen2_5_vl")


@pytest.fixture(scope="session")
def tiny_qwen3_vl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer random Qwen3-VL checkpoint (with deepstack); its tags are several tokens each."""
    return tiny_model.build_checkpoint(tmp_path_factory.mktemp("models") / "tiny-qwen3-vl", "qwen3_vl")


@pytest.fixture(scope="session")
def tiny_internvl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer random InternVL checkpoint; four tokens a tile, six tiles at most, and the thumbnail."""
    return tiny_model.build_checkpoint(tmp_path_factory.mktemp("models") / "tiny-internvl", "internvl")


@pytest.fixture(scope="session", params=["qwen2_5_vl", "qwen3_vl", "internvl"])
def any_checkpoint(request: pytest.FixtureRequest) -> Path:
    """The tiny checkpoints of every family, one after the other."""
    folder: Path = request.getfixturevalue(f"tiny_{request.param}")
    return folder


@pytest.fixture(scope="session", params=["qwen2_5_vl", "qwen3_vl"])
def tiny_checkpoint(request: pytest.FixtureRequest) -> Path:
    """The tiny checkpoints of the families that the engines run, one after the other."""
    folder: Path = request.getfixturevalue(f"tiny_{request.param}")
    return folder
