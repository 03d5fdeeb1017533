"""Pictures shown in a window, and questions to the user, where there is neither (repair ``windows``).

What was shown and not saved by the end of the block is saved in the working folder and comes back as an image.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .callers import expects
from .confine import OUTPUT
from .paths import Paths, exists

NAMES = frozenset({"display", "get_ipython", "clear_output", "cv2_imshow"})
"""Names that a notebook defines."""

WINDOW_FUNCTIONS = (
    "namedWindow", "destroyAllWindows", "destroyWindow", "resizeWindow", "moveWindow", "setWindowTitle",
    "setWindowProperty", "setMouseCallback", "startWindowThread",
)  # fmt: skip
"""Functions of `cv2` that do nothing where there is no screen."""

_KEYS = itertools.cycle((ord("q"), 27, 13))
"""Keys that end the loops which wait for one."""
_MOST_SHOWN = 16


@dataclass(frozen=True)
class _Shown:
    """A picture that was to be seen on a screen."""

    origin: Any
    """The object the code holds."""
    picture: Any
    """Pillow image of it, taken when it was shown."""


class Screen:
    """What one session shows."""

    def __init__(self, paths: Paths) -> None:
        """Show nothing yet."""
        self._paths, self._shown, self._count = paths, list[_Shown](), 0

    def show(self, thing: Any) -> bool:
        """Take a picture of `thing`; False where it is none."""
        if self._paths.was_saved(thing) or len(self._shown) >= _MOST_SHOWN:
            return True
        picture = _picture_of(thing)
        if picture is not None and not (self._shown and self._shown[-1].picture == picture):
            self._shown.append(_Shown(thing, picture))
        return picture is not None

    def remember(self, thing: Any) -> None:
        """Know that `thing` is being saved."""
        self._paths.remember(thing)

    def finish(self) -> list[str]:
        """End a block: save what was shown and not saved; virtual paths."""
        shown, self._shown = self._shown, []
        return [self._save(item) for item in shown if not self._paths.was_saved(item.origin)]

    def _save(self, item: _Shown) -> str:
        self._count += 1
        while exists(self._paths.real(path := f"{OUTPUT}/shown_{self._count}.png")):
            self._count += 1
        item.picture.save(path)
        self._paths.note("windows", f"shown, but not saved: it is {path}")
        return path


def install(paths: Paths) -> Screen:
    """Put the hooks of one session in place. Call once, in the forked process."""
    screen = Screen(paths)
    if "windows" in paths.enabled:
        _hook_cv2(screen, paths)
        _hook_pillow(screen)
        _hook_input(paths)
        sys.meta_path.insert(0, _Pyplot(screen))
        sys.meta_path.append(_NotebookModules(screen, paths))
    return screen


def _hook_cv2(screen: Screen, paths: Paths) -> None:
    import cv2

    def imshow(winname: str, mat: Any) -> None:
        screen.show(mat)

    def wait_key(delay: int = 0) -> int:
        paths.note("windows", "nobody presses a key; went on")
        return next(_KEYS)

    hooks: dict[str, Callable[..., Any]] = {"imshow": imshow}
    hooks |= dict.fromkeys(("waitKey", "waitKeyEx", "pollKey"), wait_key)
    for name in (*hooks, *WINDOW_FUNCTIONS):
        if hasattr(cv2, name):
            setattr(cv2, name, _unless_expected(getattr(cv2, name), hooks.get(name) or _nothing(name, paths)))


def _nothing(name: str, paths: Paths) -> Callable[..., None]:
    def hooked(*args: Any, **options: Any) -> None:
        paths.note("windows", f"there is no screen; cv2.{name} did nothing")

    return hooked


def _unless_expected(original: Callable[..., Any], hook: Callable[..., Any]) -> Callable[..., Any]:
    """`hook`, but the original for code that is ready for its error."""

    def hooked(*args: Any, **options: Any) -> Any:
        return (original if expects("error") else hook)(*args, **options)

    hooked.__name__, hooked.__doc__ = original.__name__, original.__doc__
    return hooked


def _hook_pillow(screen: Screen) -> None:
    from PIL import Image

    def show(self: Image.Image, title: str | None = None) -> None:
        screen.show(self)

    show.__doc__ = Image.Image.show.__doc__
    Image.Image.show = show  # type: ignore[method-assign]  # that is what a hook is


def _hook_input(paths: Paths) -> None:
    original = builtins.input

    def input(prompt: object = "", /) -> str:
        if expects("EOFError"):
            return original(prompt)
        print(prompt, end="\n" if prompt else "")  # noqa: T201  # as `input` does
        paths.note("windows", "nobody answers a question; the answer is empty")
        return ""

    builtins.input = input


def _picture_of(thing: Any) -> Any:
    """A Pillow image that no later drawing changes; None where `thing` is no picture."""
    import numpy as np
    from PIL import Image

    if isinstance(thing, Image.Image):
        return thing.convert("RGBA" if thing.mode in {"RGBA", "LA", "PA"} else "RGB" if thing.mode != "L" else "L")
    if isinstance(thing, np.ndarray):
        return _picture_of_array(thing)
    canvas = getattr(thing, "canvas", None)
    if canvas is None or not hasattr(canvas, "buffer_rgba"):
        return None
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _picture_of_array(array: Any) -> Any:
    """As `cv2.imshow` reads it: blue first, and floating-point numbers from 0 to 1."""
    import numpy as np
    from PIL import Image

    if array.size == 0 or array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {1, 3, 4}):
        return None
    if array.dtype != np.uint8:
        array = np.clip(array * 255.0 if array.dtype.kind == "f" else array, 0, 255).astype(np.uint8)
    if array.ndim == 3:
        array = array[:, :, 0] if array.shape[2] == 1 else array[:, :, [2, 1, 0, 3][: array.shape[2]]]
    return Image.fromarray(np.ascontiguousarray(array)).copy()


# --- notebooks --------------------------------------------------------------------------------------------------------


def stand_in(name: str, screen: Screen, paths: Paths) -> Any:
    """What a notebook's `name` is here."""
    paths.note("windows", f"there is no notebook; {name} is a stand-in")
    return _notebook(screen)[name]


def _notebook(screen: Screen) -> dict[str, Any]:
    def display(*things: Any, **options: Any) -> None:
        for thing in things:
            if not screen.show(thing):
                print(thing)  # noqa: T201  # what a notebook shows of it

    def nothing(*args: Any, **options: Any) -> None:
        return None

    def open_image(data: Any = None, filename: Any = None, **options: Any) -> Any:
        from PIL import Image

        return Image.open(filename or data)

    return {
        "display": display,
        "cv2_imshow": display,
        "clear_output": nothing,
        "Image": open_image,
        "get_ipython": _Shell,
    }


class _Shell:
    """What `get_ipython()` gives: it takes every order and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **options: None


class _NotebookModules:
    """Finds the modules of notebooks; asked last."""

    _MODULES = ("IPython", "IPython.display", "google", "google.colab", "google.colab.patches")

    def __init__(self, screen: Screen, paths: Paths) -> None:
        self._screen, self._paths = screen, paths

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in self._MODULES or expects("ImportError", "ModuleNotFoundError"):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]  # is a loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        self._paths.note("windows", f"there is no notebook; {spec.name} is a stand-in")
        module = types.ModuleType(spec.name)
        module.__dict__.update(_notebook(self._screen))
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: it was made whole."""


# --- matplotlib -------------------------------------------------------------------------------------------------------


class _Pyplot:
    """Asked first, and only about `matplotlib.pyplot`, which is hooked once it was imported."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != "matplotlib.pyplot":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader, original = spec.loader, spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                original(module)
                _hook_pyplot(module, self._screen)

            loader.exec_module = exec_module  # type: ignore[method-assign]  # that is what a hook is
        return spec


def _hook_pyplot(pyplot: Any, screen: Screen) -> None:
    figure_class = pyplot.Figure
    original_savefig = figure_class.savefig

    def savefig(self: Any, *args: Any, **options: Any) -> Any:
        screen.remember(self)
        return original_savefig(self, *args, **options)

    def show(*args: Any, **options: Any) -> None:
        for figure in _open_figures(pyplot):
            screen.show(figure)

    def show_figure(self: Any, warn: bool = True) -> None:
        screen.show(self)

    savefig.__doc__ = original_savefig.__doc__
    figure_class.savefig, figure_class.show, pyplot.show = savefig, show_figure, show


def _open_figures(pyplot: Any) -> Iterator[Any]:
    current = pyplot.gcf() if pyplot.get_fignums() else None
    for number in pyplot.get_fignums():
        yield pyplot.figure(number)
    if current is not None:
        pyplot.figure(current)
