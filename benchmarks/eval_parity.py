"""Do our scorers say what lmms-eval, VLMEvalKit, TIR-Bench and math-verify say? On made-up answers, in one run.

    python benchmarks/eval_parity.py --environments FOLDER [--make] [--cases 300] [--seed 0] [--record FILE]

--make builds two environments of the peers in FOLDER from the package index (no torch); nothing of them is installed
here. Answers that one side leaves to a judge are counted apart. docs/benchmarks_eval.md says what differs, and why.
--record keeps what the peers say; tests/test_eval_parity.py holds our scorers to it, without the peers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.base import WITHOUT_JUDGE
from thyme.eval.benchmarks.maths_vista import OFFICIAL
from thyme.eval.items import ItemResult
from thyme.eval.judging import AnswerScorer
from thyme.rewards.mathematics import MathVerifier
from thyme.types import StopReason

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from eval_peers.cases import CASES, figures  # noqa: E402  (beside this file)


class Peer(NamedTuple):
    """What is installed of a peer, and who asks it."""

    alone: tuple[str, ...]
    """Requirements without their dependencies."""
    whole: tuple[str, ...]
    """Requirements with theirs."""
    script: str
    """Of the folder eval_peers; runs in the peer's environment."""


PEERS = {
    "lmms-eval": Peer(
        ("lmms-eval==0.7.3",),
        ("latex2sympy2==1.9.1", "pandas", "levenshtein", "loguru", "pyyaml", "pillow", "tqdm", "aiohttp", "requests",
         "pydantic"),
        "lmms_eval_scores.py",
    ),
    "vlmevalkit": Peer(
        ("ms-vlmeval==0.0.20", "evalscope==1.14.1", "sty", "docstring-parser", "termcolor", "modelscope", "zhconv"),
        ("math-verify==0.9.0", "pandas", "levenshtein", "loguru", "pyyaml", "pillow", "tqdm", "requests", "validators",
         "colorlog", "aiohttp", "pydantic", "huggingface-hub", "openpyxl", "xlsxwriter", "portalocker", "psutil",
         "matplotlib", "timeout-decorator", "tabulate", "rich", "python-dotenv", "datasets", "jsonlines", "filetype",
         "jsonschema", "jinja2", "editdistance"),
        "vlmevalkit_scores.py",
    ),
}  # fmt: skip
OFFICIALLY = " (official)"
"""Ends the name of a benchmark's second scorer, its authors'."""


@dataclass(frozen=True)
class Answered:
    """One benchmark of one peer."""

    name: str
    pairs: list[tuple[float | None, float | None]]
    """Our score and the peer's; None: a judge would be asked."""
    cases: list[dict[str, Any]]

    @property
    def differing(self) -> list[dict[str, Any]]:
        """Cases that both decide, and not alike."""
        both = zip(self.pairs, self.cases, strict=True)
        return [{**case, "ours": ours, "theirs": theirs} for (ours, theirs), case in both
                if ours is not None and theirs is not None and abs(ours - theirs) > 1e-9]  # fmt: skip

    def line(self) -> str:
        """One line of the table."""
        deciding = Counter((ours is not None, theirs is not None) for ours, theirs in self.pairs)
        both, other = deciding[True, True], len(self.differing)
        apart = f"{deciding[True, False]} | {deciding[False, True]} | {deciding[False, False]}"
        return f"| {self.name} | {len(self.pairs)} | {both} | {both - other} | {other} | {apart} |"


def make(folder: Path) -> None:
    """Build the peers' environments."""
    for name, peer in PEERS.items():
        print(
            f"installing {name} ({len(peer.alone) + len(peer.whole)} packages and what they need; minutes) …",
            file=sys.stderr,
        )
        venv.create(folder / name, with_pip=True)
        pip = [str(folder / name / "bin" / "pip"), "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", *peer.alone], check=True)
        subprocess.run([*pip, *peer.whole], check=True)


def ask(folder: Path, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What a peer says."""
    with tempfile.TemporaryDirectory() as written:
        out = Path(written) / "scores.json"
        python, script = folder / name / "bin" / "python", HERE / "eval_peers" / PEERS[name].script
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        made = subprocess.run([python, script, out], input=json.dumps(asked), text=True, capture_output=True,
                              env=environment, check=False)  # fmt: skip
        if made.returncode:
            sys.exit(f"{name}: {made.stderr[-3000:]}")
        said: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return said


async def ours(
    name: str, cases: Iterable[dict[str, Any]], scorer: AnswerScorer, mathematics: MathVerifier
) -> list[float | None]:
    """Our scores by rules and math-verify; None where a judge would be asked."""
    if name == "math-verify":
        return [float((await mathematics.compare(case["row"]["answer"], case["answer"])).equal) for case in cases]
    benchmark, scores = BENCHMARKS[name.removesuffix(OFFICIALLY)], []
    for case in cases:
        problem = benchmark.to_problem({"index": "1", **case["row"]}, ())
        score = (await scorer.score(benchmark, problem, case["answer"].strip())).score
        left = WITHOUT_JUDGE in score.parts and not score.note.endswith("math-verify")
        scores.append(score.parts[OFFICIAL] if name.endswith(OFFICIALLY) else None if left else score.value)
    return scores


async def all_ours(cases: dict[str, list[dict[str, Any]]]) -> dict[str, list[float | None]]:
    """Our scores by benchmark."""
    mathematics = MathVerifier(10.0, processes=1)
    try:
        scorer = AnswerScorer(mathematics=mathematics)
        return {name: await ours(name, some, scorer, mathematics) for name, some in cases.items()}
    finally:
        mathematics.close()


def made_up(count: int, seed: int) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
    """Cases by benchmark, and scored rows of which figures are made."""
    pick = random.Random(seed)
    cases = {name: [made(pick) for _ in range(count)] for name, made in CASES.items()}
    cases[f"MathVista_MINI{OFFICIALLY}"] = cases["MathVista_MINI"]
    return cases, figures(pick)


def compared(
    cases: dict[str, list[dict[str, Any]]], known: dict[str, list[float | None]], said: dict[str, Any]
) -> list[Answered]:
    """Our scores beside those of one peer."""
    return [
        Answered(name, list(zip(known[name], theirs, strict=True)), cases[name])
        for name, theirs in said["scores"].items()
    ]


def figure_gaps(scored: dict[str, list[dict[str, Any]]], said: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By benchmark and figure, how far our figures are from those of one peer."""
    gaps = {}
    for name, theirs in said["figures"].items():
        mine = our_figures(name, scored[name])
        gaps[name] = {figure: abs((mine[figure] or 0.0) - value) for figure, value in theirs.items()}
    return gaps


def our_figures(name: str, rows: Iterable[dict[str, Any]]) -> dict[str, float | None]:
    """Our figures of scored rows."""
    items = []
    for one in rows:
        problem = BENCHMARKS[name].to_problem(one["row"], ())
        items.append(ItemResult(benchmark=name, arm="tools", problem=problem.id, kind=problem.kind, meta=problem.meta,
                                score=one["score"], stop=StopReason.ANSWER))  # fmt: skip
    return dict(BENCHMARKS[name].figures(items))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", type=Path, required=True, help="folder of the peers' environments")
    parser.add_argument("--make", action="store_true", help="build them first")
    parser.add_argument("--cases", type=int, default=300, help="a benchmark")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=3, help="of answers that are scored otherwise")
    parser.add_argument("--record", type=Path, help="write what the peers say")
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.environments)
    cases, scored = made_up(arguments.cases, arguments.seed)
    known = asyncio.run(all_ours(cases))
    said = {peer: ask(arguments.environments, peer, {"scores": cases, "figures": scored}) for peer in PEERS}
    for peer, answers in said.items():
        print(f"\n## {peer}\n\n| benchmark | answers | both decide | same | other | only we | only they | neither |")
        print("|---|---|---|---|---|---|---|---|")
        told = compared(cases, known, answers)
        for one in told:
            print(one.line())
        for one in told:
            _show(one, arguments.examples)
        for name, gaps in figure_gaps(scored, answers).items():
            widest = max(gaps, key=lambda figure: gaps[figure])
            print(f"\nfigures of {name}: {len(gaps)} compared, largest difference {gaps[widest]:.2g} ({widest})")
    if arguments.record is not None:
        installed = {name: peer.alone for name, peer in PEERS.items()}
        kept = {"cases": arguments.cases, "seed": arguments.seed, "installed": installed, "peers": said}
        arguments.record.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    return 0


def _show(one: Answered, examples: int) -> None:
    shown = [[case["row"]["answer"], case["answer"], case["ours"], case["theirs"]] for case in one.differing]
    kinds = Counter(json.dumps(fields, ensure_ascii=False) for fields in shown)
    if kinds:
        print(f"\n{one.name}: [reference, answer, ours, theirs]")
    for text, times in kinds.most_common(examples):
        print(f"- {times} x {text}")


if __name__ == "__main__":
    sys.exit(main())
