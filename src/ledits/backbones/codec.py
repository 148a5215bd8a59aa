"""From pictures to what a network works on and back: an autoencoder in parts that memory holds, or nothing at all."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import RLock
from typing import Any, Protocol

import torch
from torch import Tensor

from ledits.backbones import memory
from ledits.backbones.finite import finite

logger = logging.getLogger(__name__)

# An autoencoder that is cast for one picture must not meet another thread's.
_CASTING = RLock()


@contextmanager
def casting() -> Generator[None]:
    """While no autoencoder is cast by another thread."""
    with _CASTING:
        yield


Change = Callable[[Any, Tensor], Tensor]  # (autoencoder, values (b c h w)) -> values


class Codec(Protocol):
    """Pictures (b 3 H W) in -1..1 and latents (b c h w) in fp32."""

    factor: int  # the picture's side over the latents'

    def encode(self, images: Tensor) -> Tensor: ...

    def decode(self, x: Tensor) -> Tensor: ...


class Pixels:
    """The codec of a network that works on pixels."""

    factor = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def encode(self, images: Tensor) -> Tensor:
        return images.to(self.device, torch.float32)

    def decode(self, x: Tensor) -> Tensor:
        return finite(x.float(), "the edited pixels").clamp(-1, 1)


def scaled(vae: Any, z: Tensor) -> Tensor:
    """Latents of unit variance, of what the autoencoder makes of a picture."""
    return (z - (getattr(vae.config, "shift_factor", None) or 0)) * vae.config.scaling_factor


def unscaled(vae: Any, x: Tensor) -> Tensor:
    return x / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0)


class Autoencoder:
    """Latents of a diffusers autoencoder; `inward` and `outward` are the change to unit variance and back.

    `frames`: its tensors are those of a video with one picture, (b c 1 h w).
    """

    def __init__(
        self, vae: Any, device: torch.device, inward: Change = scaled, outward: Change = unscaled, *,
        frames: bool = False,
    ) -> None:  # fmt: skip
        self.vae, self.device, self._inward, self._outward, self._frames = vae, device, inward, outward, frames
        self.factor, self._width = factor(vae), _width(vae)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents (b c h w) fp32 of images (b 3 H W) in -1..1; the mode of the encoder's distribution."""
        with self._cast() as vae:
            parts = list[Tensor]()
            for part in self._fitting(vae, images, images[0, 0].numel()):
                part = part.to(self.device, vae.dtype)
                out = vae.encode(part[:, :, None] if self._frames else part)
                mode: Tensor = (
                    out.latent_dist.mode()
                    if hasattr(out, "latent_dist")
                    else out[0]  # tiny and DC have no distribution
                )
                parts.append(mode[:, :, 0] if self._frames else mode)
            return finite(self._inward(vae, torch.cat(parts).float()), "the picture's latents")

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Images (b 3 H W) fp32 in -1..1 of latents (b c h w)."""
        finite(x, "the edited latents")
        with self._cast() as vae:
            latents = self._outward(vae, x.to(self.device)).to(vae.dtype)
            latents = latents[:, :, None] if self._frames else latents
            pixels = x[0, 0].numel() * self.factor**2
            parts = [vae.decode(part).sample for part in self._fitting(vae, latents, pixels)]
            parts = [part[:, :, 0] for part in parts] if self._frames else parts
            return finite(torch.cat(parts).float(), "the decoded pictures").clamp(-1, 1)

    def _fitting(self, vae: Any, batch: Tensor, pixels: int) -> Generator[Tensor]:
        """The batch in as large parts as memory holds; where one picture is too much, the autoencoder works in tiles.

        It holds about eight tensors of its first level's width and the picture's size (measured on SD's: 5 and 7.4).
        """
        need, free = 8 * self._width * pixels * vae.dtype.itemsize, memory.free(self.device)
        before = getattr(vae, "use_tiling", None)
        if tiled := need > free and before is False:
            logger.warning("the picture does not fit into memory at once: the autoencoder works in tiles")
            vae.use_tiling = True
        try:
            yield from batch.split(max(1, free // 2 // need))
        finally:
            if tiled:
                vae.use_tiling = before

    @contextmanager
    def _cast(self) -> Generator[Any]:
        """The autoencoder, in fp32 inside the block where it would overflow in fp16 (SDXL's does, and says so)."""
        if not getattr(self.vae.config, "force_upcast", False):
            yield self.vae
            return
        # Its precision is read under the lock: another thread may have it cast at this moment.
        with _CASTING:
            if self.vae.dtype != torch.float16:
                yield self.vae
                return
            self.vae.to(torch.float32)
            try:
                yield self.vae
            finally:
                self.vae.to(torch.float16)


def factor(vae: Any) -> int:
    """The picture's side over the latents': each level but one halves it."""
    config = vae.config
    for name in ("block_out_channels", "encoder_block_out_channels", "dim_mult"):  # KL; DC; Qwen's
        if (levels := getattr(config, name, None)) is not None:
            return 2 ** (len(levels) - 1)
    raise ValueError(f"autoencoder {type(vae).__name__}: its size is not known")


def _width(vae: Any) -> int:
    """Channels of its first level."""
    config = vae.config
    for name in ("block_out_channels", "encoder_block_out_channels"):
        if (levels := getattr(config, name, None)) is not None:
            return int(levels[0])
    return int(config.base_dim)
