"""What a trajectory is paid for, and who judges it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from thyme.config.base import Config

Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class JudgeSettings(Config):
    """A judge: a model behind an OpenAI-compatible endpoint. Its key comes from the environment, as an engine's."""

    model: str
    """``URL#NAME``; both are needed, since verdicts are kept by the name."""
    concurrency: int = Field(default=16, ge=1)
    """Requests of one process that are open at once, or wait to be repeated; more wait."""
    timeout_s: Seconds = 60.0
    """Of one request, from its start to its last byte."""
    retries: int = Field(default=4, ge=0)
    """How often a request is sent again that failed, or was not answered in JSON of the form asked for."""
    backoff_s: Seconds = 0.5
    """Pause before the first repetition; it doubles with each, up to a minute, and is spread at random."""
    max_tokens: int = Field(default=256, ge=1)
    """Of one verdict (released: 256)."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """Released: 0.1."""
    cache: str = ""
    """Folder of verdicts, kept from run to run; empty: that of the run."""

    @property
    def name(self) -> str:
        """Of the model, wherever it is served."""
        return self.model.rpartition("#")[2]


class OwnReward(Config):
    """A function of one's own that a trajectory is paid for; see docs/extend/reward.md."""

    function: str
    """``FILE.py:NAME`` or ``package.module:NAME``. It takes a `thyme.types.Trajectory` and gives a number, or None
    where it cannot tell; it may be ``async``. The file or module is run by whoever follows the recipe."""
    weight: Annotated[float, Field(allow_inf_nan=False)]
    """What its number is multiplied by before it is added; below 0 it is a cost, 0 does not call it."""
    only_right: bool = False
    """Paid, and called, only where the answer is right."""

    @field_validator("function")
    @classmethod
    def _names_both(cls, value: str) -> str:
        where, _, name = value.rpartition(":")
        if not where or not name.isidentifier():
            raise ValueError("name file or module and the function in it: FILE.py:NAME or package.module:NAME")
        return value


class RewardSettings(Config):
    """Parts of the reward, and how they are put together; paper section 3.3, see docs/rewards.md."""

    preset: Literal["paper", "released"] = "paper"
    """``paper``: a wrong answer is 0. ``released``: as the authors' code, a wrong answer is -1, none is 0, and the
    format is their regular expression."""
    gating: Literal["multiplicative", "additive", "none"] = "multiplicative"
    """What consistency pays. ``multiplicative``: only where the answer is right (paper). ``additive``: always, for the
    ablation. ``none``: never."""
    result: Weight = 1.0
    consistency: Weight = 0.5
    format: Weight = 0.5
    process: Weight = 0.0
    """Of the judge of the reasoning, an option of the released code, gated as it is there; 0 does not ask."""
    code: Weight = 0.0
    """Of the judge of the code, likewise."""
    tool_cost: Weight = 0.0
    """Taken off where any code block ran."""
    result_by: Literal["rules", "rules_then_judge", "judge"] = "rules"
    """``rules_then_judge``: a judge is asked where the rules do not find the answer right (paper)."""
    consistency_by: Literal["judge", "rule", "off"] = "rule"
    """``rule``: whether what the reasoning states last is what is answered; needs no judge. Where nothing is stated
    the bonus is not paid, and a right answer keeps the rest. ``off``: the part is left out."""
    judge: JudgeSettings | None = None
    own: dict[str, OwnReward] = Field(default_factory=dict)
    """Functions of one's own by the name of their part."""
    math_timeout_s: Seconds = 5.0
    """Of one comparison by math-verify, in a process of its own that is then ended; the answer stays wrong."""

    @model_validator(mode="after")
    def _judges_have_a_model(self) -> RewardSettings:
        asks = self.result_by != "rules" or self.consistency_by == "judge" or self.process > 0 or self.code > 0
        if asks and self.judge is None:
            raise ValueError("a judge is asked for and none is named: set judge.model = 'URL#NAME'")
        return self

    @model_validator(mode="after")
    def _own_names_are_free(self) -> RewardSettings:
        for name in self.own:
            if name in type(self).model_fields:
                raise ValueError(f"rewards.{name} is a setting already: give your own part another name")
            if not name.isidentifier():
                raise ValueError(f"'{name}' is no name of a part: take letters, digits and _")
        return self

    @model_serializer(mode="wrap")
    def _as_before_there_were_own(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without rewards of one's own the settings read as they always did: runs are known by them."""
        found: dict[str, Any] = serialise(self)
        if not self.own:
            found.pop("own", None)
        return found
