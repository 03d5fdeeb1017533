"""An engine of your own: anything that can write the next turn of a conversation becomes a model that thinks with code.

    python examples/extend/own_engine.py

`TurnEngine` wraps one async function, from the trajectory so far to what the model writes next. Here that function is a
few lines of rules; put a call of your own inference server, or of a program, in its place. docs/extend/engine.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from PIL import Image

from thyme.api import AsyncThyme
from thyme.engines.base import Capabilities, Chunk, EngineInfo, Request, written_last
from thyme.errors import EngineError
from thyme.markup import observation_text
from thyme.types import Execution, ImageRecord, Observation, Prompt, SeenImage

Write = Callable[[Request], Awaitable[str]]
"""What the model writes next, up to ``</code>`` or the end of its turn. The tags are part of it."""


class TurnEngine:
    """Fulfils `thyme.engines.base.Engine` with a function that is asked once a turn.

    The rollout asks for one span at a time, text and then code, each with its stop strings. So a turn is kept until the
    rollout has taken all of it, by trajectory and by the number of observations before it.
    """

    def __init__(self, write: Write, name: str = "own") -> None:
        """Keep the function."""
        self._write = write
        self.info = EngineInfo(name, Capabilities(style="chat", streaming=False))
        self._turns: dict[str, tuple[int, str]] = {}

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """Size in pixels at which the model sees an image: here every image as it is."""
        return width, height

    def prompt(self, system: str, user: str, images: Sequence[ImageRecord]) -> Prompt:
        """The prompt as it is stored; without token ids, as this engine knows none."""
        seen = tuple(SeenImage(image=one, seen_width=one.width, seen_height=one.height) for one in images)
        return Prompt(system=system, user=user, images=seen)

    def observation(self, execution: Execution) -> Observation:
        """What the model reads of a result."""
        sizes = tuple(image.size for image in execution.images)
        return Observation(execution=execution, text=observation_text(execution), seen_sizes=sizes)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """One span, in one piece. Closing the iterator cancels what is awaited."""
        rest = (await self._turn(request))[len(written_last(request.segments)) :]
        blocked = [text for text in request.blocked if text in rest]
        if blocked:  # a model that cannot be kept from writing it must not write it unseen
            raise EngineError(f"the model wrote {blocked[0]}, which was to be blocked")
        ends = [(rest.index(stop) + len(stop), stop) for stop in request.stop if stop in rest]
        end, stop = min(ends, default=(len(rest), None))
        yield Chunk(rest[:end], stop="end" if stop is None else "stop", stop_string=stop)

    async def _turn(self, request: Request) -> str:
        number = sum(isinstance(segment, Observation) for segment in request.segments)
        place, text = self._turns.get(request.trajectory_id, (-1, ""))
        if place != number:
            text = await self._write(request)
            self._turns[request.trajectory_id] = number, text
        return text

    async def release(self, trajectory_id: str) -> None:
        """Forget a trajectory."""
        self._turns.pop(trajectory_id, None)

    async def aclose(self) -> None:
        """Nothing to free."""


LOOK = """<think>I let code measure it.
<code>
```python
from PIL import Image
image = Image.open(image_path).convert("RGB")
halves = image.resize((2, 1), Image.Resampling.BOX)
left, right = halves.getpixel((0, 0)), halves.getpixel((1, 0))
print("left" if sum(left) > sum(right) else "right")
```
</code>"""


async def rules(request: Request) -> str:
    """A "model": looks once, and answers with what its code printed."""
    if not request.segments:
        return LOOK
    said = request.segments[-1]
    assert isinstance(said, Observation)
    side = said.execution.stdout.strip()
    return f"\nThe {side} side is brighter.</think>\n<answer>{side}</answer>"


async def main() -> str | None:
    """Ask it one question."""
    picture = Image.new("RGB", (320, 200), (30, 30, 30))
    picture.paste((220, 220, 220), (160, 0, 320, 200))
    async with AsyncThyme(TurnEngine(rules)) as thyme:
        result = await thyme.ask(picture, "Which side is brighter, left or right?")
    print(result.trajectory.response)
    return result.answer


if __name__ == "__main__":
    asyncio.run(main())
