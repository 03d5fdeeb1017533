"""Hand-made trajectories for tests of the store, the views and the evaluation: no model, no sandbox."""

from __future__ import annotations

from PIL import Image, ImageDraw

from thyme.types import (
    Execution,
    ExecutionError,
    Generated,
    ImageRecord,
    Observation,
    Problem,
    Prompt,
    Repair,
    Sampling,
    SeenImage,
    StopReason,
    Timings,
    Trajectory,
    Usage,
)

SAMPLING = Sampling(
    text_temperature=0.0, code_temperature=0.0, max_rounds=4, max_round_tokens=512, max_tokens=1024, tools=True
)

CODE = """from PIL import Image

image = Image.open(image_path)
crop = image.crop((620, 180, 1500, 260))
crop.save("sign.png")
print("sign.png", crop.size)"""


def picture(width: int = 640, height: int = 400, text: str = "KX 47") -> Image.Image:
    """A small street: sky, road, a sign with text."""
    image = Image.new("RGB", (width, height), (196, 216, 232))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height * 2 // 3, width, height), fill=(96, 100, 104))
    draw.rectangle((width // 2, height // 3, width * 3 // 4, height // 2), fill=(250, 246, 228), outline=(40, 40, 40))
    draw.text((width // 2 + 12, height // 3 + 8), text, fill=(30, 30, 60), font_size=height // 9)
    return image


def scene(**kwargs: int) -> ImageRecord:
    return ImageRecord.of(picture(**kwargs), name="street.png")


def observation(execution: Execution, text: str = "") -> Observation:
    body = text or f"\n<sandbox_output>\n{execution.stdout}{'<image>' * len(execution.images)}\n</sandbox_output>\n"
    return Observation(execution=execution, text=body, seen_sizes=tuple(i.size for i in execution.images))


def good_execution(code: str = CODE) -> Execution:
    crop = picture().crop((300, 120, 500, 210))
    return Execution(
        code=code,
        ran=code,
        stdout="sign.png (200, 90)\n",
        images=(ImageRecord.of(crop, name="sign.png"),),
        repairs=(Repair(name="boundary", note="crop box (620, 180, 1500, 260) clamped to the image", count=1),),
        duration_s=0.042,
        isolation="namespaces",
    )


def failed_execution() -> Execution:
    code = "print(imgae.size)"
    error = ExecutionError(type="NameError", message="name 'imgae' is not defined", line=1)
    return Execution(code=code, ran=code, error=error, duration_s=0.011, isolation="namespaces")


def trajectory(
    *,
    id: str = "street-1",
    question: str = "What does the sign say?",
    answer: str = "KX 47",
    reference: str | None = "KX 47",
    kind: str = "zoom",
    executions: tuple[Execution, ...] | None = None,
    stop: StopReason = StopReason.ANSWER,
    thought: str = "The sign on the right is too small to read. I crop it.",
    tools: bool = True,
) -> Trajectory:
    """One trajectory: a thought before each execution, then the answer."""
    image = scene()
    ran = (good_execution(),) if executions is None else executions
    segments: list[Generated | Observation] = []
    opening = "<think>"
    for execution in ran:
        segments.append(Generated(kind="text", text=f"{opening}{thought}\n<code>", temperature=0.0))
        segments.append(Generated(kind="code", text=f"\n```python\n{execution.code}\n```\n</code>", temperature=0.0))
        segments.append(observation(execution))
        opening = ""
    tail = f"{opening}Now I can read it.</think>\n"
    if stop is StopReason.ANSWER:
        tail += f"<answer>{answer}</answer>"
    segments.append(Generated(kind="text", text=tail, temperature=0.0))
    return Trajectory(
        id=id,
        problem=Problem(id=id, question=question, images=(image,), answer=reference, kind=kind),
        prompt=Prompt(
            system="You may write code.",
            user=f"<image>\n{question}",
            images=(SeenImage(image=image, seen_width=280, seen_height=168),),
        ),
        segments=tuple(segments),
        stop=stop,
        model="nano",
        sampling=SAMPLING.model_copy(update={"tools": tools}),
        seed=7,
        usage=Usage(prompt_tokens=120, generated_tokens=88, observation_tokens=40, rounds=len(ran)),
        timings=Timings(engine_s=1.5, sandbox_s=0.05, total_s=1.6),
    )
