"""Pictures that code saves."""

from __future__ import annotations

from typing import Any

from .paths import Paths, with_path


def install(paths: Paths) -> None:
    """Put the hooks of one session in place. Call once, in the forked process."""
    import cv2

    cv2.imwrite = with_path(cv2.imwrite, paths.write)
    _hook_save()


def _hook_save() -> None:
    """Write PNG files fast where the code does not say otherwise: lossless all the same, and several times cheaper."""
    from PIL import Image

    original = Image.Image.save

    def save(self: Image.Image, fp: Any, format: str | None = None, **params: Any) -> None:
        if (format or str(fp)[-4:]).upper() in {"PNG", ".PNG"} and "optimize" not in params:
            params.setdefault("compress_level", 1)
        original(self, fp, format, **params)

    save.__doc__ = original.__doc__
    Image.Image.save = save  # type: ignore[method-assign]  # that is what a hook is
