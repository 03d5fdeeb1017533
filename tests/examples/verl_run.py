"""Uses the example's tool as verl does, with verl's own classes. Not a test; it writes JSON.

PYTHON tests/examples/verl_run.py
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2] / "examples" / "extend"), str(Path(__file__).parents[2])]

from PIL import Image  # noqa: E402  # behind the paths that the example is found by
from verl_thyme import SCHEMA, ThymeTool, compute_score  # noqa: E402

CROP = 'from PIL import Image\nImage.open(image_path).crop((0, 0, 20, 10)).save("c.png")\nprint("c.png")\nx = 41'


async def calls() -> list[dict[str, Any]]:
    file = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(file, "PNG")
    create = {"create_kwargs": {"images": [base64.b64encode(file.getvalue()).decode()]}}
    tool, made = ThymeTool({"type": "native"}, None), []
    try:
        for trajectory, code in (("a", CROP), ("a", "print(x + 1)"), ("b", "print(x)"), ("b", "print(1)")):
            instance, _ = await tool.create(**create)
            data = SimpleNamespace(request_id=trajectory)
            response, reward, facts = await tool.execute(instance, {"code": code}, agent_data=data)
            await tool.release(instance)
            sizes = [image.size for image in response.image or ()]
            made.append({"text": response.text, "sizes": sizes, "reward": reward, "facts": facts})
    finally:
        await tool.aclose()
    return made


class Characters:
    """Decodes tokens that are code points."""

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, ids.tolist()))


async def paid(response: str) -> dict[str, Any]:
    """What verl's own reward manager makes of the file that its configuration names."""
    import numpy as np
    import torch
    from omegaconf import OmegaConf
    from verl import DataProto
    from verl.trainer.ppo.reward import load_reward_manager

    file = Path(__file__).parents[2] / "examples" / "extend" / "verl_thyme.py"
    named = {"custom_reward_function": {"path": str(file), "name": "compute_score"}}
    chosen = {"reward_manager": {"source": "register", "name": "naive"}}
    manager = load_reward_manager(OmegaConf.create({"reward": named | chosen}), Characters())
    ids = torch.tensor([[ord(character) for character in response]])
    row = {"data_source": "mine", "reward_model": {"ground_truth": "22"}, "extra_info": {}}
    data = DataProto.from_dict(
        tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={name: np.array([value], dtype=object) for name, value in row.items()},
    )
    made: dict[str, Any] = await manager.run_single(data)
    return made


if __name__ == "__main__":
    response = "<think>I see.</think>\n<answer>22</answer>"
    told = {
        "calls": asyncio.run(calls()),
        "name": SCHEMA["function"]["name"],
        "score": compute_score("", response, "22"),
        "paid": asyncio.run(paid(response)),
    }
    sys.stdout.write("\n" + json.dumps(told))
