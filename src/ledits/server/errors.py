"""Refusals as OpenAI's clients read them: {"error": {message, type, param, code}}, one sentence each."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

_LONGEST = 1000  # letters of a sentence: what clients sent is quoted in it
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refused(Exception):
    """A request that isn't carried out, and why."""

    def __init__(
        self, message: str, status: int = 400, *, param: str | None = None, code: str | None = None,
        retry_after: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.message, self.param = _plain(message), None if param is None else _plain(param)
        self.status, self.code, self.retry_after = status, code, retry_after

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


class RefusedBody(HTTPException):
    """A refusal while a body is read: an HTTPException, so that parsers of bodies let it through."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.status, refused.message)
        self.refused = refused


def _plain(text: str) -> str:
    """A text that any answer and any log can hold, in one line, whatever a client put into it."""
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
