"""The page while the models are loaded: it is there at once, from the standard library alone."""

import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from ledits.server.policy import HEADERS, POLICY
from ledits.studio import STATIC


class _Handler(SimpleHTTPRequestHandler):
    """The page's files, and that there is no model yet; every connection is closed, so that none is left behind."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".webmanifest": "application/manifest+json"}

    def do_GET(self) -> None:
        if self.path != "/studio.json":
            super().do_GET()
            return
        body = json.dumps({"loading": True}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def list_directory(self, path: object) -> None:
        self.send_error(404)

    def end_headers(self) -> None:
        for name, value in {**HEADERS, "content-security-policy": f"{POLICY}frame-ancestors 'none'"}.items():
            self.send_header(name, value)
        self.send_header("cache-control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def waiting(listening: socket.socket) -> Generator[None]:
    """Serve the page on a socket that listens, until the block ends; the socket stays open for who comes after."""
    server = ThreadingHTTPServer(listening.getsockname()[:2], partial(_Handler, directory=STATIC), False)
    server.socket.close()
    server.socket = listening
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
