"""Requests whose answers outlive the connection: `Prefer: respond-async`, and `Idempotency-Key`.

Plain ASGI around the endpoints, so that each of them can be asked in this way and none of them knows. The request is
read whole, it is answered in a task of its own, and whoever waits for the answer, now or later, has it from the record.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from fastapi import APIRouter, Request
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledits.server.errors import Refused
from ledits.server.jobs import asking
from ledits.server.records import Record, Records
from ledits.server.service import Service

log = logging.getLogger("ledits.serve")

_KEY = 255  # letters of an idempotency key
_SPOOL = 2**20  # bytes of a request that are kept in memory
_CHUNK = 2**16
_ALIVE = 15.0  # seconds between two signs of life to whoever listens


class Lasting:
    """The application behind it, whose answers may be kept."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._records = app, service, service.records
        self._tasks = set[asyncio.Task[None]]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        later, key = _later(headers), headers.get("idempotency-key")
        posted = scope.get("method") == "POST" and str(scope["path"]).startswith("/v1/")
        if not posted or not (later or key is not None):
            await self._app(scope, receive, send)
            return
        if key is not None and not (0 < len(key) <= _KEY and key.isprintable()):
            raise Refused(f"Idempotency-Key: 1 to {_KEY} printable letters are needed", code="invalid_value")
        sent = SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115 the task closes it
        try:
            if not await _read(receive, sent):
                sent.close()
                return
            digest = await run_in_threadpool(_digest, sent, scope, headers)
            record, again = self._records.new(scope["state"]["owner"], str(scope["path"]), key or "", digest)
        except BaseException:
            sent.close()
            raise
        if again:
            sent.close()
        else:
            task = asyncio.create_task(self._answer(record, scope, sent))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # Who leaves lets the job be: that is what was asked for.
        telling, leaving = (
            asyncio.create_task(self._tell(record, later, again, send)),
            asyncio.create_task(_left(receive)),
        )
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        finally:
            telling.cancel()
            leaving.cancel()

    async def _answer(self, record: Record, scope: Scope, sent: IO[bytes]) -> None:
        """Carry the request out, and keep its answer."""
        state: dict[str, Any] = dict(scope["state"])

        async def receive() -> Message:
            if sent.closed:
                await asyncio.Event().wait()  # nobody leaves
            if data := await run_in_threadpool(sent.read, _CHUNK):
                return {"type": "http.request", "body": data, "more_body": True}
            sent.close()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.code = int(message["status"])
                record.headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in message.get("headers", [])]
            elif record.chunks is not None and (data := message.get("body", b"")):
                record.chunks.append(bytes(data))
            record.changed()

        asking.set(record)
        try:
            await self._app({**scope, "state": state}, receive, send)
        except Exception:
            log.exception("request %s failed", state["id"])
        finally:
            # Also where the server ends, which cancels what still runs.
            sent.close()
            if record.begun:
                self._records.settle(record)
            else:
                self._records.drop(record)
            if form := state.get("form"):
                await form.close()

    async def _tell(self, record: Record, later: bool, again: bool, send: Send) -> None:
        """The answer as it comes, or where to ask for it, to one who waits."""
        while later and not (record.begun or record.over):
            await record.news()
        if later and record.begun:
            shown, wait = self._records.shown(record), self._service.jobs.retry_after()
            headers = {"location": f"/v1/jobs/{record.id}", "preference-applied": "respond-async", **_again(again)}
            headers |= {} if record.over else {"retry-after": str(wait)}
            await _send(JSONResponse(shown, 202, headers), send)
            return
        chunks = record.chunks
        if chunks is None:
            await _send(await run_in_threadpool(self._whole, record, again), send)
            return
        while not (record.code or record.over):
            await record.news()
        if not record.code:
            raise Refused("the server is shutting down: try again", 503, code="shutting_down", retry_after=5)
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in record.headers]
        raw += [(name.encode(), value.encode()) for name, value in _again(again).items()]
        await send({"type": "http.response.start", "status": record.code, "headers": raw})
        told, over = 0, False
        while not over:
            over, now = record.over, len(chunks)
            for chunk in chunks[told:now]:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            told = now
            if not record.over and len(chunks) == told:
                await record.news()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _whole(self, record: Record, again: bool) -> Response:
        return whole(self._records, record, _again(again))


def whole(records: Records, record: Record, more: Mapping[str, str]) -> Response:
    """A kept answer, as it was given first."""
    if record.kept.status == "stopped":
        raise Refused("the server ended before this job was done: ask again", 410, code="stopped")
    response = Response(records.body(record), record.code)
    answered = MutableHeaders(raw=response.raw_headers)
    for name, value in [*record.headers, *more.items()]:
        answered[name] = value
    return response


def router(service: Service) -> APIRouter:
    """What became of requests that outlive their connection."""
    routes = APIRouter(tags=["jobs"])
    records = service.records

    @routes.get("/v1/jobs")
    async def listed(request: Request) -> dict[str, Any]:
        """The kept jobs that were asked with the caller's key, the newest first; none in a demo, which has no keys."""
        return {"jobs": [] if service.settings.demo else records.listed(request.state.owner)}

    @routes.get("/v1/jobs/{id}")
    async def one(id: str, request: Request) -> dict[str, Any]:
        """A job that was asked with `Prefer: respond-async` or an `Idempotency-Key`, and its latest step.

        `status` is running, done, failed, cancelled, or stopped: the server ended first, and nothing runs it again.
        """
        return records.shown(records.find(id, request.state.owner))

    @routes.get("/v1/jobs/{id}/result")
    async def result(id: str, request: Request) -> Response:
        """The very answer that the request would have had; 202 with the job while it runs."""
        record = records.find(id, request.state.owner)
        if not record.over:
            return JSONResponse(records.shown(record), 202, {"retry-after": str(service.jobs.retry_after())})
        return await run_in_threadpool(whole, records, record, {})

    @routes.get("/v1/jobs/{id}/events")
    async def events(id: str, request: Request) -> Response:
        """The latest step whenever there is a new one, as server-sent events, and at the end the event `end`."""
        lines = _lines(records, records.find(id, request.state.owner))
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(lines, media_type="text/event-stream", headers=headers)

    @routes.delete("/v1/jobs/{id}")
    async def cancel(id: str, request: Request) -> dict[str, Any]:
        """Stop a job before its next step, as closing its connection does; or forget one that is over."""
        try:
            job = service.jobs.find(id, request.state.owner)
        except Refused:
            record = records.find(id, request.state.owner)
            while not record.over:  # its answer is being written
                await record.news()
            records.forget(id)
            return {"deleted": id}
        service.jobs.cancel(job)
        return {"cancelled": id}

    return routes


async def _lines(records: Records, record: Record) -> AsyncIterator[str]:
    told = 0
    while not record.over:
        if record.latest is not None and record.told > told:
            told = record.told
            yield f"event: {record.latest[0]}\ndata: {json.dumps(record.latest[1])}\n\n"
            continue
        try:
            await asyncio.wait_for(record.news(), _ALIVE)
        except TimeoutError:
            yield ": it waits or runs\n\n"
    yield f"event: end\ndata: {json.dumps(records.shown(record))}\n\n"


def _later(headers: Headers) -> bool:
    preferred = ",".join(headers.getlist("prefer")).lower()
    return "respond-async" in [each.partition(";")[0].strip() for each in preferred.split(",")]


def _again(again: bool) -> dict[str, str]:
    return {"idempotent-replayed": "true"} if again else {}


async def _read(receive: Receive, sent: IO[bytes]) -> bool:
    """Take a request's body; False where the client left before its end."""
    while (message := await receive())["type"] == "http.request":
        await run_in_threadpool(sent.write, message.get("body", b""))
        if not message.get("more_body", False):
            return True
    return False


def _digest(sent: IO[bytes], scope: Scope, headers: Headers) -> str:
    """What makes two requests the same: what they ask where, in whose form; but not a form's boundary, made anew."""
    kind, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    events = "text/event-stream" in headers.get("accept", "")
    found = hashlib.sha256(repr((scope["path"], scope.get("query_string"), kind, events)).encode())
    sent.seek(0)
    left = b""
    while chunk := sent.read(_CHUNK):
        data = left + chunk
        if boundary:
            data = data.replace(boundary, b"")
        kept = max(0, len(data) - len(boundary))  # one that begins in this chunk may end in the next
        found.update(data[:kept])
        left = data[kept:]
    found.update(left)
    sent.seek(0)
    return found.hexdigest()


async def _left(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(response: Response, send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": bytes(response.body)})
