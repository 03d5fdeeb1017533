"""Plays the example's tasks through the real verifiers, in an environment that has it. Not a test; it writes JSON.

PYTHON tests/examples/verifiers_run.py URL MODEL
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2] / "examples" / "extend"), str(Path(__file__).parents[2])]

import verifiers.v1 as vf  # noqa: E402  # behind the paths that it finds the example by
from verifiers.v1.utils.loaders import load_environment, resolve_env_config  # noqa: E402


async def main(url: str, model: str) -> dict[str, Any]:
    agent = {"runtime": {"type": "subprocess"}}
    asked = {"taskset": {"id": "verifiers_thyme", "per_kind": 1}, "agent": agent}
    env = load_environment(resolve_env_config(asked))
    client = vf.EvalClientConfig(base_url=url, api_key_var="NO_KEY")
    context = vf.ModelContext(model=model, client=client)
    async with env.serving():
        episodes = [await env.run_episode(task, context) for task in env.taskset]
    traces = [trace for episode in episodes for trace in episode.traces]
    return {
        "errors": [str(error) for episode in episodes for error in episode.errors]
        + [str(error) for trace in traces for error in trace.errors],
        "rewards": [trace.reward for trace in traces],
        "metrics": [trace.metrics for trace in traces],
        "calls": [len(trace.calls) for trace in traces],
        "branches": [trace.num_branches for trace in traces],
        "launch": list(inspect.signature(vf.Harness.launch).parameters),
    }


sys.stdout.write(json.dumps(asyncio.run(main(*sys.argv[1:]))))
