"""How the tools are reached: by standard input and output, or by HTTP as a part of `ledits serve`."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import Receive, Scope, Send

from ledits.editor import Editor
from ledits.mcp.folders import Folders
from ledits.mcp.tools import Check, create
from ledits.server.errors import Refused
from ledits.server.jobs import Job, follow
from ledits.server.service import Service


def over_standard_input(editors: Mapping[str, Editor], folders: Folders) -> None:
    """Answer until the caller closes standard input. What is asked for is done one after the other."""
    one = anyio.CapacityLimiter(1)

    async def run(work: Callable[[Check], Any]) -> Any:
        # A caller that gives up stops the work at its next step.
        return await anyio.to_thread.run_sync(work, anyio.from_thread.check_cancelled, limiter=one)

    anyio.run(create(editors, folders, run).run_stdio_async)


class OverHTTP:
    """The tools as an ASGI application, behind the server's gate and in its line of jobs."""

    def __init__(self, service: Service, folders: Folders) -> None:
        async def run(work: Callable[[Check], Any]) -> Any:
            try:
                job = service.jobs.submit("mcp", "", lambda job: _done(work, job))
                events = [event async for event in follow(service.jobs, job, _stays)]
            except Refused as refused:
                raise ValueError(refused.message) from None
            done = events[-1][1]
            if "refused" in done:
                raise done["refused"]
            return done["result"]

        server = create(service.editors, folders, run)
        # The gate has judged Host and Origin.
        open_to_all = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        # An id says which picture is meant, so that no session needs to be kept.
        server.streamable_http_app(transport_security=open_to_all, stateless_http=True)
        self._manager: StreamableHTTPSessionManager = server.session_manager
        self._sessions: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._sessions is None:
            self._sessions = asyncio.create_task(self._run())
        await self._ready.wait()
        await self._manager.handle_request(scope, receive, send)

    async def _run(self) -> None:
        """Keep sessions for as long as the server lives."""
        async with self._manager.run():
            self._ready.set()
            await asyncio.Event().wait()


def _done(work: Callable[[Check], Any], job: Job) -> dict[str, Any]:
    """A job's last event. A refusal goes along as it is: the tools have words of their own for it."""
    try:
        return {"result": work(job.check)}
    except (ValueError, OSError) as error:
        return {"refused": error}


async def _stays() -> bool:
    return False
