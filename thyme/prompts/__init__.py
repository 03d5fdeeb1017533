"""The words a model is asked with: three text files in a folder, which a checkpoint may bring of its own.

``system.txt``, ``user.txt`` and ``user_text_only.txt`` are Jinja templates, filled in one pass, so nothing inside a
question is ever read as a template. They may use ``question``, ``choices`` (``letter``, ``text``), ``input_dir``,
``output_dir`` and ``images`` (``number``, ``path`` inside the sandbox, ``width``, ``height`` of the original,
``seen_width``, ``seen_height``, ``reduced``; pixels).
"""

from __future__ import annotations

import functools
import hashlib
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thyme.errors import ConfigError
from thyme.tags import IMAGE, escape
from thyme.types import INPUT_DIR, OUTPUT_DIR, Problem, input_path

if TYPE_CHECKING:
    from jinja2 import Template

FILES = ("system.txt", "user.txt", "user_text_only.txt")
PACKAGED = Path(__file__).parent
"""Folder of the prompts that come with the package."""


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The templates of one folder."""

    system: str
    user: str
    """User turn of a problem with images."""
    user_text_only: str
    """User turn of a problem without images."""
    origin: str = "the package's prompts"
    """Folder they were read from, for messages; never stored."""

    @classmethod
    def load(cls, folder: Path | None = None) -> PromptSet:
        """Read a folder of prompt files.

        Args:
            folder: Holds the three files; None is the package's own.

        Raises:
            ConfigError: Files are missing or unreadable; the message names them.
        """
        where = PACKAGED if folder is None else Path(folder)
        missing = [name for name in FILES if not (where / name).is_file()]
        if missing:
            raise ConfigError(f"prompt folder '{where}' lacks {', '.join(missing)}; it needs {', '.join(FILES)}")
        try:
            system, user, user_text_only = ((where / name).read_text(encoding="utf-8").strip() for name in FILES)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"prompt folder '{where}' cannot be read: {error}") from error
        return cls(system, user, user_text_only, origin="the package's prompts" if folder is None else str(where))

    @property
    def fingerprint(self) -> str:
        """Hash of the three texts: 16 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=8)
        for text in (self.system, self.user, self.user_text_only):
            digest.update(hashlib.blake2b(text.encode()).digest())
        return digest.hexdigest()

    def render(self, problem: Problem, seen_sizes: Sequence[tuple[int, int]]) -> tuple[str, str]:
        """Fill the templates for one problem.

        Args:
            problem: Question, choices and images. Its answer, kind and meta are never shown.
            seen_sizes: Width and height in pixels at which the model sees each image.

        Returns:
            System turn, and user turn with one ``<image>`` for each image. Tags in the question are escaped.

        Raises:
            ValueError: `seen_sizes` does not match the images.
            ConfigError: A template is broken, uses an unknown name, or does not place each image once.
        """
        values = _values(problem, seen_sizes)
        system = self._fill("system.txt", self.system, values)
        name, template = ("user.txt", self.user) if problem.images else ("user_text_only.txt", self.user_text_only)
        user = self._fill(name, template, values)
        if IMAGE in system:
            raise ConfigError(f"system.txt of {self.origin} places an {IMAGE}; images belong into the user turn")
        if user.count(IMAGE) != len(problem.images):
            raise ConfigError(
                f"{name} of {self.origin} places {user.count(IMAGE)} of {len(problem.images)} images; "
                f"write one {IMAGE} in a loop over images"
            )
        return system, user

    def _fill(self, name: str, template: str, values: dict[str, Any]) -> str:
        try:
            return compiled(template).render(values).strip()
        except Exception as error:  # a template is a small program: beside jinja2's own errors it may raise any
            raise ConfigError(f"{name} of {self.origin} is not a usable template: {error}") from error


@functools.lru_cache(maxsize=64)
def compiled(template: str) -> Template:
    """A template, sandboxed and strict about names; each is compiled once, which takes longer than filling it.

    Raises:
        jinja2.TemplateError: It is broken.
    """
    # Imported here: `import thyme` must stay light, and most of its users never render a prompt.
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False).from_string(template)


def _values(problem: Problem, seen_sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    if len(seen_sizes) != len(problem.images):
        raise ValueError(f"{len(seen_sizes)} seen sizes for {len(problem.images)} images")
    images = [
        {
            "number": index + 1,
            "path": input_path(index, image.format),
            "width": image.width,
            "height": image.height,
            "seen_width": seen[0],
            "seen_height": seen[1],
            "reduced": seen != image.size,
        }
        for index, (image, seen) in enumerate(zip(problem.images, seen_sizes, strict=True))
    ]
    choices = [
        {"letter": letter, "text": escape(text)}
        for letter, text in zip(_letters(len(problem.choices)), problem.choices, strict=True)
    ]
    return {
        "question": escape(problem.question.strip()),
        "choices": choices,
        "images": images,
        "input_dir": INPUT_DIR,
        "output_dir": OUTPUT_DIR,
    }


def _letters(count: int) -> list[str]:
    if count > len(string.ascii_uppercase):
        raise ConfigError(f"{count} choices are more than there are letters; ask without choices")
    return list(string.ascii_uppercase[:count])
