"""Pictures of strangers are opened in another process (`decoding.py`), which is ended where it takes too long."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

import ledits
from ledits.picture.image import Picture
from ledits.server import decoding
from ledits.server.errors import Refused
from ledits.server.settings import Limits

Answer = tuple[dict[str, Any], list[bytes]]
_START = 60  # seconds for a process to start on a machine that is busy
_PAUSE = 0.05  # seconds between two looks at whether an answer is still wanted


def _wanted() -> None:
    """For whoever does not stop before the time is over."""


class Decoder:
    """At most `processes` of them, started when they are needed; safe from any thread."""

    def __init__(self, limits: Limits, processes: int) -> None:
        self._limits, self._processes = limits, processes
        self._free = threading.BoundedSemaphore(processes)
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._lock, self._closed = threading.Lock(), False

    def warm(self) -> None:
        """Start all processes, so that the first pictures need not wait for them."""
        with self._lock:
            started = [_Process(self._limits) for _ in range(self._processes - len(self._all))]
            self._all |= {*started}
        for process in started:
            process.start()
        with self._lock:
            self._idle += started

    def look(self, data: bytes, param: str) -> tuple[int, int]:
        """The width and height that a file's header claims; Refused for what can't be edited here."""
        about, _ = self._ask("look", data, param, _wanted)
        if "refused" in about:
            status, code = (413, "image_too_large") if about["large"] else (400, "invalid_image")
            raise Refused(f"{param} {about['refused']}", status, param=param, code=code)
        width, height = about["size"]
        return width, height

    def read(self, data: bytes, param: str = "image", check: Callable[[], None] = _wanted) -> Picture:
        """The picture in a file; `check` is called while it is decoded, and what it raises ends that. Refused for a
        file that is damaged, or takes longer than it may.
        """
        about, planes = self._ask("read", data, param, check)
        if "error" in about:
            raise Refused(about["error"], param=param, code="invalid_image")
        width, height = about["size"]
        rgb = np.frombuffer(planes[0], np.uint8).reshape(height, width, 3)
        alpha = np.frombuffer(planes[1], np.uint8).reshape(height, width) if len(planes) > 1 else None
        return Picture(rgb, alpha, about["sha256"])

    def recipe(self, data: bytes) -> dict[str, Any] | None:
        """The recipe in a picture's file; None where it carries none that this version reads."""
        about, texts = self._ask("recipe", data, "image", _wanted)
        if "error" in about:
            raise Refused(about["error"], param="image", code="invalid_image")
        return json.loads(texts[0]) if texts else None

    def close(self) -> None:
        """End all processes, whatever they do."""
        with self._lock:
            self._closed = True
            for process in self._all:
                process.kill()
            for process in self._idle:
                process.reap()

    def _ask(self, what: str, data: bytes, param: str, check: Callable[[], None]) -> Answer:
        seconds = self._limits.decode_seconds
        if not self._free.acquire(timeout=seconds):
            raise Refused("too many pictures are being opened: try again later", 503, code="busy", retry_after=5)
        process: _Process | None = None
        try:
            process = self._process()
            answer = process.ask(what, data, seconds, check)
        except TimeoutError:
            raise Refused(
                f"{param} takes longer than {seconds:g} s to open: save it again with another program, as PNG or JPEG",
                param=param, code="invalid_image",
            ) from None  # fmt: skip
        except (EOFError, OSError):
            if self._closed:
                raise Refused("the server is shutting down: try again", 503, code="shutting_down") from None
            # It was ended by the system, for its memory or for a fault in a decoder.
            raise Refused(
                f"{param} can't be opened: save it again with another program, as PNG or JPEG", param=param,
                code="invalid_image",
            ) from None  # fmt: skip
        finally:
            if process is not None:
                with self._lock:
                    if process.alive:
                        self._idle.append(process)
                    else:
                        self._all.discard(process)
            self._free.release()
        return answer

    def _process(self) -> "_Process":
        with self._lock:
            if self._closed:
                raise EOFError
            while self._idle:
                process = self._idle.pop()
                if process.alive:
                    return process
                self._all.discard(process)
            process = _Process(self._limits)
            self._all.add(process)
        process.start()
        return process


class _Process:
    """One process, and the thread that talks to it, so that nobody waits for a pipe."""

    def __init__(self, limits: Limits) -> None:
        names = ("pixels", "side", "aspect", "chunks")
        told = json.dumps({name: value for name, value in asdict(limits).items() if name in names})
        package = str(Path(ledits.__file__).parents[1])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._running = subprocess.Popen(
            [sys.executable, "-P", "-m", "ledits.server.decoding", told], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self._talk = ThreadPoolExecutor(1, "ledits-decoder")
        self.alive = True

    def start(self) -> None:
        """Wait until it is there."""
        self._wait(self._talk.submit(self._answer), _START, _wanted)

    def ask(self, what: str, data: bytes, seconds: float, check: Callable[[], None]) -> Answer:
        """Its answer; TimeoutError where it takes longer, EOFError where it ends instead, and what `check` raises."""
        return self._wait(self._talk.submit(self._answer, what, data), seconds, check)

    def kill(self) -> None:
        self.alive = False
        self._running.kill()

    def reap(self) -> None:
        """Take leave of one that was killed."""
        self._talk.shutdown(wait=True)
        self._running.communicate()

    def _wait(self, answer: "Future[Answer]", seconds: float, check: Callable[[], None]) -> Answer:
        ends = time.monotonic() + seconds
        try:
            while True:
                with suppress(TimeoutError):
                    return answer.result(_PAUSE)
                if time.monotonic() > ends:
                    raise TimeoutError
                check()
        except BaseException:
            self.kill()
            self.reap()
            raise

    def _answer(self, what: str | None = None, data: bytes = b"") -> Answer:
        if what is not None:
            decoding.send(cast(BinaryIO, self._running.stdin), {"what": what}, [data])
        return decoding.receive(cast(BinaryIO, self._running.stdout))
