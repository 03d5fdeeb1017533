"""What a recipe of fine-tuning may say, and what errors say of one that may not."""

import pytest

from thyme.config.load import load
from thyme.config.sft_recipe import SFTRecipe
from thyme.errors import ConfigError

TWO = """
model = "nano:base"
[train]
learning_rate = 1e-5
epochs = 3
[stages.images.data.shown]
path = "shown.jsonl"
[stages.maths]
mask = "all"
[stages.maths.data.shown]
path = "maths.jsonl"
[stages.maths.train]
learning_rate = 1e-6
"""


def recipe(tmp_path, text=TWO, overrides=()):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return load(path, overrides, SFTRecipe)


def test_shared_settings_hold_where_a_stage_says_nothing_else(tmp_path):
    stages = recipe(tmp_path, overrides=["train.batch_size=2", "stages.maths.train.epochs=1"]).stages
    assert list(stages) == ["images", "maths"]
    rates = [(s.train.learning_rate, s.train.epochs, s.train.batch_size) for s in stages.values()]
    assert rates == [(1e-5, 3, 2), (1e-6, 1, 2)]
    assert [s.mask for s in stages.values()] == ["released", "all"]


def test_an_override_of_shared_settings_holds_for_every_stage_and_a_later_one_wins(tmp_path):
    def rates(*overrides):
        return [stage.train.learning_rate for stage in recipe(tmp_path, overrides=overrides).stages.values()]

    assert rates("train.learning_rate=2e-3") == [2e-3, 2e-3]
    assert rates("train.learning_rate=2e-3", "stages.maths.train.learning_rate=1e-3") == [2e-3, 1e-3]
    assert rates("stages.maths.train.learning_rate=1e-3", "train.learning_rate=2e-3") == [2e-3, 2e-3]
    ranks = [stage.train.lora.rank for stage in recipe(tmp_path, overrides=["train.lora.rank=3"]).stages.values()]
    assert ranks == [3, 3]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.imges.train.epochs=1", "'stages.imges.data' is missing; did you mean 'stages.images'?"),
        ("stages.third.train.epochs=1", "'stages.third.data' is missing"),
        ("stages.images.data.shown.limt=3", "did you mean 'stages.images.data.shown.limit'?"),
        ("stages.images.validation.held.pth=x", "did you mean 'stages.images.validation.held.path'?"),
        ("stages.maths.train.lora.rnk=3", "did you mean 'stages.maths.train.lora.rank'?"),
        ("stages.maths.maks=all", "did you mean 'stages.maths.mask'?"),
        ("evaluation.data.limt=3", "did you mean 'evaluation.data.limit'?"),
        ("evaluation.rollout.max_round=3", "did you mean 'evaluation.rollout.max_rounds'?"),
        ("tracking.tracker=[]", "did you mean 'tracking.trackers'?"),
        ("stages.images.data.shown.zzz=1", "known here: format, path"),
    ],
)
def test_an_unknown_key_gets_its_nearest_match_however_deep_it_stands(tmp_path, override, message):
    with pytest.raises(ConfigError) as error:
        recipe(tmp_path, overrides=[override])
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["evaluation", "a/b", "..", "", "-x"])
def test_a_stage_that_cannot_be_a_folder_is_refused(tmp_path, name):
    text = f'model = "m"\n[stages."{name}".data.x]\npath = "x"\n'
    with pytest.raises(ConfigError, match="a stage's name is that of its folder"):
        recipe(tmp_path, text)


@pytest.mark.parametrize("text", ['model = "m"\n', 'model = "m"\n[stages]\n', 'model = "m"\n[stages.a]\n'])
def test_a_recipe_needs_stages_and_they_need_data(tmp_path, text):
    with pytest.raises(ConfigError, match="stages"):
        recipe(tmp_path, text)
