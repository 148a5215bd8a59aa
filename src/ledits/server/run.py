"""`ledits serve` as a process: uvicorn started, and an end that loses nothing and does not wait for ever."""

import asyncio
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ledits.editor import Editor
from ledits.server.app import create
from ledits.server.errors import Refused
from ledits.server.listening import address, listen
from ledits.server.service import Service
from ledits.server.settings import Limits, Settings

_FAREWELL = 1  # seconds for answers to be sent, once the server has nothing else to do
_REPEATED = 10.0  # seconds before the same complaint is logged again
_SPARE = 64  # descriptors for everything but connections and their files

log = logging.getLogger("ledits.serve")


def protocol(limits: Limits) -> type[H11Protocol]:
    """HTTP/1.1 with a deadline for the head of every request, and so many connections at once and no more."""

    class PatientProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                log.warning("more connections than the %d that this server holds: they are closed", limits.connections)
                self._refuse(Refused("too many connections are open: try again later", 503, code="busy", retry_after=5))
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._deadline is not None:
                self._deadline.cancel()

        def handle_events(self) -> None:
            super().handle_events()
            self._watch()

        def send_400_response(self, msg: str) -> None:
            self._refuse(Refused("this is no HTTP request", code="invalid_request"))

        def _watch(self) -> None:
            """Begin the time for a head where one is awaited, and end it where one is there.

            A connection that was asked on and is silent now is uvicorn's to close.
            """
            awaited = self.cycle is None or bool(self.conn.trailing_data[0])  # pyright: ignore[reportUnnecessaryComparison]
            if self.conn.their_state is not h11.IDLE or not awaited:
                if self._deadline is not None:
                    self._deadline.cancel()
                    self._deadline = None
            elif self._deadline is None:
                self._deadline = self.loop.call_later(limits.head_seconds, self.transport.close)

        def _refuse(self, refused: Refused) -> None:
            """Answer what never became a request, and hang up."""
            body = json.dumps(refused.body()).encode()
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            if refused.retry_after is not None:
                headers.append(("retry-after", str(refused.retry_after)))
            try:
                for event in (
                    h11.Response(status_code=refused.status, headers=headers), h11.Data(data=body), h11.EndOfMessage()
                ):  # fmt: skip
                    self.transport.write(self.conn.send(event) or b"")
            except h11.LocalProtocolError:
                pass  # it came after an answer had begun
            self.transport.close()

    return PatientProtocol


class _Server(uvicorn.Server):
    """uvicorn, which on a first signal gives the job in hand some seconds, and answers what comes with 503."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service, self._seconds = service, service.limits.leave_seconds
        self._leaving: float | None = None  # since when
        self._hurried = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Only noted here: a lock may not be waited for in a signal's handler.
        if self._leaving is None:
            self._leaving = time.monotonic()
            last = threading.Timer(self._seconds + _FAREWELL + 2, _end, [self._service])
            last.daemon = True
            last.start()
        else:
            self._hurried = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._leaving is not None:
            jobs = self._service.jobs
            jobs.drain()
            late = self._hurried or time.monotonic() > self._leaving + self._seconds
            if late:
                self._service.hurry()
            self.should_exit = late or (jobs.idle and self._service.records.idle)
        return await super().on_tick(counter)


def _end(service: Service) -> None:
    """The last resort: a step of a large network, or a library, that nothing can stop.

    Its caller was told so, and nothing is half written: this end was asked for, and is no failure.
    """
    log.warning("the job in hand does not stop: the process ends without it")
    service.abandon()
    os._exit(0)


def serve(
    settings: Settings, editors: Mapping[str, Editor], *, page: ASGIApp | None = None,
    started: Callable[[str], None] | None = None, listening: socket.socket | None = None,
) -> None:  # fmt: skip
    """Answer until SIGTERM or SIGINT, with these models by name; `started` is told the address.

    `listening`: a socket that listens already.

    ValueError for a store that can't be used, a port that is taken, or a system that allows too few open files.
    """
    _descriptors(settings.limits)
    with listening or listen(settings.host, settings.port) as listening:
        app, service = create(settings, editors, page)
        config = uvicorn.Config(
            app, http=protocol(settings.limits), log_config=None, access_log=False, server_header=False,
            proxy_headers=False, lifespan="off", timeout_graceful_shutdown=_FAREWELL, timeout_keep_alive=20,
            h11_max_incomplete_event_size=64 * 1024,
        )  # fmt: skip
        _log_to_stderr()
        service.warm()
        if started is not None:
            started(address(listening, settings.host))
        try:
            _Server(config, service).run(sockets=[listening])
        finally:
            service.close()


def _descriptors(limits: Limits) -> None:
    """Let the process open a file for each connection, and those of the requests on them."""
    if sys.platform == "win32":
        return
    import resource

    needed = limits.connections + limits.files * limits.requests + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"the system lets a process open {hard} files and this server needs {needed}: ulimit -n {needed}"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class OneLine(logging.Formatter):
    """A record is one line; what a client put into it can't look like another, and a traceback is set in."""

    def format(self, record: logging.LogRecord) -> str:
        first, *more = super().format(record).splitlines() or [""]
        lines = [first, *(f"    {line}" for line in more)]
        return "\n".join("".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines)


class Seldom(logging.Filter):
    """The same complaint at most every ten seconds; lines of jobs and requests, whose format is "%s", each time."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, text = time.monotonic(), str(record.msg)
        if text == "%s" or record.exc_info or now - self._said.get(text, -_REPEATED) >= _REPEATED:
            self._said[text] = now
            return True
        return False


def _log_to_stderr() -> None:
    """One line a job and a refusal, as JSON, and what goes wrong; uvicorn's own talk is left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(Seldom())
    levels = {"ledits.serve": logging.INFO, "uvicorn": logging.ERROR, "asyncio": logging.ERROR}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        logger.handlers[:] = [handler]
