"""A real server on a free port, over a backbone that answers at once: for the tests of `ledits serve`."""

import asyncio
import base64
import io
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch
import uvicorn
from PIL import Image
from starlette.types import ASGIApp
from torch import Tensor

from ledits.editor import Editor
from ledits.files.defaults import Defaults
from ledits.method.core import Prompt, Schedule
from ledits.server.app import create
from ledits.server.run import protocol, serve
from ledits.server.service import Service
from ledits.server.settings import Limits, Settings


class Instant:
    """A backbone whose latents are the pixels, and whose network moves them towards a colour that the prompt has.

    `hold`: a lock that the network waits for at each call. `delay`: seconds that each call takes.
    """

    name, fingerprint, multiple, area = "instant", "0" * 64, 8, 64 * 64
    defaults = Defaults(
        steps=6, skip=0.2, add_scale=6.0, add_threshold=0.5, remove_scale=4.0, remove_threshold=0.5,
        swap_new_scale=5.0, swap_new_threshold=0.5, swap_old_scale=1.0, swap_old_threshold=0.5, described_scale=2.0,
        described_skip=0.1,
    )  # fmt: skip
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self) -> None:
        self.hold, self.delay = threading.Lock(), 0.0
        self.calls = 0

    def schedule(self, steps: int, skip: float, height: int, width: int) -> Schedule:
        sigma = torch.linspace(1 - skip, 0.02, steps + 1).mul(0.95).tolist()
        return Schedule(tuple(s * 1000 for s in sigma[:-1]), tuple((1 - s * s) ** 0.5 for s in sigma), tuple(sigma))

    def encode(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 4)

    def decode(self, x: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(x, scale_factor=4).clamp(-1, 1)

    @contextmanager
    def denoiser(
        self, schedule: Schedule, *, maps: bool, watch: Callable[[int], None] | None = None
    ) -> Generator["_Network"]:
        yield _Network(self, maps, watch)


class _Network:
    precision = 1e-6

    def __init__(self, backbone: Instant, maps: bool, watch: Callable[[int], None] | None) -> None:
        self.evaluations, self._backbone, self._maps, self._watch = 0, backbone, maps, watch

    def __call__(self, x: Tensor, levels: Sequence[int], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor | None]:
        with self._backbone.hold:
            self._backbone.calls += 1
        time.sleep(self._backbone.delay)
        self.evaluations += len(prompts) * x.shape[0] * x.shape[1]
        colours = [np.random.default_rng(sum(map(ord, str(p)))).uniform(-0.5, 0.5, 3) for p in prompts]
        moved = [0.9 * x + 0.1 * torch.tensor(c, dtype=torch.float32).view(3, 1, 1) for c in colours]
        if self._watch:
            self._watch(self.evaluations)
        shape = (len(prompts), *x.shape[:2], *x.shape[-2:])
        return torch.stack(moved), torch.rand(shape, generator=torch.Generator().manual_seed(0)) if self._maps else None


@dataclass
class Served:
    """A running server, seen from outside and from inside."""

    address: str
    service: Service
    backbone: Instant
    loop: asyncio.AbstractEventLoop

    def client(self, key: str = "") -> httpx2.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.address, headers=headers, timeout=30)


@contextmanager
def served(
    folder: Path, *, limits: Limits | None = None, editors: Mapping[str, Editor] | None = None,
    page: Callable[[Mapping[str, Editor]], ASGIApp] | None = None, **settings: Any,
) -> Generator[Served]:  # fmt: skip
    """A server in this process until the block ends."""
    backbone = Instant()
    editors = editors or {"instant": Editor(backbone)}
    app, service = create(
        Settings(folder=folder, limits=limits or Limits(), **settings), editors, page and page(editors)
    )
    config = uvicorn.Config(
        app, port=0, http=protocol(service.limits), lifespan="off", log_config=None, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", service, backbone, server.servers[0].get_loop())
    finally:
        service.close()
        server.should_exit = True
        thread.join()


def png(seed: int = 0, width: int = 32, height: int = 24, alpha: bool = False) -> bytes:
    """A picture of noise, as the bytes of a PNG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4 if alpha else 3), dtype=np.uint8)
    return saved(Image.fromarray(pixels))


def saved(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def decoded(b64: str) -> np.ndarray[Any, Any]:
    """The pixels of a picture in JSON."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64))))


if __name__ == "__main__":
    # python serving.py FOLDER SECONDS: the real process, each call of the network taking so long.
    slow = Instant()
    slow.delay = float(sys.argv[2])
    serve(
        Settings(folder=Path(sys.argv[1]), port=0),
        {"instant": Editor(slow)},
        started=lambda at: print(at, flush=True),
    )
