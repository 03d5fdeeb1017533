"""Repairs of syntax: what they put right, and that they leave everything else alone."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.sandbox.jail.repair import (
    SYNTAX_REPAIRS,
    compile_once,
    compiles,
    repair_syntax,
    straighten_quotes,
    strip_fences,
)

ALL = (*SYNTAX_REPAIRS, "whitespace")
LINES = st.sampled_from(
    [
        "x = 1", "print(x)", "for i in range(3):", "    y = i", "if x:", "else:", "    pass", "        z = 2",
        "\tw = 3", "def f(a):", "    return a", "", "# note", "```python", "```", "~~~", "s = “text”",
        's = "a ``` b"', "t = '''", "'''", "k = ‘v’", "   odd = 1", "try:", "except ValueError:",
        "Here is the code:", "a\u00a0= 1", "\ufeffb = 2", "%matplotlib inline", "    !pip install x", "c = 1 + \\ ",
    ]
)  # fmt: skip
SOURCES = st.lists(LINES, max_size=12).map("\n".join) | st.text(max_size=60)


@given(SOURCES)
def test_code_that_compiles_is_not_touched(code: str) -> None:
    if compiles(code):
        repaired = repair_syntax(code, ALL)
        assert repaired.code == code
        assert repaired.repairs == ()


@given(SOURCES)
def test_repair_is_idempotent(code: str) -> None:
    once = repair_syntax(code, ALL)
    twice = repair_syntax(once.code, ALL)
    assert twice.code == once.code
    assert compiles(once.code) is (not twice.repairs and compiles(twice.code))


@given(SOURCES)
def test_a_repair_is_kept_only_if_it_compiles(code: str) -> None:
    repaired = repair_syntax(code, ALL)
    assert bool(repaired.repairs) == (repaired.code != code)
    assert compiles(repaired.code) or repaired.code == code


@given(SOURCES, st.sets(st.sampled_from(ALL)))
def test_only_repairs_that_are_on_are_used(code: str, enabled: set[str]) -> None:
    assert {name for name, _ in repair_syntax(code, enabled).repairs} <= enabled


@given(st.lists(st.sampled_from(["x = 1", "y = [2,\n  3]", "for i in []:\n    pass", "print('a')"]), min_size=1))
def test_fenced_code_is_the_code(parts: list[str]) -> None:
    code = "\n".join(parts)
    assert repair_syntax(f"```python\n{code}\n```", ALL).code == code


@given(st.integers(1, 9), st.lists(st.sampled_from(["x = 1", "if True:\n    y = 2", "z = 3"]), min_size=1))
def test_a_common_margin_is_taken_away(margin: int, parts: list[str]) -> None:
    code = "\n".join(parts)
    moved = "\n".join(" " * margin + line for line in code.splitlines())
    repaired = repair_syntax(moved, ALL)
    assert ast.dump(ast.parse(repaired.code)) == ast.dump(ast.parse(code))
    assert [name for name, _ in repaired.repairs] == ["indentation"]


@pytest.mark.parametrize(
    ("code", "expected", "repairs"),
    [
        ("Look:\n```python\nx = 1\n```\nand\n```\nprint(x)\n```", "x = 1\nprint(x)", ["fences"]),
        ("```python\nprint(1)", "print(1)", ["fences"]),
        ("print(1)\n```", "print(1)", ["fences"]),
        ("print(“hi”)", 'print("hi")', ["quotes"]),
        ("x\u00a0=\u00a01", "x = 1", ["quotes"]),
        ("x = 1\n    y = 2\n    print(y)", "x = 1\ny = 2\nprint(y)", ["indentation"]),
        ("if x:\n    a = 1\n  b = 2", "if x:\n  a = 1\nb = 2", ["indentation"]),
        ("for i in a:\n    b = 1\n\tprint(b)", "for i in a:\n    b = 1\n    print(b)", ["indentation"]),
        ("```\n  print(“x”)\n```", 'print("x")', ["fences", "quotes", "indentation"]),
        ("%matplotlib inline\nx = 1", "pass\nx = 1", ["magics"]),
        ("def f():\n    !ls -l\n    return 7 % 3", "def f():\n    pass\n    return 7 % 3", ["magics"]),
        ("x = 1 + \\ \n    2", "x = 1 + \\\n   2", ["whitespace"]),
        ("```\ns = '''a \nb''' + \\ \n  'c'\n```", "s = '''a \nb''' + \\\n   'c'", ["fences", "whitespace"]),
        ("def f(a):\n    b = a\n  return b", "def f(a):\n    b = a\n    return b", ["indentation"]),
    ],
)
def test_typical_slips(code: str, expected: str, repairs: list[str]) -> None:
    repaired = repair_syntax(code, ALL)
    assert (repaired.code, [name for name, _ in repaired.repairs]) == (expected, repairs)


@pytest.mark.parametrize("code", ["x = = 1", "def", "print('", "if x:\nprint(1)", "\0", "(" * 300, "x = \udcff"])
def test_what_cannot_be_helped_is_left_as_it_is(code: str) -> None:
    assert repair_syntax(code, ALL).code == code


def test_typographic_quotes_in_strings_survive_in_code_that_compiles() -> None:
    code = "print('“quoted” – here')"
    assert repair_syntax(code, ALL).code == code
    assert straighten_quotes(code) != code


def test_lone_fence_inside_text_takes_only_its_line() -> None:
    assert strip_fences("a\n```\nb") == "a\nb"


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
@given(SOURCES)
def test_a_block_that_was_looked_at_compiles_to_the_same(code: str) -> None:
    if compiles(code):
        repair_syntax(code, ALL, "<code 3>")
        assert compile_once(code, "<code 3>") == compile(code, "<code 3>", "exec", dont_inherit=True)


def test_what_was_compiled_to_look_at_it_names_the_file_it_runs_as() -> None:
    code = "def f():\n    return [1 / n for n in (0,)]\nf()"
    assert compiles(code)
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile_once(repair_syntax(code, ALL, "<code 3>").code, "<code 3>"), {})
    assert {str(entry.path) for entry in caught.traceback[1:]} == {"<code 3>"}
    with pytest.raises(SyntaxError) as wrong:
        compile_once("x = = 1", "<code 4>")
    assert wrong.value.filename == "<code 4>"
