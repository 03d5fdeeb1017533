"""Why prepare, accept and leaks reject a draft: meaning by reason, as docs/data_scenarios.md lists them."""

from __future__ import annotations

from typing import Final

PREPARE: Final[dict[str, str]] = {
    "lacks_image": "the scenario needs a picture",
    "lacks_text_only": "the scenario is for problems without pictures",
    "lacks_answer": "the scenario needs a reference answer, since nothing else would tell right from wrong",
    "lacks_box": "the scenario needs to know where the target is, and no box has an area inside the picture",
    "no_box": "the same, found while preparing",
    "boxes": "there are several targets, and the scenario is about one",
    "several_images": "there are several pictures, and it would not be said which one is turned or paled",
    "too_large": "the turned picture would have more pixels than the package reads",
    "large_target": "the target fills so much of the picture that nothing is gained by cutting it out",
    "no_room": "nowhere in the picture is a region as large that shows nothing of the target",
}

ACCEPT: Final[dict[str, str]] = {
    "malformed": "the whole breaks the grammar of thyme.markup, or images and their marks differ in number",
    "wrong_answer": "the answer is not the reference",
    "contradiction": "what the reasoning states last is not what is answered",
    "claim": "the text says that the code gave a number, and no such number was printed",
    "code_used": "code ran where none was needed",
    "no_code": "no block ran to its end",
    "answer_before": "the answer stands in the text before any code ran, so that the code is for show",
    "no_image": "the code gave no image back",
    "no_crop": "no image that came back shows a part of the picture",
    "misses_target": "no crop holds nine tenths of the target",
    "loose_crop": "the target lies only in crops that are more than four times its area and a tenth of the picture",
    "one_look": "nothing was cut out in a second block",
    "first_misses": "the wider first look does not hold the target",
    "not_tighter": "no later look holds the target and has at most two thirds of the first one's area",
    "first_right": "the first look, which has to be the wrong one, shows more than three tenths of the target",
    "not_corrected": "after a wrong first look none shows the target",
    "unnoticed": "the text between does not say that the first look shows something else",
    "not_upright": "no image that came back stands within five degrees of the original",
    "not_raised": "no image that came back has twice the contrast that the picture has there",
    "other_picture": "no image that came back shows the picture",
    "nothing_new": "the code printed at most sizes of pictures, and gave no image that is more than a part of one",
    "typed_in": "the code prints what was written into it and works nothing out",
    "unlike_answer": "the code printed nothing that is the answer",
}

LEAKS: Final[dict[str, str]] = {
    "leak_name": "a name of a file, image or variable holds the angle, a box or the answer",
    "leak_comment": "a comment, or a text that stands for itself in code, holds angle, contrast, a box or the answer",
    "leak_prompt": "the stored user turn holds, beside the question, the angle, a box or the answer",
    "leak_told": "words betray that something was told: hints, a ground truth, a given box, a suffix of a file's name",
}

REASONS: Final[dict[str, str]] = {**PREPARE, **ACCEPT, **LEAKS}
"""Meaning by reason, of the three stages."""
