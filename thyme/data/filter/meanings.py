"""What steps and reasons mean, in words for the report."""

from __future__ import annotations

from typing import Final

STEPS: Final = {
    "read": "is the row a problem with whole pictures",
    "resolution": "are the pictures as large as asked for",
    "answer": "can a rule tell right from wrong",
    "language": "is it asked in a wanted language",
    "benchmarks": "is it from what models are measured on",
    "duplicates": "does an earlier one ask the same",
    "difficulty": "is the model right sometimes, and not always",
    "balance": "are there enough of its category",
}
REASONS: Final = {
    "damaged_row": "the row is no object, or not as wide as its header",
    "missing_field": "it has no question, or half a character",
    "image_damaged": "a picture is no picture, cut off, or larger than max_pixels",
    "image_missing": "a picture is not where the row says",
    "bad_box": "its box is none, or outside of the picture",
    "bad_record": "what was written beside the published columns is damaged",
    "no_picture": "it shows nothing",
    "many_pictures": "it shows more than max_images",
    "small": "no side is longer than min_side, or one is shorter than min_short",
    "narrow": "a picture is more than max_ratio times as long as it is wide",
    "large_target": "the box takes more than max_share",
    "no_answer": "there is no reference",
    "no_option": "the reference is none of the options",
    "answer_kind": "answers of this kind are not asked for",
    "long_answer": "it could be said in many ways",
    "not_verifiable": "the rules do not even find the reference right",
    "language": "another language",
    "language_undecided": "too short to tell the language",
    "benchmark_picture": "its picture is one of a benchmark's, or nearly",
    "benchmark_question": "it asks without a picture what a benchmark asks",
    "duplicate": "the same question about the same pixels",
    "near_duplicate": "the same question about nearly the same picture",
    "unmeasured": "rollouts failed; the same command asks again",
    "all_wrong": "never answered right",
    "all_right": "always answered right",
    "too_hard": "answered right less often than low",
    "too_easy": "answered right more often than high",
    "category": "shares leave its category out",
    "surplus": "its category has enough",
}
