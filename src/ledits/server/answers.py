"""A job's answer, as events while it runs or as one JSON object at its end.

Pictures lie in answers. They are put into JSON on a thread and in pieces, so that no other request waits for that: the
interpreter puts a string into JSON in one go, in which no other thread runs.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from typing import Any, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ledits.server.errors import Refused
from ledits.server.jobs import Event, Job, follow
from ledits.server.service import Service

PIECE = 2**20  # letters that are put into JSON at once

Shape = Callable[[Event], Event | None]  # an event as the client gets it; None leaves it out


def wants_events(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


async def as_events(
    service: Service, job: Job, request: Request, shape: Shape, told: Mapping[str, str] | None = None
) -> Response:
    """Server-sent events, with the headers `told`. A refusal before the first is an ordinary answer with its status."""
    events = follow(service.jobs, job, request.is_disconnected)
    first = await anext(events, None)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no", "x-ledits-job": job.id, **(told or {})}
    return StreamingResponse(_lines(first, events, shape), media_type="text/event-stream", headers=headers)


async def _lines(first: Event | None, events: AsyncGenerator[Event], shape: Shape) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            for piece in await run_in_threadpool(_line, shape(first)):
                yield piece
        async for event in events:
            for piece in await run_in_threadpool(_line, shape(event)):
                yield piece
    except Refused as refused:
        for piece in _line(("error", refused.body())):
            yield piece
    finally:
        await events.aclose()


def _line(event: Event | None) -> list[bytes]:
    return [] if event is None else [f"event: {event[0]}\ndata: ".encode(), *pieces(event[1]), b"\n\n"]


async def as_json(body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that may be large."""
    written = await run_in_threadpool(pieces, body)
    length = {"content-length": str(sum(map(len, written)))}
    return StreamingResponse(_each(written), media_type="application/json", headers={**(headers or {}), **length})


async def _each(written: list[bytes]) -> AsyncIterator[bytes]:
    for piece in written:
        yield piece


def pieces(value: Any) -> list[bytes]:
    """A value as JSON, no piece of it much longer than a MiB."""
    found, texts, letters = list[bytes](), list[str](), 0
    for text in _texts(value):
        texts.append(text)
        letters += len(text)
        if letters >= PIECE:
            found.append("".join(texts).encode())
            texts, letters = [], 0
    return [*found, "".join(texts).encode()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and len(value) > PIECE:
        yield '"'
        for k in range(0, len(value), PIECE):
            yield json.dumps(value[k : k + PIECE])[1:-1]
        yield '"'
    elif isinstance(value, dict):
        for k, (name, each) in enumerate(cast(dict[str, Any], value).items()):
            yield f"{', ' if k else '{'}{json.dumps(name)}: "
            yield from _texts(each)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        for k, each in enumerate(cast(list[Any], value)):
            yield ", " if k else "["
            yield from _texts(each)
        yield "]" if value else "[]"
    else:
        yield json.dumps(value)


async def as_one(service: Service, job: Job, request: Request) -> list[Event] | None:
    """All events of a job, the last of them its result; None where the client left."""
    events = [event async for event in follow(service.jobs, job, request.is_disconnected)]
    return events if events and events[-1][0] == "done" else None


def left() -> Response:
    """For nobody: the client has gone."""
    return Response(status_code=499)


async def answer(service: Service, job: Job, request: Request, shape: Callable[[dict[str, Any]], Any]) -> Response:
    """Events where the client accepts them, else the last one's data, as `shape` makes it."""
    if wants_events(request):
        return await as_events(service, job, request, lambda event: event)
    events = await as_one(service, job, request)
    return left() if events is None else await as_json(shape(events[-1][1]), {"x-ledits-job": job.id})
