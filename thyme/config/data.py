"""What `thyme data build` reads: sources, scenarios and their shares, teachers, checks, bounds. See `docs/data.md`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from thyme.config.base import Config
from thyme.config.rewards import JudgeSettings
from thyme.config.sandbox import SandboxConfig


class SourceSettings(Config):
    """Where images and questions come from; exactly one of the ways to read them."""

    path: str = ""
    """Folder of pictures, Hugging Face dataset (saved, or a folder of Parquet), JSON-lines, Parquet or TSV file."""
    world: str = ""
    """Name of a built-in source, such as ``nano``."""
    split: str = "train"
    columns: dict[str, str] = Field(default_factory=dict)
    """Column of the file by field of `Problem`: ``image``, ``question``, ``answer``, ``choices``, ``box``, ``kind``."""
    question: str = ""
    """What is asked of rows that have no question of their own, such as pictures alone."""
    count: PositiveInt | None = None
    """Rows that are read at most."""
    scenarios: tuple[str, ...] = ()
    """Scenarios that it may serve; empty: all whose needs its rows meet."""

    @model_validator(mode="after")
    def _one_way(self) -> SourceSettings:
        if bool(self.path) == bool(self.world):
            raise ValueError("say where the source is: either path or world")
        return self


class TeacherSettings(Config):
    """A teacher: any model behind an OpenAI-compatible endpoint. Its key comes from the environment."""

    model: str
    """``URL#NAME``."""
    weight: float = Field(default=1.0, gt=0.0)
    """Share of the records that it is asked for, beside the other teachers' weights."""
    concurrency: PositiveInt = 16
    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    """Prompt and completion together."""
    input_price: float = Field(default=0.0, ge=0.0)
    """US dollars a million prompt tokens."""
    output_price: float = Field(default=0.0, ge=0.0)
    """US dollars a million completion tokens."""
    temperature: float = Field(default=0.7, ge=0.0, le=2.0)
    max_tokens: PositiveInt = 4096
    """Of one turn."""
    max_pixels: PositiveInt | None = None
    """Area at which it is shown pictures at most; larger ones are made smaller, while
    coordinates stay those of the file."""
    timeout_s: float = Field(default=300.0, gt=0.0)
    """Of one request, from its start to its last byte."""
    retries: int = Field(default=4, ge=0)
    """How often a request is sent again that failed in passing."""
    backoff_s: float = Field(default=0.5, gt=0.0)
    """Pause before the first repetition; it doubles with each, up to a minute, and is spread at random."""
    key_environment: str = ""
    """Environment variable that holds its key; empty: the one of the engines (``THYME_API_KEY``)."""

    @property
    def name(self) -> str:
        """Of the model, wherever it is served."""
        return self.model.rpartition("#")[2]


class BudgetSettings(Config):
    """What the build may spend on teachers and checks together; None: no bound. What is reached ends the build."""

    usd: float | None = Field(default=None, gt=0.0)
    tokens: PositiveInt | None = None
    requests: PositiveInt | None = None


class CheckSettings(Config):
    """The check of a finished record by a model."""

    judge: JudgeSettings | None = None
    """Who is asked; None: nobody, and records say that they were not checked."""
    needed: bool = True
    """Whether it is also asked if code was needed at all."""
    input_price: float = Field(default=0.0, ge=0.0)
    """US dollars a million prompt tokens."""
    output_price: float = Field(default=0.0, ge=0.0)
    """US dollars a million completion tokens."""
    max_pixels: PositiveInt | None = None
    """Area at which it is shown pictures at most."""


class DataRecipe(Config):
    """What ``thyme data build`` reads: the root of a recipe."""

    recipe_folder: ClassVar[str] = "data"

    seed: int = 0
    count: PositiveInt
    """Records to draw; fewer come out, as the funnel tells."""
    sources: dict[str, SourceSettings] = Field(min_length=1)
    scenarios: dict[str, float] = Field(min_length=1)
    """Shares of `count` by scenario, normalised."""
    teachers: dict[str, TeacherSettings] = Field(min_length=1)
    budget: BudgetSettings = BudgetSettings()
    check: CheckSettings = CheckSettings()
    sandbox: SandboxConfig = SandboxConfig()
    prompts: str = ""
    """Folder of the prompts that the trained model will be asked with; ``nano`` are the embedded model's; empty: the
    package's own."""
    max_rounds: PositiveInt = 6
    """Code blocks of a record at most."""
    benchmarks: tuple[str, ...] = ()
    """Benchmarks, or files in any layout that `thyme eval` reads, whose images no record may hold."""
    duplicates: Annotated[int, Field(ge=0, le=64)] | None = 4
    """Bits of 64 in which the perceptual hashes of two pictures may differ to be duplicates; None keeps all."""
    chunk: PositiveInt = 256
    """Records that are made, journalled and put into one Parquet shard together."""
    concurrency: PositiveInt = 32
    """Records that are under way at once, in one process."""
    processes: PositiveInt | None = None
    """Processes, or actors on Ray, that work at once; None: one for each core, on Ray for each of the cluster's."""
    executor: Literal["local", "ray"] = "local"
