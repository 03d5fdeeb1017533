"""Settings: defaults, recipes, overrides, and errors that say what to write instead."""

import sys

import pytest
from pydantic import ValidationError

from thyme.config import Config, RepetitionConfig, RolloutConfig, RunConfig, load
from thyme.config.data import DataRecipe
from thyme.config.grpo_recipe import GRPORecipe
from thyme.config.load import RECIPES, changed, overridden, recipes
from thyme.config.rl_filter import FilterRecipe
from thyme.config.sft_recipe import SFTRecipe
from thyme.errors import ConfigError


class Settings(Config):
    """A small tree."""

    name: str = "x"
    rollout: RolloutConfig = RolloutConfig()
    other: RepetitionConfig | None = None


def test_without_a_schema_it_is_a_run():
    run = load(None, ["rollout.max_rounds=2", "engine.model=nano", "seed=3"])
    assert (run.rollout.max_rounds, run.engine.model, run.seed) == (2, "nano", 3)


def test_defaults_are_greedy():
    config = load(None, [], RolloutConfig)
    assert config == RolloutConfig()
    assert (config.text_temperature, config.code_temperature, config.tools) == (0.0, 0.0, True)


def test_a_recipe_and_overrides_that_win(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'name = "n"\n[rollout]\nmax_rounds = 2\ntext_temperature = 1\n[rollout.repetition]\nwindows = [8]\n'
    )
    for spelling in (recipe, str(recipe), f"@{recipe}"):
        config = load(spelling, ["rollout.max_rounds=7", "rollout.max_rounds=6", "rollout.tools=false"], Settings)
        assert config.name == "n"
        assert (config.rollout.max_rounds, config.rollout.text_temperature, config.rollout.tools) == (6, 1.0, False)
        assert config.rollout.repetition.windows == (8,)


def test_override_values_are_toml_or_plain_strings():
    config = load(None, ["name = two words", "rollout.repetition.windows=[4, 5]", "other.variant='off'"], Settings)
    assert config.name == "two words"
    assert config.rollout.repetition.windows == (4, 5)
    assert config.other == RepetitionConfig(variant="off")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rollout.max_round=3"], r"unknown key 'rollout.max_round'; did you mean 'rollout.max_rounds'\?"),
        (["other.window=[3]"], r"unknown key 'other.window'; did you mean 'other.windows'\?"),
        (["zzz=3"], "unknown key 'zzz'; known here: name, rollout, other"),
        (["rollout.max_rounds=many"], r"rollout.max_rounds: .*integer.* \(got 'many'\)"),
        (["rollout.max_tokens=0"], "rollout.max_tokens: .*greater than 0"),
        (["rollout.text_temperature=-1"], "rollout.text_temperature: .*greater than or equal to 0"),
        (["name.deeper=1", "name.deeper.still=1"], "'name.deeper' is a value, not a table"),
        (["rollout"], "'rollout' must look like key.name=value"),
        (["a..b=1"], "must look like key.name=value"),
        (["rollout=3"], "rollout: "),
    ],
)
def test_errors_name_the_key_and_the_way_out(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(None, overrides, Settings)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError, match=r"max_rounds.*max_tokens"):
        load(None, ["rollout.max_rounds=-1", "rollout.max_tokens=-1"], Settings)


def test_recipe_errors(tmp_path):
    with pytest.raises(ConfigError, match="no recipe or file '@nowhere'"):
        load("@nowhere", [], Settings)
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"'bad.toml' is not TOML"):
        load(tmp_path / "bad.toml", [], Settings)
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"'latin.toml' cannot be read"):
        load(tmp_path / "latin.toml", [], Settings)


def test_a_near_miss_of_a_shipped_recipe_is_suggested(monkeypatch, tmp_path):
    (tmp_path / "grpo.toml").write_text("name = 'shipped'")
    monkeypatch.setattr(sys.modules["thyme.config.load"], "RECIPES", tmp_path)
    assert recipes() == ["grpo"]
    assert load("@grpo", [], Settings).name == "shipped"
    with pytest.raises(ConfigError, match=r"did you mean @grpo\? \(shipped: @grpo\)"):
        load("@grop", [], Settings)


def test_settings_are_frozen_and_closed():
    with pytest.raises(ValidationError, match="frozen"):
        RolloutConfig().max_rounds = 1
    with pytest.raises(ValidationError, match="extra"):
        RolloutConfig(nonsense=1)


def test_field_docstrings_are_help():
    assert "Code blocks that may run" in RolloutConfig.model_fields["max_rounds"].description


def test_spans_must_not_share_tags():
    with pytest.raises(ValidationError, match="share a tag"):
        RolloutConfig(spans=({"open": "<a>", "close": "</x>"}, {"open": "<b>", "close": "</x>"}))
    with pytest.raises(ValidationError, match="share a tag"):
        RolloutConfig(spans=({"open": "<code>", "close": "</x>"},))


SCHEMAS = (RunConfig, SFTRecipe, GRPORecipe, DataRecipe, FilterRecipe)
SHIPPED = [(schema, name) for schema in SCHEMAS for name in recipes(schema)]


@pytest.mark.parametrize(("schema", "name"), SHIPPED)
def test_every_shipped_recipe_loads(schema, name):
    assert isinstance(load(f"@{name}", [], schema), schema)


def test_no_file_of_a_recipe_is_out_of_reach():
    """Each lies in the folder of a schema that this test knows."""
    found = {path.relative_to(RECIPES).as_posix() for path in RECIPES.rglob("*.toml")}
    assert found == {f"{schema.recipe_folder}/{name}.toml".lstrip("/") for schema, name in SHIPPED}


def test_the_recipe_of_another_command_is_said_to_be_one():
    with pytest.raises(ConfigError, match="for this command; @nano_sft is a recipe of `thyme sft`"):
        load("@nano_sft", [], GRPORecipe)
    with pytest.raises(ConfigError, match="did you mean @nano_sft"):
        load("@nano_stf", [], SFTRecipe)


def test_ats_explores_in_text_only():
    rollout = load("@ats", ["rollout.max_rounds=2"]).rollout
    assert (rollout.text_temperature, rollout.code_temperature, rollout.max_rounds) == (1.0, 0.0, 2)


def test_a_config_is_changed_or_overridden_and_checked_again():
    """`changed` takes values as they are, `overridden` the text of ``a.b=value``; what was set before stays."""
    rollout = RolloutConfig(max_rounds=2)
    assert changed(rollout, {"tools": False}, "here") == RolloutConfig(max_rounds=2, tools=False)
    assert changed(rollout, {}, "here") is rollout
    with pytest.raises(ConfigError, match=r"here: unknown key 'tool'; did you mean 'tools'\?"):
        changed(rollout, {"tool": False}, "here")
    run = RunConfig(rollout=rollout, seed=3)
    over = overridden(run, ["rollout.text_temperature=0.5", "engine.device=cpu"])
    assert (over.rollout.max_rounds, over.rollout.text_temperature, over.engine.device, over.seed) == (2, 0.5, "cpu", 3)
    assert overridden(run, []) is run
    with pytest.raises(ConfigError, match=r"the settings: engine\.device"):
        overridden(run, ["engine.device=tpu"])
