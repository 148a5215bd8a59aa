"""A job's answer, as events while it runs or as one JSON object at its end."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ledits.server.errors import Refused
from ledits.server.jobs import Event, Job, follow
from ledits.server.service import Service

Shape = Callable[[Event], Event | None]  # an event as the client gets it; None leaves it out


def wants_events(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


async def as_events(service: Service, job: Job, request: Request, shape: Shape) -> Response:
    """Server-sent events. A refusal before the first of them is an ordinary answer with its own status."""
    events = follow(service.jobs, job, request.is_disconnected)
    first = await anext(events, None)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no", "x-ledits-job": job.id}
    return StreamingResponse(_lines(first, events, shape), media_type="text/event-stream", headers=headers)


async def _lines(first: Event | None, events: AsyncGenerator[Event], shape: Shape) -> AsyncIterator[str]:
    try:
        if first is not None:
            yield _line(shape(first))
        async for event in events:
            yield _line(shape(event))
    except Refused as refused:
        yield _line(("error", refused.body()))
    finally:
        await events.aclose()


def _line(event: Event | None) -> str:
    return "" if event is None else f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n"


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
    return left() if events is None else JSONResponse(shape(events[-1][1]), headers={"x-ledits-job": job.id})
