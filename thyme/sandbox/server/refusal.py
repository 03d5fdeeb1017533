"""The one way in which the server says no."""

from __future__ import annotations

from collections.abc import Sequence


class Refusal(Exception):
    """A request is not served, and why. Every place that raises one names the way out."""

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: float | None = None, missing: Sequence[int] = ()
    ) -> None:
        """Say no.

        Args:
            status: HTTP status.
            code: Reason for programs and for the metric, e.g. ``no_place``.
            message: Reason for people.
            retry_after_s: When it is worth asking again, seconds.
            missing: Inputs, from 0, whose bytes are needed.
        """
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_after_s, self.missing = retry_after_s, tuple(missing)
