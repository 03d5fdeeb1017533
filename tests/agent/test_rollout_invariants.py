"""Whatever a model writes and whatever the bounds are: the record keeps its shape and its bounds."""

from agent_fakes import FakeSandbox, picture, problem
from hypothesis import given, settings
from hypothesis import strategies as st

from thyme.agent import rollout
from thyme.config import RolloutConfig
from thyme.engines.base import Capabilities
from thyme.engines.scripted import ScriptedEngine
from thyme.markup import extract_answer
from thyme.types import Execution, StopReason

TAGS = ["<think>", "</think>", "<code>", "</code>", "<answer>", "</answer>", "<sandbox_output>", "<image>"]
continuation = st.lists(st.sampled_from([*TAGS, "a", "print(1)\n", " ", "<", "```"]), max_size=8).map("".join)
configs = st.builds(
    RolloutConfig,
    max_rounds=st.integers(0, 3),
    max_round_tokens=st.integers(1, 30),
    max_tokens=st.integers(1, 60),
    max_images=st.integers(0, 3),
    max_pixels=st.integers(0, 200),
    tools=st.booleans(),
)
engines = st.builds(
    ScriptedEngine,
    st.lists(continuation, max_size=4),
    token_chars=st.integers(1, 9),
    whole_tokens=st.booleans(),
    capabilities=st.sampled_from([Capabilities(), Capabilities(token_ids=True, logprobs=True)]),
)
sandboxes = st.integers(0, 2).map(
    lambda images: FakeSandbox(Execution(code="x", stdout="<answer>6</answer>", images=(picture(),) * images))
)


def check_shape(trajectory):
    """Text, code, observation in turn; each begun by the tag before it."""
    before = None
    for segment in trajectory.segments:
        if segment.kind == "code":
            assert before.kind == "text"
            assert "<code>" in before.text
        elif segment.kind == "observation":
            assert before.kind == "code"
            assert "</code>" in before.text or before.text.startswith(tuple("/code>"[i:] for i in range(6)))
        else:
            assert before is None or before.kind == "observation"
        before = segment


def check_bounds(trajectory, config):
    usage, observations = trajectory.usage, trajectory.observations
    known = all(segment.token_ids for segment in trajectory.generated)  # else tokens are an estimate
    assert usage.generated_tokens <= config.max_tokens or not known
    assert usage.rounds <= config.max_rounds
    assert len(observations) <= usage.rounds <= len(observations) + 1
    assert sum(len(o.execution.images) for o in observations) <= config.max_images
    assert sum(w * h for o in observations for w, h in o.seen_sizes) <= config.max_pixels


@settings(max_examples=100)
@given(engines, sandboxes, configs, st.integers(0, 9))
async def test_every_record_keeps_its_shape_and_bounds(engine, sandbox, config, seed):
    sandbox.codes.clear()
    trajectory = await rollout(problem(), engine, sandbox, config, seed=seed, trajectory_id="t")
    check_shape(trajectory)
    check_bounds(trajectory, config)
    assert (trajectory.stop is StopReason.ERROR) == (trajectory.error is not None)
    assert (engine.running, engine.released.count("t"), sandbox.open_now) == (0, len(engine.released), 0)
    assert len(sandbox.codes) == trajectory.usage.rounds
    assert config.tools or not sandbox.codes
    assert extract_answer(trajectory.response) != "6"
    again = await rollout(problem(), engine, sandbox, config, seed=seed)
    assert (again.segments, again.stop) == (trajectory.segments, trajectory.stop)
