"""The grammar of models: every form opens the right engine, every wrong one is named with the way out."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from thyme.config import EngineConfig
from thyme.engines.scripted import ScriptedEngine
from thyme.errors import MissingExtraError, ModelNotFoundError, UsageError
from thyme.models import checkpoint_folder, open_model


def test_a_script_is_a_model(tmp_path: Path) -> None:
    for content in (["<answer>4</answer>"], {"1 + 1": ["<answer>2</answer>"]}):
        (tmp_path / "script.json").write_text(json.dumps(content))
        assert isinstance(open_model(f"scripted:{tmp_path}/script.json"), ScriptedEngine)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[1]", "must be a list of texts"), ("3", "must be"), ('{"a": "b"}', "must be a list")],
)
def test_a_script_of_another_shape_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "script.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        open_model(f"scripted:{tmp_path}/script.json")


def test_a_script_that_is_not_there_is_no_model() -> None:
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        open_model("scripted:nowhere.json")


async def test_the_embedded_model_is_called_nano_and_is_told_how_to_load() -> None:
    engine = open_model("nano", EngineConfig(max_context=1234))
    assert (engine.info.name, engine.info.capabilities.max_context) == ("nano", 1234)
    await engine.aclose()


async def test_a_folder_is_a_model() -> None:
    from thyme.nano import checkpoint_path

    engine = open_model(str(checkpoint_path("base")))
    assert engine.info.name == "base"
    await engine.aclose()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=str(tmp_path)):
        open_model(str(tmp_path))


def test_nano_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("thyme.engines.transformers"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"embedded model nano needs the extra 'local'"):
        open_model("nano")


def test_training_finds_the_folder_of_every_model_that_has_weights(tiny_qwen2_5_vl: Path) -> None:
    assert checkpoint_folder(tiny_qwen2_5_vl) == tiny_qwen2_5_vl
    found = [checkpoint_folder(name) for name in ("nano", "nano:base", "nano:undecided", "nano:direct")]
    assert [folder.name for folder in found] == ["final", "base", "undecided", "direct"]
    assert all((folder / "model.safetensors").is_file() for folder in found)
    with pytest.raises(ModelNotFoundError, match="nano:bse"):
        checkpoint_folder("nano:bse")


async def test_the_base_can_be_asked_too() -> None:
    engine = open_model("nano:base")
    assert engine.info.name == "nano:base"
    await engine.aclose()
