"""Bodies of requests: JSON and forms, within their limits before anything is built of them."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from ledits.server.errors import Refused, RefusedBody
from ledits.server.settings import Limits


class JsonRequest(Request):
    """A request whose JSON is counted before it is parsed, on a thread, and has each field once."""

    limits: Limits

    async def json(self) -> Any:
        try:
            return await run_in_threadpool(parsed, await self.body(), self.limits)
        except Refused as refused:
            raise RefusedBody(refused) from None


def route(limits: Limits) -> type[APIRoute]:
    """The kind of route whose JSON is read in that way."""

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handler(request: Request) -> Response:
                told = JsonRequest(request.scope, request.receive)
                told.limits = limits
                return await handle(told)

            return handler

    return Route


def parsed(body: bytes, limits: Limits) -> Any:
    """The JSON of a body; Refused for what is none, or would cost more to build than its bytes let expect."""
    values = sum(map(body.count, (b",", b"[", b"{", b"\\")))
    if values > limits.json_values:
        raise Refused(
            f"the body has {values:,} values and escapes and this server takes {limits.json_values:,}: send less",
            413, code="too_large",
        )  # fmt: skip
    try:
        value = json.loads(body, object_pairs_hook=_each_once, parse_constant=_no_number)
        _whole(value)
    except RecursionError:
        raise Refused(
            "the body is nested too deeply: no request of this server needs that", code="invalid_json"
        ) from None
    except ValueError:
        # Not UTF-8, no JSON, or a number of thousands of digits.
        raise Refused("the body is no JSON", code="invalid_json") from None
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(f"{twice[:100]} is given more than once", param=twice[:100], code="invalid_value")
    return fields


def _no_number(text: str) -> float:
    raise Refused(f"the body holds {text}, which is no number of JSON", code="invalid_json")


def _whole(value: Any) -> None:
    """Refuse half a character (a lone surrogate), which no file and no answer can hold."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += [*each, *each.values()]  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(each, list):
            left += each  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(each, str):
            try:
                each.encode()
            except UnicodeEncodeError:
                told = "the body holds half a character (a lone surrogate): send whole ones"
                raise Refused(told, code="invalid_json") from None


async def form(request: Request, limits: Limits) -> FormData:
    """A multipart form, whose files the gate closes when the request is over; Refused for a body that is none."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() != b"multipart/form-data":
        raise Refused(
            "the request must be multipart/form-data with the picture's file in it", 415, code="invalid_content_type"
        )
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        # Others cost whoever decodes them more than their bytes, or mean something else there than here.
        raise Refused("a form must be UTF-8: leave the charset out", 415, code="invalid_content_type")
    request.state.form = await request.form(
        max_files=limits.files, max_fields=limits.fields, max_part_size=limits.text_bytes
    )
    return request.state.form
