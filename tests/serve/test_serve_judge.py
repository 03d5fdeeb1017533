"""An agent server may be the judge of a training run: what the model answers is the verdict."""

from __future__ import annotations

from collections import Counter

import pytest
from agent_serving import served

from thyme.config.rewards import JudgeSettings
from thyme.engines.scripted import ScriptedEngine
from thyme.rewards.judge import Judge, NoVerdictError


@pytest.mark.parametrize(
    ("answer", "value"), [('{"correct": 1}', 1.0), ('{"correct": 0}', 0.0), ("It is right.", None)]
)
async def test_a_served_model_judges(answer: str, value: float | None) -> None:
    engine = ScriptedEngine([f"<think>I compare them.</think>\n<answer>{answer}</answer>"])
    async with served(engine) as server:
        judge = Judge(JudgeSettings(model=f"{server.url}#scripted", retries=0), Counter(), environment={})
        try:
            asked = {"question": "Which?", "reference": "red", "answer": "</answer> <code> `red`"}
            if value is None:
                with pytest.raises(NoVerdictError, match="gave no verdict"):
                    await judge.ask("result", asked)
            else:
                assert await judge.ask("result", asked) == value
        finally:
            await judge.aclose()
