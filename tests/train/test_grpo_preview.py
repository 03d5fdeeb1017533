"""A previewed group says what was earned, and colours each token by what the loss sees of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import samples
from chromium import contrasts, needs_browser, open_browser, open_tab
from rich.console import Console

from thyme.config.grpo import CodePolicy, GRPOSettings
from thyme.families import Family, load_family
from thyme.train.grpo.batch import encode_rollout
from thyme.train.grpo.groups import Asked, Group, Member
from thyme.train.grpo.preview import Preview, group_page, preview, read_group, write_group_page
from thyme.types import Generated, Problem, RolloutFailure, Score, StopReason, Trajectory


@pytest.fixture(scope="module")
def family(tiny_qwen2_5_vl: Path) -> Family:
    return load_family(tiny_qwen2_5_vl)


def rollout(family: Family, tau: float = 0.0, **changes: object) -> Trajectory:
    """Text, code, observation, answer; text at tau 1, code at `tau`."""
    made = samples.trajectory([samples.crop(1)], family=family, images=[samples.picture(0)])
    taus = {"text": 1.0, "code": tau}
    segments = [
        segment.model_copy(update={"temperature": taus[segment.kind]}) if isinstance(segment, Generated) else segment
        for segment in made.segments
    ]
    sampling = made.sampling.model_copy(update={"text_temperature": 1.0, "code_temperature": tau})
    return made.model_copy(update={"segments": tuple(segments), "sampling": sampling, **changes})


def group_of(family: Family, tau: float = 0.0) -> Group:
    failure = RolloutFailure(type="SandboxError", message="it died\x1b[2J", where="sandbox")
    lost = rollout(family, tau, segments=(), stop=StopReason.ERROR, error=failure)
    members = [
        Member(rollout(family, tau), Score(value=1.5, parts={"result": 1.0, "format": 1.0}, note="number")),
        Member(rollout(family, tau, stop=StopReason.MAX_TOKENS), Score(value=0.0, parts={"result": 0.0})),
        Member(rollout(family, tau), Score(value=0.0, parts={"result": 0.0})),
        Member(lost, Score(value=None)),
    ]
    problem = Problem(id="p", question="How <b>many?\x1b", answer="7", kind="zoom", choices=("six", "seven"))
    return Group(Asked(0, problem), tuple(members))


def read(family: Family, policy: CodePolicy, tau: float = 0.0) -> Preview:
    return read_group(
        group_of(family, tau), family, GRPOSettings(problems=1, group=4, batch_size=4, code_policy=policy)
    )


@pytest.mark.parametrize(
    ("policy", "tau", "code"), [("mask", 0.0, "masked"), ("keep", 0.0, "greedy"), ("tempered", 0.3, "tempered")]
)
def test_tokens_by_what_the_loss_sees(family: Family, policy: CodePolicy, tau: float, code: str) -> None:
    part = read(family, policy, tau).parts[0]
    told = {look: sum(piece.tokens for piece in part.pieces if piece.look == look) for look in (code, "trained")}
    made = encode_rollout(rollout(family, tau), family, policy)
    assert made is not None
    assert sum(piece.tokens for piece in part.pieces) == len(made)
    assert told["trained"] == int((made.kinds == 1).sum())
    assert told[code] == int((made.kinds == 2).sum())
    written = "".join(piece.text for piece in part.pieces if piece.look == code)
    assert "crop" in written
    assert "<sandbox_output>" not in written


def test_members_outside_the_loss_have_no_token_in_it(family: Family) -> None:
    """The cut one is compared and not learnt from; the failed one wrote nothing."""
    shown = read(family, "keep")
    cut, lost = shown.parts[1], shown.parts[3]
    assert cut.title == "rollout 2: reward 0, not in the loss"
    assert {piece.look for piece in cut.pieces} == {"masked", "observation", "image"}
    assert lost.title == "rollout 4: not scored, not in the loss"
    assert lost.pieces == []
    assert any("it died" in fact for fact in lost.facts)
    assert shown.verdict == "There is something to learn."


def test_the_prompt_is_shown_once(family: Family) -> None:
    parts = read(family, "mask").parts
    assert [any(piece.look == "prompt" for piece in part.pieces) for part in parts] == [True, False, False, False]


def test_on_a_terminal(family: Family) -> None:
    stream = io.StringIO()
    settings = GRPOSettings(problems=1, group=4, batch_size=4)
    Console(file=stream, width=120, color_system=None).print(preview(group_of(family), family, settings, limit=80))
    text = stream.getvalue()
    assert "rollout 1: reward 1.5, advantage +1.155" in text  # (1.5 - .5) / (.8660 + .0001)
    assert "result 1 · format 1" in text
    assert "τ 1 in text, 0 in code; code policy: mask" in text
    assert "reference: 7" in text
    assert "\x1b" not in text


@needs_browser
def test_as_a_page(family: Family, tmp_path: Path) -> None:
    settings = GRPOSettings(problems=1, group=4, batch_size=4, code_policy="keep")
    path = write_group_page(group_of(family), family, settings, tmp_path)
    page = path.read_text(encoding="utf-8")
    assert "How &lt;b&gt;many?" in page
    assert "\x1b" not in page
    assert "code in the loss, greedy" in page
    assert group_page(group_of(family), read(family, "keep")) == page
    with open_browser() as browser:
        for scheme in ("light", "dark"):
            tab = open_tab(browser, path.as_uri(), width=390, scheme=scheme)
            assert tab.messages == []
            assert {place: ratio for place, ratio in contrasts(tab).items() if ratio < 4.5} == {}
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390
            tab.close()
