"""What is no checkpoint is said to be none, with the way out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from thyme.errors import MissingExtraError, ModelNotFoundError
from thyme.families import load_family
from thyme.families.checkpoint import find_checkpoint


@pytest.mark.parametrize("name", ["nowhere", "/no/such/folder", "./missing/model", "a/b/c", "../up", ""])
def test_a_name_that_is_neither_folder_nor_hub_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError):
        find_checkpoint(name)


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        find_checkpoint(tmp_path)


def test_a_hub_id_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match=r"nobody/nothing.*network"):
        find_checkpoint("nobody/nothing")


def test_a_hub_id_without_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"thyme-vl\[local\]"):
        find_checkpoint("nobody/nothing")


def test_a_checkpoint_of_another_family(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelNotFoundError, match=r"llama.*qwen2_5_vl"):
        load_family(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type"')
    with pytest.raises(ModelNotFoundError, match=r"config\.json .* cannot be read .*again"):
        load_family(tmp_path)


def test_a_checkpoint_without_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    with pytest.raises(ModelNotFoundError, match="tokenizer"):
        load_family(tmp_path)


def test_families_are_importable_without_torch(tmp_path: Path) -> None:
    import subprocess

    code = "import sys, thyme.families; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
