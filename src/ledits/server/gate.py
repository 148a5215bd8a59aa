"""What stands before every request: its host, its origin, its key, and how much it may send and for how long.

Plain ASGI, because a limit on a body has to act while the body arrives, whoever reads it.
"""

import asyncio
import json
import logging
import re
import secrets
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledits.server.errors import Refused, RefusedBody
from ledits.server.metrics import Metrics
from ledits.server.policy import HEADERS, POLICY
from ledits.server.settings import Settings, owner

log = logging.getLogger("ledits.serve")

_SAID = 4096  # bytes of a refusal, for the log
_DROPPED = 64 * 2**20  # bytes of a body that are taken after the answer
_HOST = re.compile(r"([^:\[\]]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?")
_OPEN = ("/healthz", "/readyz")  # without a key
_GUARDED = ("/v1", "/mcp", "/metrics", "/docs", "/openapi.json")


class Gate:
    """The application behind these checks."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._open = 0
        framed = " ".join(settings.frames) or "'none'"
        self._headers = {**HEADERS, "content-security-policy": f"{POLICY}frame-ancestors {framed}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers, started, lingers = Headers(scope=scope), False, False
        identifier = f"req_{secrets.token_hex(12)}"

        async def answer(message: Message) -> None:
            nonlocal started, lingers
            if message["type"] == "http.response.start":
                started = True
                answered = MutableHeaders(scope=message)
                answered.update({**self._headers, "x-request-id": identifier})
                if not await body.drained():
                    # What still comes is nobody's any more.
                    answered["connection"], lingers = "close", True
                self._metrics.requests.labels(str(message["status"])).inc()
            elif lingers and not message.get("more_body", False):
                # The answer is out before the connection ends: closed on what was not read, it would take that along.
                await send({**message, "more_body": True})
                await body.dropped(_DROPPED)
                message = {"type": "http.response.body"}
            await send(message)

        said = bytearray()

        async def logged(message: Message) -> None:
            """One line for each refusal, with what was said."""
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            elif status >= 400 and len(said) < _SAID:
                said.extend(message.get("body", b"")[:_SAID])
                if not message.get("more_body", False):
                    line = {"request": identifier, "status": status, "method": scope["method"],
                            "path": str(scope["path"])[:200], "said": _sentence(bytes(said))}  # fmt: skip
                    log.info("%s", json.dumps(line))
            await answer(message)

        status = 0
        body = _Body(receive, self._settings, headers, str(scope["path"]))
        self._open += 1
        state: dict[str, Any] = scope.setdefault("state", {})
        state["id"] = identifier
        try:
            state["owner"] = self._checked(scope, headers)
            body.announced()
            await self._app(scope, body.receive, logged)
        except (Refused, RefusedBody) as error:
            refused = error.refused if isinstance(error, RefusedBody) else error
            if not started:
                await refused.response()(scope, receive, logged)
        except Exception:
            log.exception("request %s failed", identifier)
            if not started:
                message = f"the server failed, and has noted why under request {identifier}"
                await Refused(message, 500).response()(scope, receive, logged)
        finally:
            self._open -= 1
            if form := state.get("form"):
                await form.close()

    def _checked(self, scope: Scope, headers: Headers) -> str:
        """The owner that the request acts for; raises Refused."""
        settings, path = self._settings, str(scope["path"])
        if self._open > settings.limits.requests:
            raise Refused("too many requests are open: try again later", 503, code="busy", retry_after=5)
        host = headers.get("host", "")
        if settings.names and _name(host) not in {name.lower() for name in settings.names}:
            # A foreign page whose own name resolves to this machine (DNS rebinding).
            raise Refused(
                f"this server is not called {_name(host)[:100]!r}: ask for it by its address, or name it with "
                "--allow-host",
                421, code="wrong_host",
            )  # fmt: skip
        if settings.demo and path == "/metrics":
            raise Refused("a demo tells nobody its numbers", 404, code="not_found")
        origin = headers.get("origin")
        if origin and origin not in settings.origins and origin.split("://")[-1] != host:
            raise Refused(
                "pages of other sites may not use this server: it can be started with --allow-origin",
                403, code="wrong_origin",
            )  # fmt: skip
        if not settings.keys or path in _OPEN or not path.startswith(_GUARDED) or scope["method"] == "OPTIONS":
            return ""
        given = headers.get("authorization", "")
        key = given[7:].strip() if given[:7].lower() == "bearer " else ""
        # In constant time, as a key could be found letter by letter otherwise.
        # A header is bytes, which Starlette reads as Latin-1; a key is UTF-8.
        if not any(secrets.compare_digest(key.encode("latin-1"), known.encode()) for known in settings.keys):
            raise Refused(
                "the API key is wrong: send one of this server's as 'Authorization: Bearer KEY'" if key
                else "an API key is needed: send it as 'Authorization: Bearer KEY'",
                401, code="invalid_api_key",
            )  # fmt: skip
        return owner(key)


class _Body:
    """A request's body as it arrives, within its bytes and its seconds."""

    def __init__(self, receive: Receive, settings: Settings, headers: Headers, path: str) -> None:
        limits = settings.limits
        self._receive, self._headers, self._seconds = receive, headers, limits.upload_seconds
        form = headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"
        pictured = path == "/v1/images/edits"
        self._most = limits.upload_bytes if form else limits.picture_json_bytes if pictured else limits.json_bytes
        self._so_far, self._whole = 0, False
        self._deadline: float | None = None

    def announced(self) -> None:
        """Refuse at once what says that it is too large."""
        length = self._headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._most:
            raise self._large()

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        loop = asyncio.get_running_loop()
        self._deadline = self._deadline or loop.time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise RefusedBody(
                Refused(f"the request took longer than {self._seconds:g} s to arrive: send it again", 408, code="slow")
            ) from None
        if message["type"] == "http.request":
            self._so_far += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._so_far > self._most:
                raise RefusedBody(self._large())
        return message

    async def drained(self) -> bool:
        """Whether all of the body is in; some more of it is taken first, as who still sends would miss the answer."""
        if self._deadline is None and self._headers.get("expect", "").lower() == "100-continue":
            return False  # it would be sent for nothing
        await self.dropped(self._most)
        return self._whole

    async def dropped(self, left: int) -> None:
        """Take so many bytes at most, for two seconds, until the body is in or the client has gone."""
        try:
            async with asyncio.timeout(min(2, self._seconds)):
                while not self._whole and left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        except TimeoutError:
            pass

    def _large(self) -> Refused:
        return Refused(
            f"the request is larger than the {self._most:,} bytes that this server takes: send a smaller picture",
            413, code="too_large",
        )  # fmt: skip


def _name(host: str) -> str:
    """A Host header without its port; all of it where that is none."""
    found = _HOST.fullmatch(host)
    return (found[1] if found else host).lower()


def _sentence(body: bytes) -> str:
    """The sentence of a refusal."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")


def preflight(origins: Iterable[str]) -> dict[str, Any]:
    """The arguments of Starlette's CORS middleware for the origins that were asked for."""
    return {"allow_origins": list(origins), "allow_methods": ["GET", "POST", "DELETE"], "allow_headers": ["*"]}
