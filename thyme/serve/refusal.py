"""The one way in which the agent server says no, in the shape that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError


class Refusal(Exception):
    """A request is not answered, and why. Every place that raises one names the way out."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Say no.

        Args:
            status: HTTP status.
            message: Reason for people.
            code: Reason for programs and for the metric, e.g. ``queue_full``.
            param: Field of the request that is at fault, if one is.
            retry_after_s: When it is worth asking again, seconds.
        """
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.param, self.retry_after_s = param, retry_after_s

    @property
    def type(self) -> str:
        """OpenAI's class of errors that the status belongs to."""
        known = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
        return known.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Headers beside the body."""
        headers = {} if self.retry_after_s is None else {"retry-after": f"{self.retry_after_s:.0f}"}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.status in {408, 413}:  # the rest of the body is not worth reading
            headers["connection"] = "close"
        return headers


def misaddressed(error: RequestValidationError) -> Refusal:
    """The refusal of an address whose path or query is not of its form."""
    fault = error.errors()[0]
    name = ".".join(map(str, fault["loc"][1:]))
    return Refusal(400, f"{name}: {fault['msg'][:300]}", code="invalid_value", param=name)
