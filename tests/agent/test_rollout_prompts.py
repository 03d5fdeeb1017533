"""Which words a rollout asks with, and at which sizes images are said to be seen."""

import pytest
from agent_fakes import FakeSandbox, problem

from thyme.agent import rollout
from thyme.engines.scripted import ScriptedEngine
from thyme.errors import ConfigError
from thyme.prompts import FILES, PromptSet
from thyme.types import StopReason

LAST = "<think>a</think><answer>7</answer>"


def words(path, system):
    path.mkdir(exist_ok=True)
    for name in FILES:
        (path / name).write_text("{{ question }}{% for image in images %}<image>{% endfor %}")
    (path / "system.txt").write_text(system)
    return path


async def ask(engine, **options):
    return await rollout(problem(), engine, FakeSandbox(), **options)


async def test_the_package_asks_by_default_and_says_seen_sizes():
    trajectory = await ask(ScriptedEngine([LAST], max_side=4))
    assert trajectory.fingerprints.prompts == PromptSet.load().fingerprint
    assert "8 x 6 pixels, seen by you at 4 x 3" in trajectory.prompt.user
    assert (trajectory.prompt.images[0].seen_width, trajectory.prompt.images[0].seen_height) == (4, 3)


async def test_a_checkpoint_may_bring_its_own_and_the_caller_overrules_it(tmp_path):
    own, other = words(tmp_path / "own", "OWN"), PromptSet.load(words(tmp_path / "other", "OTHER"))
    engine = ScriptedEngine([LAST], prompts=str(own))
    assert (await ask(engine)).prompt.system == "OWN"
    overruled = await ask(engine, prompts=other)
    assert overruled.prompt.system == "OTHER"
    assert overruled.fingerprints.prompts == other.fingerprint


async def test_a_missing_folder_is_the_callers_error_a_broken_template_is_recorded(tmp_path):
    with pytest.raises(ConfigError, match="lacks"):
        await ask(ScriptedEngine([LAST], prompts=str(tmp_path / "nowhere")))
    broken = PromptSet.load(words(tmp_path / "broken", "{{ nothing }}"))
    trajectory = await ask(ScriptedEngine([LAST]), prompts=broken)
    assert trajectory.stop is StopReason.ERROR
    assert (trajectory.error.where, trajectory.error.type) == ("prompt", "ConfigError")


async def test_rollouts_have_names_of_their_own():
    engine = ScriptedEngine([LAST])
    assert (await ask(engine)).id != (await ask(engine)).id
    assert (await ask(engine, trajectory_id="mine")).id == "mine"
