"""What a request is refused with: a status, and one line in the envelope that clients of OpenAI know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
"""The `type` of an error by its status; all others are the server's."""


@final
class RefusedError(Exception):
    """A request that gets no answer. `param` names what of it was wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    def envelope(self) -> dict[str, Any]:
        kind = KINDS.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def wrong(param: str | None, message: str, code: str | None = None) -> RefusedError:
    """What is refused because of what it asks for."""
    return RefusedError(400, message, param=param, code=code)
