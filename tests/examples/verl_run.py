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


if __name__ == "__main__":
    response = "<think>I see.</think>\n<answer>22</answer>"
    told = {
        "calls": asyncio.run(calls()),
        "name": SCHEMA["function"]["name"],
        "score": compute_score("", response, "22"),
    }
    sys.stdout.write("\n" + json.dumps(told))
