"""The exceptions of the package.

::

    ThymeError
    ├── UsageError                 the caller asked for something that cannot be (exit code 2)
    │   ├── ConfigError            a recipe or an override is wrong
    │   └── ImageError             a picture cannot be used (also ValueError)
    ├── MarkupError                text is not a well-formed trajectory (also ValueError)
    ├── StoreError                 a stored record is missing something or is damaged
    ├── MissingExtraError          an optional dependency is not installed (also ImportError)
    ├── EncodeError                a record cannot become a training sample (also ValueError)
    │   └── TooLongError           it has more tokens than allowed
    ├── TrainingError              training cannot go on
    │   └── TrainingStoppedError   it was asked to end, and left a checkpoint to go on from
    ├── EngineError                the model could not be asked
    │   ├── ModelNotFoundError     no such folder, hub id or server (also UsageError)
    │   ├── ContextFullError       the request does not fit into the model's context
    │   └── ScriptExhaustedError   the scripted engine was asked for more than its script holds
    ├── BudgetError                the budget of a build is used up
    └── SandboxError               the sandbox itself failed; failing code is never one of these
        ├── IsolationError         the isolation level asked for is not to be had here (also UsageError)
        └── SandboxDiedError       zygote or session process went away

Every message names the thing and the way out. `UsageError` ends a command with exit code 2, any other with 1.
"""

from __future__ import annotations


class ThymeError(Exception):
    """Base of all errors of the package."""


class UsageError(ThymeError):
    """The caller asked for something that cannot be."""


class ConfigError(UsageError):
    """A recipe or an override is wrong."""


class ImageError(UsageError, ValueError):
    """A picture cannot be used."""


class MarkupError(ThymeError, ValueError):
    """Text is not a well-formed trajectory."""


class StoreError(ThymeError):
    """A stored record is missing something or is damaged."""


class MissingExtraError(ThymeError, ImportError):
    """An optional dependency is not installed.

    The command it names is right before a release, too: pip takes the thyme that is installed, from a checkout or not,
    and fetches only what the extra adds.
    """

    def __init__(self, what: str, extra: str) -> None:
        """Say what needs which extra.

        Args:
            what: The feature, as the subject of a sentence.
            extra: Name of the extra that brings it.
        """
        super().__init__(f"{what} needs the extra '{extra}': pip install 'thyme-vl[{extra}]'")
        self.what, self.extra = what, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        """Pickle by the two arguments."""
        return type(self), (self.what, self.extra)


class EncodeError(ThymeError, ValueError):
    """A record cannot become a training sample."""

    reason = "not_encodable"
    """Under which such records are counted."""

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        """Say what is wrong.

        Args:
            message: In a sentence.
            reason: In one word, under which it is counted; None is that of the class.
        """
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class TooLongError(EncodeError):
    """The sample has more tokens than allowed. Samples are dropped and counted, never cut."""

    reason = "too_long"


class TrainingError(ThymeError):
    """Training cannot go on."""


class TrainingStoppedError(TrainingError):
    """Training was asked to end, and left a checkpoint to go on from."""


class EngineError(ThymeError):
    """The model could not be asked."""


class ModelNotFoundError(EngineError, UsageError):
    """No such folder, hub id or server."""


class ContextFullError(EngineError):
    """The request does not fit into the model's context."""


class ScriptExhaustedError(EngineError):
    """The scripted engine was asked for more than its script holds."""


class BudgetError(ThymeError):
    """The budget of a build is used up; what was made until then stays."""


class SandboxError(ThymeError):
    """The sandbox itself failed."""


class IsolationError(SandboxError, UsageError):
    """The isolation level asked for is not to be had here."""


class SandboxDiedError(SandboxError):
    """Zygote or session process went away."""
