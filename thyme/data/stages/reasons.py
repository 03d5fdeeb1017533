"""Why generate, execute and check reject a draft; docs/data_teachers.md gives each its meaning."""

from __future__ import annotations

from typing import Final

NO_ANSWER: Final = "no_answer"
MALFORMED: Final = "malformed"
INVENTED_OUTPUT: Final = "invented_output"
CUT_OFF: Final = "cut_off"
TOO_MANY_ROUNDS: Final = "too_many_rounds"
REFUSED: Final = "refused"
REQUEST_REFUSED: Final = "request_refused"
CONTEXT_FULL: Final = "context_full"
IMAGE_REFUSED: Final = "image_refused"
UNANSWERED: Final = "unanswered"
ERROR_IN_CODE: Final = "error_in_code"
SANDBOX_LIMIT: Final = "sandbox_limit"
OUTPUT_CUT: Final = "output_cut"
NO_OUTPUT: Final = "no_output"
DOES_NOT_FIT: Final = "does_not_fit"
CODE_NOT_NEEDED: Final = "code_not_needed"
CODE_MISSING: Final = "code_missing"
NO_VERDICT: Final = "no_verdict"

REASONS: Final[dict[str, str]] = {
    NO_ANSWER: "a turn ended with neither a block of code nor an answer, or the answer is empty",
    MALFORMED: "the whole breaks the grammar of thyme.markup; the note says how",
    INVENTED_OUTPUT: "the teacher wrote what only the sandbox writes, without a block before it",
    CUT_OFF: "a turn reached its bound on tokens",
    TOO_MANY_ROUNDS: "the teacher wanted to run one more block than max_rounds",
    REFUSED: "the model or its provider declined to answer this",
    REQUEST_REFUSED: "the server does not take this request, and takes others; the note has its words",
    CONTEXT_FULL: "the conversation does not fit into the model's context",
    IMAGE_REFUSED: "the server does not take a picture as it is",
    UNANSWERED: "the server failed at this request time and again while it answered others",
    ERROR_IN_CODE: "a block failed, and the scenario corrects no errors; or the last block failed",
    SANDBOX_LIMIT: "a block was ended for its time or memory",
    OUTPUT_CUT: "a block printed or saved more than the sandbox hands back",
    NO_OUTPUT: "a block ran and gave neither text nor a picture",
    DOES_NOT_FIT: "the check says that what the code gave does not fit the question or the reasoning",
    CODE_NOT_NEEDED: "the check says that the code was not needed",
    CODE_MISSING: "the check says that code is needed, and there is none",
    NO_VERDICT: "the check gave no verdict of the form asked for, after all repetitions",
}
"""Meaning by reason."""
