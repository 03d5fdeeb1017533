"""Made-up questions and answers for benchmarks/eval_parity.py: the same for a seed on every machine."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
Case = dict[str, Any]

COLOURS = ("red", "blue", "green", "dark blue", "black", "no colour")
PLAIN = ("{}", "{}", "{}", "{}.", " {}\n")
SAID = (
    *PLAIN,
    "({})",
    "**{}**",
    "The answer is {}.",
    "Answer: {}",
    "It is {}",
    "I think that it must be {}",
    "{} is right",
)


def said(pick: random.Random, text: str) -> str:
    return pick.choice(SAID).format(text)


def near(pick: random.Random, value: float) -> str:
    """A number at, within, just outside of five percent, or far off; in one of the ways to write it."""
    value *= pick.choice((1, 1, 1.049, 0.951, 1.051, 0.949, 2, -1))
    return pick.choice((f"{value:g}", f"{value:.2f}", f"{value:.0f}", f"{value:g}%", f"{value:g} cm", f"{value:,.1f}"))


def chartqa(pick: random.Random) -> Case:
    if pick.random() < 0.3:
        reference = pick.choice(("Yes", "No", "Dark Blue", "2016"))
        answer = pick.choice((reference, reference.lower(), reference + ".", "no", "dark blue", "2015"))
    else:
        value = pick.choice((0, 0.45, 3, 12.5, 45, 1200, -7))
        reference = pick.choice((f"{value:g}", f"{value:g}", f"{value:g}%"))
        answer = near(pick, value)
    return {"row": {"question": "?", "answer": reference, "split": "test_human"}, "answer": answer}


def ocrbench(pick: random.Random) -> Case:
    if pick.random() < 0.3:
        category = "Handwritten Mathematical Expression Recognition"
        reference = pick.choice((["x ^ { 2 } + 1"], ["\\frac { a } { b }", "a / b"]))
        answer = pick.choice(
            (reference[0], reference[0].replace(" ", ""), reference[-1].upper(), "x + 1", "so a/b\nthen")
        )
    else:
        category = pick.choice(("Regular Text Recognition", "Doc-oriented VQA", "Key Information Extraction"))
        reference = pick.choice((["CENTRE"], ["12 March", "March 12"], ["$5.00"]))
        answer = said(
            pick, pick.choice((reference[0], reference[-1].lower(), reference[0].replace(" ", "\n"), "center"))
        )
    return {"row": {"question": "?", "answer": str(reference), "category": category}, "answer": answer}


def mathvista(pick: random.Random) -> Case:
    if pick.random() < 0.4:
        options = pick.sample(COLOURS, 4)
        right = pick.randrange(4)
        given = pick.randrange(4)
        answer = said(pick, pick.choice(("ABCD"[given], options[given], f"({'ABCD'[given]}) {options[given]}", "E")))
        row = {"question_type": "multi_choice", "answer_type": "text", "answer": options[right],
               "answer_option": "ABCD"[right], "choices": str(options), "precision": ""}  # fmt: skip
    else:
        kind, value = pick.choice((("integer", 14), ("integer", -3), ("float", 1.5), ("float", 1.45)))
        answer = pick.choice(
            (f"{value}", f"{value}", f"{value}.0", f"{value}0", f"{value + 1}", f"{value} m", f"{value}4")
        )
        digits = {"integer": "", "float": str(len(str(value).partition(".")[2]))}[kind]
        row = {"question_type": "free_form", "answer_type": kind, "answer": str(value), "answer_option": "",
               "choices": "[]", "precision": digits}  # fmt: skip
    return {"row": {"question": "?", "task": "geometry", "skills": "[]", **row}, "answer": answer}


def mathvision(pick: random.Random) -> Case:
    if pick.random() < 0.5:
        options = list("ABCDE") if pick.random() < 0.5 else ["2", "3", "5", "7", "11"]
        given = pick.randrange(5)
        answer = said(pick, pick.choice(("ABCDE"[given], options[given])))
        row = {"answer": pick.choice("ABCDE"), "choices": str(options)}
    else:
        reference, *others = pick.choice((("12", "12.0", "13"), ("0.75", "3/4", "0.8"), ("\\frac{1}{2}", "0.5", "1/3"),
                                          ("2\\sqrt{3}", "\\sqrt{12}", "3.4"),
                                          ("(1, 2)", "(1,2)", "(2, 1)")))  # fmt: skip
        answer = pick.choice((reference, *others))
        row = {"answer": reference, "choices": "[]"}
    return {"row": {"question": "?", "category": "algebra", **row}, "answer": answer}


def mathverse(pick: random.Random) -> Case:
    kind, reference = pick.choice((("multi-choice", "C"), ("free-form", "12"), ("free-form", "(-2,1]")))
    answer = pick.choice((reference, reference, "B", "13", f"{reference}.", f"{reference}: 3"))
    row = {"question": "?", "question_for_eval": "How long?\nChoices:\nA:1\nB:2\nC:3\nD:4", "question_type": kind,
           "answer": reference, "metadata": "{}"}  # fmt: skip
    return {"row": row, "answer": answer}


def choice(pick: random.Random) -> Case:
    options = dict(zip("ABCD", pick.sample(COLOURS, 4), strict=True))
    given = pick.choice("ABCD")
    text = pick.choice(
        (given, given, options[given], f"{given}. {options[given]}", f"a {options[given]} car", "A or B")
    )
    row = {"question": "?", **options, "answer": pick.choice("ABCD"), "category": "direct_attributes"}
    return {"row": row, "answer": said(pick, text)}


def mme_realworld(pick: random.Random) -> Case:
    given = pick.choice("ABCDE")
    text = pick.choice((given, f"({given})", given.lower(), f"The best answer is ({given})",
                        f"The correct option is {given}",
                        f"Best answer: {given}", f"the {pick.choice(COLOURS)} one"))  # fmt: skip
    options = {letter: f"text {letter}" for letter in "ABCDE"}
    return {
        "row": {"question": "?", **options, "answer": pick.choice("ABCDE"), "category": "Perception/OCR"},
        "answer": text,
    }


def hallusion(pick: random.Random) -> Case:
    text = pick.choice(
        ("Yes", "no", "Yes, it is.", "No. It isn't", "yes/no", "There is none", "yes-man", "No,yes", "Yes!")
    )
    row = {"index": "VD_illusion_1_0_1_0", "question": "?", "answer": pick.choice(("Yes", "No"))}
    return {"row": row, "answer": text}


def tir_bench(pick: random.Random) -> Case:
    task, reference, answers = pick.choice(
        (
            ("ocr", "aXes", ("aXes", "It says aXes.", "axes")),
            ("word_search", "[17, 1]", ("[17, 1]", "17,1", "1, 17", "17")),
            ("word_search", "7", ("7", "8", "7 times", "**7**")),
            ("spot_difference", "[1, 4, 9]", ("1, 4, 9", "[4,1]", "4, 9, 2", "none")),
            ("jigsaw", "3, 1, 4, 2", ("3, 1, 4, 2", "1, 3, 4, 2", "The order is 3 1\n4 2", "3, 1, 4")),
            ("instrument", "72", ("72", "73", "72.0", "72 degrees", "72 F", "about 72")),
            ("math", "0.25", ("0.25", "0.250", "1/4", "25%")),
            ("color", "B", ("B", "C", "B. blue", "blue", "D. black", "yellow")),
            ("maze", "AC", ("AC", "CA", "A", "ABC")),
        )
    )
    row = {"id": 1, "task": task, "answer": reference, "meta_data": {"difficulty": 2},
           "prompt": "Which?\nA. red\nB. blue\nC. green\nD. black" if reference.isalpha() else "Which?"}  # fmt: skip
    return {"row": row, "answer": pick.choice(answers)}


EQUAL = (
    ("\\frac{1}{2}", "0.5"), ("2\\sqrt{3}", "\\sqrt{12}"), ("x^2+2x+1", "(x+1)^2"), ("\\pi", "3.14"),
    ("(1,2)", "(1, 2)"),
    ("[0,1)", "[0,1]"), ("\\{1,2\\}", "\\{2,1\\}"), ("45^\\circ", "45"), ("\\sin(x)", "\\cos(x)"), ("2^{10}", "1024"),
    ("x=3", "3"), ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}"), ("-\\frac{3}{4}", "-0.75"), ("\\infty", "-\\infty"),
)  # fmt: skip


def expression(pick: random.Random) -> Case:
    pair = list(pick.choice(EQUAL))
    pick.shuffle(pair)
    return {"row": {"answer": pair[0]}, "answer": pick.choice(pair)}


CASES: dict[str, Callable[[random.Random], Case]] = {
    "ChartQA_TEST": chartqa,
    "OCRBench": ocrbench,
    "MathVista_MINI": mathvista,
    "MathVision_MINI": mathvision,
    "MathVerse_MINI_Vision_Only": mathverse,
    "VStarBench": choice,
    "MME-RealWorld": mme_realworld,
    "HallusionBench": hallusion,
    "TIR-Bench": tir_bench,
    "math-verify": expression,
}


def figures(pick: random.Random) -> dict[str, list[Case]]:
    """Scored rows, of which figures are made."""
    letters = {letter: letter.lower() for letter in "ABCD"}
    hr = [{"row": {"index": f"{question}-{cycle}", "question": f"{question}?", **letters, "answer": "A",
                   "cycle_category": str(cycle), "category": "single" if question % 2 else "cross"},
           "score": float(pick.random() < 0.6)} for question in range(20) for cycle in range(4)]  # fmt: skip
    hallusion = [{"row": {"index": f"{kind}_{sub}_1_{group}_{figure}_{question}", "question": "?", "answer": "Yes",
                          "category": kind, "l2-category": sub}, "score": float(pick.random() < 0.8)}
                 for kind, sub in (("VD", "illusion"), ("VS", "chart")) for group in range(5) for figure in range(2)
                 for question in range(3)]  # fmt: skip
    needs = ("rec", "ocr", "know", "gen", "spat", "math")
    vet = [{"row": {"index": str(index), "question": "?", "answer": "x",
                    "category": ",".join(pick.sample(needs, pick.randint(1, 3)))},
            "score": pick.randint(0, 10) / 10} for index in range(60)]  # fmt: skip
    return {"HRBench4K": hr, "HallusionBench": hallusion, "MMVet": vet}
