"""The one way in which the studio says no."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """A request is not answered, and why. Every place that raises one names the way out."""

    def __init__(self, status: int, code: str, message: str, **facts: Any) -> None:
        """Say no.

        Args:
            status: HTTP status.
            code: Reason for programs, e.g. ``leased``.
            message: Reason for people.
            **facts: More for programs, sent beside the code.
        """
        super().__init__(message)
        self.status, self.code, self.message, self.facts = status, code, message, facts

    def body(self) -> dict[str, Any]:
        """As it is sent."""
        return {"error": {"code": self.code, "message": self.message, **self.facts}}


def missing(what: str) -> Refusal:
    """Of something that is not there."""
    return Refusal(404, "not_found", f"there is no such {what}")
