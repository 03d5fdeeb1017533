"""What ``thyme rl-data filter`` reads: sources, and the steps that a problem has to pass. See `docs/rl_data.md`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from thyme.config.base import Config
from thyme.config.data import SourceSettings
from thyme.config.engine import EngineConfig
from thyme.config.rewards import RewardSettings
from thyme.config.rollout import RolloutConfig
from thyme.config.sandbox import SandboxConfig

AnswerKind = Literal["choice", "yes_no", "number", "formula", "text"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Bits = Annotated[int, Field(ge=-1, le=64)]
"""Of 64, in which two perceptual hashes differ at most; -1 does not look at them."""


class FilterSource(Config):
    """Where problems come from."""

    path: str = ""
    """JSON-lines, Parquet, TSV or CSV file; folder of such files or of pictures; saved Hugging Face dataset; or the hub
    id of a dataset that is stored as Parquet, ``OWNER/NAME``."""
    world: str = ""
    """Name of a built-in source, such as ``nano``."""
    subset: str = ""
    """Configuration of a hub dataset."""
    split: str = "train"
    columns: dict[str, str] = Field(default_factory=dict)
    """Column by field: ``image``, ``question``, ``answer``, ``choices``, ``box``, ``kind``; found by usual names where
    none is given."""
    question: str = ""
    """What is asked of rows that have no question of their own."""
    kind: str = ""
    """Category of rows that name none."""
    count: PositiveInt | None = None
    """Rows that are read at most, the first ones."""
    source: str = ""
    """What the problems say of where they come from; empty: what their rows say, else the name of this table."""
    licence: str = ""
    """Under what they may be used, an SPDX name or words; empty: what their rows say."""

    @model_validator(mode="after")
    def _one_way(self) -> FilterSource:
        if bool(self.path) == bool(self.world):
            raise ValueError("say where the source is: either path or world")
        return self

    def plain(self) -> SourceSettings:
        """As the readers of `thyme.data.sources` take it."""
        names = ("path", "world", "split", "columns", "question", "count")
        return SourceSettings(**{name: getattr(self, name) for name in names})


class ResolutionStep(Config):
    """How large pictures must be."""

    images: bool = True
    """Whether a problem without a picture is dropped."""
    min_side: int = Field(default=0, ge=0)
    """A side of one of its pictures must be longer than this, pixels (paper, section 4.1: 2048)."""
    min_short: int = Field(default=0, ge=0)
    """Shorter side of every picture at least, pixels."""
    max_ratio: float = Field(default=200.0, ge=1.0)
    """Longer by shorter side of every picture at most."""
    max_images: PositiveInt = 16
    """Pictures at most."""
    max_share: Share = 1.0
    """Of the first picture's area that the target's box takes at most, where there is one (paper: 0.05)."""


class AnswerStep(Config):
    """Which answers a rule can tell right from wrong."""

    kinds: tuple[AnswerKind, ...] = ("choice", "yes_no", "number", "formula", "text")
    """Kinds of answer that are kept."""
    max_words: PositiveInt = 5
    """Of an answer in words. Longer ones can be right in many ways."""
    max_chars: PositiveInt = 200
    """Of any answer."""


class LanguageStep(Config):
    """In which languages a question may be asked."""

    languages: tuple[str, ...] = ()
    """ISO 639-1 codes, such as ``en`` and ``zh``; empty: any."""
    undecided: bool = True
    """Whether a question is kept that is too short, or too much of a formula, to tell."""

    @field_validator("languages")
    @classmethod
    def _codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [code for code in value if not (len(code) == 2 and code.isascii() and code.islower())]
        if wrong:
            raise ValueError(f"'{wrong[0]}' is no code of two small letters, such as en or zh")
        return value


class DuplicatesStep(Config):
    """Which problems count as the same."""

    exact: bool = True
    """The same question about the same pixels."""
    bits: Bits = 4
    """The same question about pictures that are nearly the same."""


class BenchmarksStep(Config):
    """What models are measured on, and no problem may come from."""

    names: tuple[str, ...] = ()
    """Benchmarks or files, in any layout that ``thyme eval`` reads."""
    bits: Bits = 4
    """For pictures that are nearly a benchmark's."""
    questions: bool = True
    """Whether a problem without pictures is dropped whose question is one of theirs."""


class DifficultyStep(Config):
    """How often a model must be right."""

    model: str = ""
    """Who is asked: ``nano``, a folder, a hub id, or ``URL#NAME``; empty: nobody, and nothing is dropped."""
    samples: PositiveInt = 8
    """Rollouts of each problem."""
    low: Share = 0.0
    """Least share of right answers that is kept."""
    high: Share = 1.0
    """Largest share of right answers that is kept."""
    extremes: bool = False
    """Whether problems that are always or never answered right are kept, too; they teach nothing in a group."""
    concurrency: PositiveInt = 16
    """Rollouts under way at once."""
    stop_after_failures: int = Field(default=20, ge=0)
    """Rollouts that may fail one after the other, by engine or sandbox, before the run ends; 0: any number."""
    prompts: str = ""
    """Folder of the prompts that it is asked with; ``nano`` are the embedded model's; empty: the model's own."""
    engine: EngineConfig = EngineConfig()
    rollout: RolloutConfig = RolloutConfig(text_temperature=1.0)
    sandbox: SandboxConfig = SandboxConfig()
    rewards: RewardSettings = RewardSettings(consistency=0.0)
    """How answers are compared; what is paid besides the result does not matter here."""

    @model_validator(mode="after")
    def _band(self) -> DifficultyStep:
        if self.low > self.high:
            raise ValueError(f"low = {self.low:g} is above high = {self.high:g}; no problem could be kept")
        return self


class BalanceStep(Config):
    """How many problems of each category are kept; who stays is decided by a hash of seed and id."""

    by: Literal["kind", "answer_type", "source", "language"] = "kind"
    """What a category is."""
    count: PositiveInt | None = None
    """Problems at most."""
    each: PositiveInt | None = None
    """Problems of one category at most."""
    ratio: float | None = Field(default=None, ge=1.0)
    """Largest category by smallest, at most."""
    shares: dict[str, float] = Field(default_factory=dict)
    """Wanted share by category, normalised; as many problems as are to be had in these shares. Others are dropped."""

    @field_validator("shares")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if wrong := [name for name, share in value.items() if not 0 < share < float("inf")]:
            raise ValueError(f"the share of '{wrong[0]}' must be above 0; leave the category out to drop it")
        return value


class FilterRecipe(Config):
    """What ``thyme rl-data filter`` reads: the root of a recipe. Steps are taken in this order."""

    recipe_folder: ClassVar[str] = "rl_data"

    seed: int = 0
    sources: dict[str, FilterSource] = Field(min_length=1)
    max_pixels: PositiveInt = 400_000_000
    """Largest picture that is decoded, width times height; a larger one is dropped as damaged, and says so."""
    resolution: ResolutionStep = ResolutionStep()
    answer: AnswerStep = AnswerStep()
    language: LanguageStep = LanguageStep()
    benchmarks: BenchmarksStep = BenchmarksStep()
    duplicates: DuplicatesStep = DuplicatesStep()
    difficulty: DifficultyStep = DifficultyStep()
    balance: BalanceStep = BalanceStep()
    format: Literal["problems", "thyme-rl"] = "problems"
    """``problems``: JSON lines and pictures beside them. ``thyme-rl``: Parquet files of the published layout."""
    chunk: PositiveInt = 256
    """Rows that are looked at together; a run that is killed goes on behind the last whole chunk."""
    processes: PositiveInt | None = None
    """Processes that look at rows at once; None: one for each core."""
