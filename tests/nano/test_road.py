"""The training road with a few steps a stage: what it leaves, what it skips, what it refuses."""

from dataclasses import replace

import pytest
import torch

from thyme.errors import UsageError
from thyme.families import load_family
from thyme.markup import ANSWER_CLOSE
from thyme.nano import CHECKPOINTS
from thyme.nano.perception.rows import Encoder
from thyme.nano.perception.views import make_pool
from thyme.nano.train import SMOKE, STAGES, GateError, Road
from thyme.nano.tuning import direct_row, drawn_ids, load_for_training, matmul_attention, replay
from thyme.nano.world import problem
from thyme.prompts import PromptSet
from thyme.store import read_trajectories
from thyme.train.encode import encode_turns

TINY = replace(SMOKE, views=40, held_out_views=30, demonstrations=10, replayed=4)


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    torch.set_num_threads(1)
    work = tmp_path_factory.mktemp("road")
    (work / "tokenizer.json").write_bytes((CHECKPOINTS / "base" / "tokenizer.json").read_bytes())
    lines = []
    made = Road(work, TINY, lines.append, compile=False)
    made.run()
    made.lines = lines
    return made


def test_every_stage_leaves_its_result(road):
    for stage in STAGES:
        assert road.result(stage).exists(), stage
    for name in ("base", "final", "direct"):
        family = load_family(road.work / name)
        assert family.seen_size(1024, 1024) == (128, 128)
        assert (road.work / name / "prompts" / "user.txt").is_file()
    assert (road.work / "final/prompts/user.txt").read_text() != (road.work / "base/prompts/user.txt").read_text()


def test_only_the_language_half_is_tuned_and_the_vision_half_stays(road):
    from safetensors.torch import load_file

    base, final, direct = (load_file(road.work / name / "model.safetensors") for name in ("base", "final", "direct"))
    assert base.keys() == final.keys() == direct.keys()
    for name, tensor in base.items():
        if "visual" in name:
            assert torch.equal(tensor, final[name]), name
            assert torch.equal(tensor, direct[name]), name
    assert any(not torch.equal(tensor, final[name]) for name, tensor in base.items())
    assert any(not torch.equal(final[name], tensor) for name, tensor in direct.items())


def test_what_is_there_is_not_done_again(road):
    before = {stage: road.result(stage).stat().st_mtime_ns for stage in STAGES}
    lines = []
    Road(road.work, TINY, lines.append, compile=False).run()
    assert lines == [f"{stage}: there already" for stage in STAGES]
    assert before == {stage: road.result(stage).stat().st_mtime_ns for stage in STAGES}


def test_demonstrations_go_on_where_they_stopped(road):
    path = road.work / "demonstrations.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:4]))
    Road(road.work, TINY, lambda _: None, compile=False).run("demonstrations")
    ids = [t.id for t in read_trajectories(path, images=False)]
    assert sorted(ids) == sorted(name for name, _ in drawn_ids(TINY.demonstrations, TINY.seed))
    assert path.read_text().startswith("".join(whole.splitlines(keepends=True)[:4]))


def test_a_gate_that_is_not_reached_stops_the_road(road, tmp_path):
    strict = replace(TINY, gates={"tower": ("character", 1.01)})
    blocked = Road(tmp_path, strict, lambda _: None, compile=False)
    blocked.__dict__ |= {"pool": road.pool, "held_out": road.held_out}
    with pytest.raises(GateError, match="tower reached character"):
        blocked.run()
    assert not blocked.result("tower").exists()
    assert (tmp_path / "tower.below-gate.pt").exists()


def test_a_stage_without_what_it_builds_on_says_so(road, tmp_path):
    with pytest.raises(UsageError, match="'polish' has to be done first"):
        Road(tmp_path, TINY, lambda _: None).run("sft")


def test_the_trainer_feeds_the_base_what_it_was_trained_on(road):
    """Chat template, prompt files and tokenizer put together give the very ids of the perception stages."""
    family = load_family(road.work / "base")
    shown = problem("train", 0, 0, "zoom")
    turns = [(shown.question, " red K7"), ("Where is the red plate?", " red (640, 320)")]
    ours = Encoder(road.tokenizer).conversation(turns, 0)
    system, user = PromptSet.load(road.work / "base" / "prompts").render(shown, [(128, 128)])
    theirs = encode_turns([(user, turns[0][1]), turns[1]], shown.images, family, system=system)
    assert theirs.ids.tolist() == ours.ids
    assert theirs.loss_mask.tolist() == ours.trained


def test_replay_and_direct_rows_train_answers_only(road):
    family = load_family(road.work / "base")
    pool = make_pool(road.work, "train", TINY.seed, TINY.views, 1)
    for row in replay(pool, family, "Look and answer.", 6, 0):
        text = family.decode(row.ids[row.loss_mask].tolist())
        assert text
        assert "<image>" not in family.decode(row.ids.tolist())
        assert len(row.images) == 1
    shown = next(t for t in read_trajectories(road.work / "demonstrations.jsonl") if t.problem.kind == "zoom")
    row = direct_row(shown, family, "Look and answer.")
    assert family.decode(row.ids[row.loss_mask].tolist()) == f"<answer>{shown.problem.answer}{ANSWER_CLOSE}"


def test_the_fast_attention_gives_the_same_logits(road):
    model = load_for_training(road.work / "base").eval()
    plain = type(model).from_pretrained(road.work / "base", dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(10, 500, (3, 40), generator=torch.Generator().manual_seed(0))
    attended = torch.ones_like(ids)
    attended[1, 30:] = 0
    with torch.no_grad():
        ours, theirs = (m(input_ids=ids, attention_mask=attended).logits for m in (model, plain))
    kept = attended.bool()
    assert (ours[kept] - theirs[kept]).abs().max() < 0.03 * theirs[kept].abs().max()
    q = torch.randn(1, 2, 5, 8)
    changed = q.clone()
    changed[:, :, -1] += 1
    early, late = (matmul_attention(model, q, k, k, None)[0] for k in (q, changed))
    assert torch.equal(early[:, :-1], late[:, :-1])
    assert not torch.equal(early[:, -1], late[:, -1])
