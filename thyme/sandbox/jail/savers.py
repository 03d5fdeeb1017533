"""The hooks that let saved pictures wait, and see to it that nobody finds out (`saves`)."""

from __future__ import annotations

import builtins
import contextlib
import copy
import functools
import os
import stat as modes
import sys
from collections.abc import Callable
from typing import Any

from . import formats, ordinary
from .paths import Paths
from .saves import Saves, Write
from .shelf import CHANNELS, pack

_READERS = ("imread", "imreadmulti", "imcount", "haveImageReader", "imreadWithMetadata", "imreadanimation")
_WRITERS = ("imwritemulti", "imwriteWithMetadata", "imwriteanimation")

_open, _stat, _lstat = builtins.open, os.stat, os.lstat


def install(paths: Paths, saves: Saves) -> None:
    """Put the hooks of one session in place. Call once, in the forked process, before any path is mapped."""
    _hook_save(paths, saves)
    _hook_imwrite(paths, saves)
    _hook_opencv(paths, saves)
    _hook_os(paths, saves)
    sys.addaudithook(saves.watch)


def _hook_save(paths: Paths, saves: Saves) -> None:
    from PIL import Image

    original = Image.Image.save

    def save(self: Any, fp: Any, format: str | None = None, **params: Any) -> None:
        image, fp, format = formats.prepare(self, fp, format, paths)
        kind = _format(fp, format)
        if kind == "PNG" and "optimize" not in params:
            params.setdefault("compress_level", 1)  # lossless all the same, and several times cheaper
        if isinstance(fp, str | bytes | os.PathLike) and kind is not None:
            image.load()
            if ordinary.is_ordinary(image, kind, params):
                fp = paths.write(fp)
                write = _pillow_writer(image, kind, params, original)
                with saves.keeping(fp, image.mode, image.size, functools.partial(pack, image), write) as waits:
                    if not waits:
                        original(image, fp, format, **params)
                return
        original(image, fp, format, **params)

    save.__doc__ = original.__doc__
    Image.Image.save = save  # type: ignore[method-assign]  # that is what a hook is


def _format(fp: Any, format: Any) -> str | None:
    """The format that Pillow will take."""
    from PIL import Image

    if isinstance(format, str):
        return format.upper()
    if format or not isinstance(fp, str | bytes | os.PathLike):
        return None
    return Image.EXTENSION.get(os.path.splitext(os.fsdecode(fp))[1].lower())


def _pillow_writer(image: Any, format: str, params: dict[str, Any], save: Callable[..., None]) -> Write:
    """Writes the file that `image.save` would have written now."""
    mode, size, info = image.mode, image.size, dict(image.info)
    params = copy.deepcopy(params)

    def write(pixels: memoryview, path: str) -> None:
        from PIL import Image

        picture = Image.frombytes(mode, size, pixels)
        picture.info = info
        with _open(path, "wb") as file:
            save(picture, file, format, **params)

    return write


def _hook_imwrite(paths: Paths, saves: Saves) -> None:
    import cv2

    original = cv2.imwrite

    @functools.wraps(original)
    def imwrite(filename: Any, img: Any, *args: Any, **kwargs: Any) -> bool:
        filename, ending = formats.prepare_array(filename, img, paths)
        if ending is not None:
            return _encode_to(filename, ending, img, *args, **kwargs)
        real = paths.write(filename)
        options = args[0] if args else kwargs.get("params")
        if isinstance(real, str | os.PathLike) and len(args) + len(kwargs) == int(options is not None):
            mode = ordinary.array_mode(img, os.path.splitext(os.fsdecode(real))[1], options)
            if mode is not None:
                take = functools.partial(_take_array, img, mode)
                size = (img.shape[1], img.shape[0])
                with (
                    contextlib.suppress(OSError),  # no such folder: OpenCV has its own way to say so
                    saves.keeping(real, mode, size, take, _opencv_writer(img.shape, options, original)) as waits,
                ):
                    return True if waits else bool(original(real, img, *args, **kwargs))
        saves.settle(real)
        return bool(original(real, img, *args, **kwargs))

    cv2.imwrite = imwrite


def _encode_to(filename: Any, ending: str, image: Any, *args: Any, **kwargs: Any) -> bool:
    """Write a picture in a format that the name does not say."""
    import cv2

    done, data = cv2.imencode(ending, image, *args, **kwargs)
    if done:
        with open(filename, "wb") as file:
            file.write(data.tobytes())
    return bool(done)


def _opencv_writer(shape: tuple[int, ...], options: Any, write: Callable[..., Any]) -> Write:
    """Writes the file that `cv2.imwrite` would have written now."""
    options = [] if options is None else [list(options)]

    def write_file(pixels: memoryview, path: str) -> None:
        import cv2
        import numpy as np

        array: Any = np.frombuffer(pixels, np.uint8).reshape(shape)
        if len(shape) == 3 and shape[2] > 1:
            array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR if shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
        if not write(path, array, *options):
            raise OSError(f"{os.path.basename(path)} could not be written")

    return write_file


def _take_array(array: Any, mode: str, target: memoryview) -> None:
    """Pack an array as OpenCV has it, blue first."""
    import cv2
    import numpy as np

    packed = np.frombuffer(target, np.uint8).reshape(*array.shape[:2], CHANNELS[mode])
    if mode == "L":
        packed[..., 0] = array.reshape(array.shape[:2])
    else:
        cv2.cvtColor(array, cv2.COLOR_BGR2RGB if mode == "RGB" else cv2.COLOR_BGRA2RGBA, dst=packed)


def _hook_opencv(paths: Paths, saves: Saves) -> None:
    """Let the functions of OpenCV that open files by themselves see real paths and real files."""
    import cv2

    for name in (*_READERS, *_WRITERS):
        if hasattr(cv2, name):
            resolve = paths.read if name in _READERS else paths.write
            setattr(cv2, name, _settled(getattr(cv2, name), resolve, saves))
    video = cv2.VideoCapture

    class Opening(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            saves.settle()
            if args and isinstance(args[0], str):
                args = (paths.read(args[0]), *args[1:])
            return video(*args, **kwargs)

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, video)

    setattr(cv2, "VideoCapture", Opening("VideoCapture", (), {"__doc__": video.__doc__}))  # noqa: B010  # it is a type


def _settled(original: Callable[..., Any], resolve: Callable[[Any], Any], saves: Saves) -> Callable[..., Any]:
    @functools.wraps(original)
    def hooked(filename: Any, *args: Any, **kwargs: Any) -> Any:
        saves.settle()
        return original(resolve(filename), *args, **kwargs)

    return hooked


def _hook_os(paths: Paths, saves: Saves) -> None:
    """Let sizes and times be those of real files; whether a file is there can be told without."""
    for name in ("stat", "lstat"):
        setattr(os, name, _looking(getattr(os, name), saves))

    def exists(path: Any) -> bool:
        """Test whether a path exists. Returns False for broken symbolic links."""
        return _mode(_stat, path, paths) is not None

    def lexists(path: Any) -> bool:
        """Test whether a path exists. Returns True for broken symbolic links."""
        return _mode(_lstat, path, paths) is not None

    def isfile(path: Any) -> bool:
        """Test whether a path is a regular file."""
        mode = _mode(_stat, path, paths)
        return mode is not None and modes.S_ISREG(mode)

    os.path.exists, os.path.lexists, os.path.isfile = exists, lexists, isfile


def _mode(ask: Callable[[Any], os.stat_result], path: Any, paths: Paths) -> int | None:
    try:
        return ask(paths.look(path)).st_mode
    except (OSError, ValueError):
        return None


def _looking(original: Callable[..., Any], saves: Saves) -> Callable[..., Any]:
    @functools.wraps(original)
    def hooked(path: Any, *args: Any, **kwargs: Any) -> Any:
        saves.settle(None if kwargs.get("dir_fd") is not None else path)
        return original(path, *args, **kwargs)

    return hooked
