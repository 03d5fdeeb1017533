"""How the sandbox tells code that is ready for an error from code that runs into it."""

from __future__ import annotations

import pytest

from thyme.sandbox.jail.callers import handled


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("try:\n    f()\nexcept NameError:\n    pass", {"NameError"}),
        ("try:\n    f()\nexcept (ImportError, OSError) as e:\n    print(e)", {"ImportError", "OSError"}),
        ("try:\n    f()\nexcept cv2.error:\n    pass", {"cv2", "error"}),
        ("try:\n    f()\nexcept Exception as error:\n    print(error)", {"Exception"}),
        ("try:\n    f()\nexcept KeyError:\n    pass\nexcept ValueError:\n    raise", {"KeyError", "ValueError"}),
        ("if bad:\n    raise ValueError(NameError)", set()),
        ("try:\n    f(TypeError)\nfinally:\n    g()", set()),
        ("try:\n    f()\nexcept:\n    pass", set()),
    ],
)
def test_handled_are_the_exceptions_that_handlers_name(code: str, names: set[str]) -> None:
    assert handled(compile(code, "", "exec")) == names
