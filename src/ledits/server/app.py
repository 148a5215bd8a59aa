"""The application: every endpoint behind the gate, refusals in one form, and the page where there is one."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import ledits
from ledits.editor import Editor
from ledits.server import addresses, inversions, keep, lasting, openai, seeing
from ledits.server.errors import Refused, RefusedBody
from ledits.server.gate import Gate, preflight
from ledits.server.manual import STYLE, manual
from ledits.server.schemas import refusal
from ledits.server.service import Service
from ledits.server.settings import Settings


def create(settings: Settings, editors: Mapping[str, Editor], page: ASGIApp | None = None) -> tuple[ASGIApp, Service]:
    """The application and its service; `page` answers what nothing else does.

    The service has a thread and a folder: end it with `close()`.
    """
    service = Service(settings, editors)
    app = FastAPI(
        title="ledits", version=ledits.__version__, docs_url=None, redoc_url=None,
        description="Change a real picture with words. Errors are {error: {message, type, param, code}}.",
    )  # fmt: skip
    app.include_router(openai.router(service))
    app.include_router(inversions.router(service))
    app.include_router(keep.router(service))
    app.include_router(seeing.router(service))
    app.include_router(lasting.router(service))
    app.include_router(addresses.router(service.addresses))
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)

    @app.get("/healthz", tags=["server"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["server"])
    async def readyz() -> Response:
        """Whether it takes work: 503 while it is going down, where a job does not end, and where none could be kept."""
        status = "closing" if service.jobs.closing else service.jobs.trouble
        if status is None and not await run_in_threadpool(lambda: service.store.well):
            status = "store"
        return JSONResponse({"status": status or "ready"}, 503 if status else 200)

    @app.get("/metrics", tags=["server"])
    async def metrics() -> Response:
        """Counts and seconds for Prometheus."""
        return service.metrics.page()

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(manual(app.openapi()))

    @app.get("/docs/style.css", include_in_schema=False)
    async def style() -> Response:
        return Response(STYLE, media_type="text/css")

    if settings.tools:
        from ledits.mcp.folders import Folders
        from ledits.mcp.serving import OverHTTP

        app.router.routes.append(Route("/mcp", OverHTTP(service, Folders(settings.tools))))
    if page is not None:
        app.mount("/", page)
    behind: ASGIApp = lasting.Lasting(app, service)
    if settings.origins:
        behind = CORSMiddleware(behind, **preflight(settings.origins))
    return Gate(behind, settings, service.metrics), service


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


async def _failed(request: Request, error: Exception) -> Response:
    """What nobody foresaw; the gate logs it."""
    identifier = request.state.id
    return Refused(f"the server failed, and has noted why under request {identifier}", 500).response()


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors: list[Any] = list(error.errors())
    return refusal(errors).response()


async def _http(request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself: an unknown path, a wrong method, a form that can't be parsed."""
    assert isinstance(error, HTTPException)
    if isinstance(error, RefusedBody):
        return error.refused.response()
    headers = dict(error.headers or {})
    said = {
        404: f"there is nothing at {request.url.path[:200]}: see /docs",
        405: f"this address takes {headers.get('Allow', 'other methods')} and no {request.method[:20]}",
    }
    message = said.get(error.status_code, str(error.detail))
    answer = Refused(message, error.status_code, code="not_found" if error.status_code == 404 else None).response()
    answer.headers.update(headers)
    return answer
