"""Pictures under addresses of this server, for clients that ask for `response_format=url`: a few, and for a short time.

Whoever has the address has the picture, without a key, as those who show it have none; nobody can guess it. They are
held in memory and end with the server.
"""

import secrets
import threading
import time
from collections import OrderedDict

from fastapi import APIRouter
from starlette.responses import Response

from ledits.server.errors import Refused
from ledits.server.settings import Limits


class Addresses:
    """The pictures by their names, the oldest first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._held = OrderedDict[str, tuple[float, str, bytes]]()  # until when, of what kind, and the file

    def keep(self, data: bytes, kind: str) -> str:
        """The path that a picture's file is found under from now on."""
        name = f"{secrets.token_urlsafe(32)}.{kind}"
        with self._lock:
            self._held[name] = time.monotonic() + self._limits.address_seconds, kind, data
        self._shrink()
        return f"/pictures/{name}"

    def find(self, name: str) -> tuple[str, bytes]:
        """Its kind and its bytes; 404 where its time is over, or never was."""
        self._shrink()
        with self._lock:
            if name not in self._held:
                raise Refused("there is no such picture: its time is over", 404, code="not_found")
            return self._held[name][1:]

    def _shrink(self) -> None:
        limits, now = self._limits, time.monotonic()
        with self._lock:
            while self._held and (
                next(iter(self._held.values()))[0] <= now
                or len(self._held) > limits.addresses
                or sum(len(data) for _, _, data in self._held.values()) > limits.address_bytes
            ):
                self._held.popitem(last=False)


def router(addresses: Addresses) -> APIRouter:
    """Where the pictures are found."""
    routes = APIRouter(tags=["OpenAI"])

    @routes.head("/pictures/{name}", include_in_schema=False)  # some programs ask what it is before they fetch it
    @routes.get("/pictures/{name}")
    async def picture(name: str) -> Response:
        """A picture of an answer with `response_format=url`; no key is needed."""
        kind, data = addresses.find(name)
        return Response(data, media_type=f"image/{kind}", headers={"cache-control": "private, no-store"})

    return routes
