"""`ledits serve` as a process: uvicorn started, and an end that loses nothing."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Mapping
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ledits.editor import Editor
from ledits.server.app import create
from ledits.server.service import Service
from ledits.server.settings import Settings

_PATIENCE = 30  # seconds for a request's head, and for a client that reads nothing of its answer


class PatientProtocol(H11Protocol):
    """HTTP/1.1, which does not wait for ever for the first request of a connection."""

    patience: float = _PATIENCE

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._asked = False
        self.loop.call_later(self.patience, self._give_up)

    def handle_events(self) -> None:
        super().handle_events()
        self._asked = self._asked or bool(self.cycle)

    def _give_up(self) -> None:
        if not self._asked:
            self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn, which on a first signal lets the job in hand finish and answers what comes meanwhile with 503."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._leaving = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._leaving:
            self.force_exit = True
            self.should_exit = True
        # Only noted here: a lock may not be waited for in a signal's handler.
        self._leaving = True

    async def on_tick(self, counter: int) -> bool:
        if self._leaving and not self._service.jobs.closing:
            self._service.jobs.drain()
        if self._leaving and self._service.jobs.idle:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(
    settings: Settings, editors: Mapping[str, Editor], *, page: ASGIApp | None = None,
    started: Callable[[str], None] | None = None,
) -> None:  # fmt: skip
    """Answer until SIGTERM or SIGINT, with these models by name; `started` is told the address.

    ValueError for a store that can't be used, or a port that is taken.
    """
    with _listening(settings) as listening:
        app, service = create(settings, editors, page)
        config = uvicorn.Config(
            app, http=PatientProtocol, log_config=None, access_log=False, server_header=False, proxy_headers=False,
            lifespan="off", timeout_graceful_shutdown=30, timeout_keep_alive=20,
            h11_max_incomplete_event_size=64 * 1024,
        )  # fmt: skip
        _log_to_stderr()
        service.warm()
        if started is not None:
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            started(f"http://{host}:{listening.getsockname()[1]}")
        try:
            _Server(config, service).run(sockets=[listening])
        finally:
            service.close()


def _listening(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        raise ValueError(
            f"port {settings.port} of {settings.host} can't be listened on ({error.strerror}): choose another --port, "
            "or a --host of this machine"
        ) from None
    if sys.platform == "linux":
        # An answer that nobody takes is given up: its bytes would lie in memory for as long as the client likes.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _PATIENCE * 1000)
    return listening


def _log_to_stderr() -> None:
    """One line a job, as JSON, and what goes wrong; uvicorn's own talk is left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("ledits.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        logger.handlers[:] = [handler]
