"""Prompts: filled in one pass, one placeholder an image, and clear errors for folders that are not prompt folders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from thyme.errors import ConfigError
from thyme.markup import IMAGE, TAGS
from thyme.prompts import FILES, PromptSet
from thyme.types import ImageRecord, Problem

PICTURE = ImageRecord.of(Image.new("RGB", (40, 30)), name="secret_rotated_318.jpg", format="JPEG")


def problem(question="What is it?", images=1, **fields):
    return Problem(id="p", question=question, images=(PICTURE,) * images, **fields)


def folder_of(path, **texts):
    for name in FILES:
        (path / name).write_text(texts.get(name.removesuffix(".txt"), "{{ question }}"), encoding="utf-8")
    return path


def test_the_package_has_its_own_prompts():
    system, user = PromptSet.load().render(problem(), [(20, 15)])
    for tag in TAGS:
        assert (tag in system) == (tag != IMAGE)
    assert "/mnt/data/temp_processed_images" in system
    assert user.count(IMAGE) == 1
    assert "/mnt/data/input/image_1.jpg" in user
    assert "40 x 30" in user
    assert "20 x 15" in user
    assert user.endswith("What is it?")


def test_the_seen_size_is_only_named_where_it_differs():
    assert "seen" not in PromptSet.load().render(problem(), [(40, 30)])[1]


def test_nothing_that_gives_the_answer_away_is_shown():
    secret = problem(answer="ANSWER-9", kind="KIND-9", meta={"box": "BOX-9"})
    shown = "".join(PromptSet.load().render(secret, [(40, 30)]))
    assert not any(word in shown for word in ("ANSWER-9", "KIND-9", "BOX-9", "secret", "318"))


def test_a_text_only_problem_has_words_of_its_own():
    system, user = PromptSet.load().render(problem("1+1?", images=0), [])
    assert IMAGE not in user
    assert "no image" in user
    assert system


def test_choices_get_letters():
    user = PromptSet.load().render(problem(choices=("red", "<image>")), [(40, 30)])[1]
    assert "A. red\nB. &lt;image>" in user


def test_too_many_choices_are_refused():
    with pytest.raises(ConfigError, match="27 choices"):
        PromptSet.load().render(problem(choices=("x",) * 27), [(40, 30)])


@given(st.lists(st.sampled_from(["<image>", "{", "}", "{{", "}}", "{% ", " %}", "question", "x", "<|im_end|>"])))
def test_no_question_is_read_as_a_template_or_a_placeholder(parts):
    question = "".join(parts)
    user = PromptSet.load().render(problem("A" + question + "Z", images=2), [(40, 30)] * 2)[1]
    assert user.count(IMAGE) == 2
    assert "<|" not in user
    assert "A" + question.replace("<image>", "&lt;image>").replace("<|", "&lt;|") + "Z" in user


def test_a_folder_may_bring_other_words(tmp_path):
    own = PromptSet.load(
        folder_of(tmp_path, system="S", user="{% for i in images %}<image>{% endfor %} {{ question }}")
    )
    assert own.render(problem(images=2), [(40, 30)] * 2) == ("S", "<image><image> What is it?")
    assert own.fingerprint != PromptSet.load().fingerprint


def test_the_fingerprint_follows_the_words_not_the_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = PromptSet.load(folder_of(tmp_path / "a")), PromptSet.load(folder_of(tmp_path / "b"))
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != PromptSet.load(folder_of(tmp_path / "b", system="other")).fingerprint
    swapped = PromptSet(first.user, "ab", "c"), PromptSet(first.user, "a", "bc")
    assert swapped[0].fingerprint != swapped[1].fingerprint


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"lacks system.txt, user.txt, user_text_only.txt"):
        PromptSet.load(tmp_path / "nowhere")
    (folder_of(tmp_path) / "user.txt").unlink()
    with pytest.raises(ConfigError, match=r"lacks user.txt;"):
        PromptSet.load(tmp_path)


def test_a_file_that_is_no_text_is_an_error(tmp_path):
    (folder_of(tmp_path) / "user.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="cannot be read"):
        PromptSet.load(tmp_path)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"user": "{{ question }}"}, "user.txt of .* places 0 of 1 images"),
        ({"user": "<image><image>"}, "places 2 of 1 images"),
        ({"system": "<image>", "user": "<image>"}, "system.txt .* places an <image>"),
        ({"system": "{{ answer }}"}, "system.txt .* not a usable template: 'answer' is undefined"),
        ({"system": "{% for %}"}, "system.txt .* not a usable template"),
        ({"system": "{{ 1 // 0 }}"}, "system.txt .* not a usable template"),
    ],
)
def test_broken_templates_are_named(tmp_path, texts, message):
    with pytest.raises(ConfigError, match=message):
        PromptSet.load(folder_of(tmp_path, **texts)).render(problem(), [(40, 30)])


def test_a_template_cannot_reach_into_python(tmp_path):
    prompts = PromptSet.load(folder_of(tmp_path, system="{{ question.__class__.__mro__ }}"))
    with pytest.raises(ConfigError, match="unsafe"):
        prompts.render(problem(), [(40, 30)])


def test_seen_sizes_must_match():
    with pytest.raises(ValueError, match="0 seen sizes for 1 images"):
        PromptSet.load().render(problem(), [])
