"""All attacks at every level, as whoever runs the tests: none escapes, hangs, harms the host, a neighbour or the next.

All run through one broker a level, a few at a time. A witness session stands beside them, with the same input as they
have and with a secret one; after each few its files, pixels and variables must be as they were.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import psutil
import pytest
import pytest_asyncio
from attack_records import PRELUDE, RECORDS, Attack
from conftest import SMALL
from PIL import Image, PngImagePlugin
from shooting_range import SECRET_COLOUR, Range, faults_of, open_range

from thyme.sandbox import Broker
from thyme.sandbox.session import BrokerSession
from thyme.types import Execution, ImageRecord

AT_ONCE = 6
MOST_S = 15
"""Seconds for an attack: the limit is half a second, the machine may be busy."""
SAME = "print(open(image_path, 'rb').read()[:4], len(open(image_path, 'rb').read()))"
SOUND = """
import os, random, builtins, numpy, PIL.Image, cv2
print(6 * 7, os.listdir('/mnt/data/tmp'), os.listdir('.'), len(image_paths), os.environ.get('LD_PRELOAD'))
print(PIL.Image.open(image_path).size, cv2.imread(image_path).shape, type(builtins.print).__name__, random.random())
"""
WITNESS = """
import hashlib, os, cv2
from PIL import Image
for p in image_paths:
    print(hashlib.md5(open(p, 'rb').read()).hexdigest(), hashlib.md5(Image.open(p).tobytes()).hexdigest())
    print(cv2.imread(p).sum(), oct(os.stat(p).st_mode), os.stat(p).st_size, os.stat(p).st_mtime)
print(mine, os.listdir('.'), sorted(os.listdir('/mnt/data/input')))
"""
GATE = """
import os
held = []
for probe in (lambda: open('{VICTIM}/secret.txt').read(), lambda: open('{VICTIM}/gate', 'w'),
              lambda: open('/etc/passwd'), lambda: os.listdir('/tmp')):
    try: probe(); held.append(False)
    except OSError: held.append(True)
held += [call('kill', 1, 0) < 0, call('kill', VPID, 0) < 0, call('socket', 2, 1, 0) < 0, call('unshare', 0) < 0]
held.append(call('execve', b'/nothing', 0, 0) < 0 and ctypes.get_errno() == 1)
print(all(held), held)
"""
"""Harmless probes of the locks. Where one is open no attack is made: it would hit the machine that runs the tests."""
SMALL_WORK = "print(sum(range(1000)))"


def picture() -> ImageRecord:
    """What all attackers have, and the witness too: large enough for pixels to be shared."""
    return ImageRecord.of(Image.linear_gradient("L").convert("RGB").resize((400, 300)))


def secret_picture() -> ImageRecord:
    """What only the witness has; its file holds a marker."""
    image = Image.new("RGB", (300, 200), SECRET_COLOUR)
    text = PngImagePlugin.PngInfo()
    text.add_text("note", f"NEIGHBOURS{'-'}SECRET-{os.getpid()}")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=text)
    return ImageRecord.of(image, format="PNG", encoded=buffer.getvalue())


@dataclass
class Outcome:
    """What an attack came to."""

    execution: Execution
    faults: list[str] = field(default_factory=list)


class Exercise:
    """One level's broker, its witness, and the outcomes."""

    def __init__(self, broker: Broker, targets: Range, witness: BrokerSession) -> None:
        self.broker, self.targets, self.witness = broker, targets, witness
        self.input = picture()
        self.outcomes: dict[str, Outcome] = {}

    async def run(self, attacks: Sequence[Attack]) -> None:
        """Attack, a few at a time."""
        gate = await self.witness.run(self.targets.aim(PRELUDE + GATE))
        if not gate.stdout.startswith("True"):
            pytest.fail(f"the sandbox does not hold, so nothing attacks it: {gate.stdout}{gate.error}")
        untouched, sound = (await self.witness.run(WITNESS)).stdout, await self._sound()
        assert untouched.count("\n") == 5, "the witness sees two pictures, and its variable"
        assert sound.startswith("42 [] [] 1 None\n(400, 300) (300, 400, 3)")
        ordered = sorted(attacks, key=lambda attack: attack.plain == "hangs" and attack.kind != "neighbours")
        for start in range(0, len(ordered), AT_ONCE):
            batch = ordered[start : start + AT_ONCE]
            found = await asyncio.gather(*map(self._one, batch))
            faults = [hit for hit, happened in self.targets.hits(Execution(code="")) if happened]
            witness = await self.witness.run(WITNESS)
            if witness.stdout != untouched or witness.session_lost:
                faults.append(f"the witness was harmed: {witness}")
            if (after := await self._sound()) != sound:
                faults.append(f"the next session is not sound: {after}")
            for attack, outcome in zip(batch, found, strict=True):
                outcome.faults += faults
                self.outcomes[attack.id] = outcome

    def late(self) -> list[str]:
        """Files that attackers promised and that are there by now."""
        names = [attack.criterion.partition(":")[2] for attack in RECORDS.values()]
        return [str(found) for name in names if name for found in self.targets.folder.glob(name) if name != "deleteme"]

    async def _one(self, attack: Attack) -> Outcome:
        async with self.broker.session([self.input], seed=1) as session:
            before = await session.run(SAME)  # what a later look at the input must give
            started = time.monotonic()
            run = asyncio.ensure_future(session.run(self.targets.aim(attack.body)))
            beside = await self._beside() if attack.kind == "neighbours" else ""
            async with asyncio.timeout(60):
                execution = await run
                after = await session.run(SAME)
                again = await session.run("print(1)")
            took = time.monotonic() - started
        outcome = Outcome(execution, [*self.targets.achieved(attack.criterion, execution), *faults_of(execution)])
        if beside:
            outcome.faults.append(beside)
        if took > MOST_S:
            outcome.faults.append(f"it took {took:.0f} s")
        if before.stdout != after.stdout and not after.error:
            outcome.faults.append(f"its own input changed: {after}")
        if "ESC" in after.stdout + again.stdout:
            outcome.faults.append(f"it spoke for another block: {after.stdout}{again.stdout}")
        return outcome

    async def _beside(self) -> str:
        """A small calculation while others attack; it may be slow once, on a busy machine, not each time."""
        for _ in range(5):
            async with self.broker.session() as session:
                found = await session.run(SMALL_WORK)
            if found.stdout == "499500\n":
                return ""
        return f"a neighbour was starved: {found}"

    async def _sound(self) -> str:
        for _ in range(3):
            async with self.broker.session([self.input], seed=1) as session:
                found = await session.run(SOUND)
            if found.error is None:
                break
        return found.stdout or str(found.error)


def living(broker: Broker) -> list[psutil.Process]:
    """Processes below the zygote that was started, without those that only wait to be reaped."""
    children = psutil.Process(broker.zygote_pid).children(recursive=True)
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


def idle_count(broker: Broker) -> int:
    """Processes that stand when no session is open: at the full level the zygote is process 1 of its namespace."""
    return SMALL.pool + (1 if broker.isolation == "namespaces" else 0)


@pytest.fixture(scope="module")
def targets() -> Iterator[Range]:
    with open_range() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def exercise(request: pytest.FixtureRequest, small_broker: Broker, targets: Range) -> AsyncIterator[Exercise]:
    """All attacks that are asked for, run."""
    asked = {item.callspec.params.get("attack") for item in request.session.items if hasattr(item, "callspec")}
    async with small_broker.session([picture(), secret_picture()], seed=5) as witness:
        await witness.run("mine = 'untouched'")
        found = Exercise(small_broker, targets, witness)
        await found.run([attack for name, attack in RECORDS.items() if name in asked])
        yield found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("attack", RECORDS)
async def test_attack_is_contained(attack: str, exercise: Exercise) -> None:
    outcome = exercise.outcomes[attack]
    assert outcome.faults == [], outcome.execution


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_is_left_of_the_attackers(small_broker: Broker, exercise: Exercise) -> None:
    assert (await exercise.witness.run("print(mine)")).stdout == "untouched\n"
    assert exercise.late() == []
    await small_broker.settle()
    assert len(living(small_broker)) == idle_count(small_broker) + 1, "the witness, and who waits"
    assert len(os.listdir("/proc/self/fd")) < 100


def test_every_attack_can_succeed_or_says_why_not() -> None:
    own = [attack for attack in RECORDS.values() if attack.kind not in {"given", "more"}]
    assert len(own) >= 90
    for attack in own:
        assert bool(attack.plain) != bool(attack.why), attack.id
        assert attack.plain in {"", "escapes", "dies", "hangs", "forges"}, attack.id
        assert attack.criterion.partition(":")[0] in {"", "exists", "bomb", "many_pictures"}, attack.id
