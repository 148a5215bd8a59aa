"""Model families behind one contract; `load` finds the right one for a folder or a hub repository."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ledits.backbones import hub
from ledits.backbones.digest import fingerprint
from ledits.errors import LeditsError
from ledits.files import checkpoints
from ledits.files.checkpoints import BUNDLED
from ledits.method.core import Denoiser, Schedule

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Backbone(Protocol):
    """A model family behind four verbs. Prompts, tokens, latents, attention and devices stay on this side."""

    name: str  # what the user asked for
    fingerprint: str  # of the checkpoint's files: an inversion belongs to one
    multiple: int  # sides of pictures must be multiples of it, in pixels
    area: int  # of the pictures it was trained on, in pixels
    defaults: Mapping[str, float]  # steps, skip, scale, threshold, ... that this checkpoint does best with
    device: torch.device
    dtype: torch.dtype

    def schedule(self, steps: int, skip: float, height: int, width: int) -> Schedule:
        """`steps` noise levels below the noisiest share `skip`, for pictures of height x width pixels."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Latents (b c h w) fp32 of images (b 3 H W) in -1..1; the mode of the encoder's distribution."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Images (b 3 H W) fp32 in -1..1 of latents (b c h w)."""
        ...

    def denoiser(
        self, schedule: Schedule, *, maps: bool, watch: Callable[[int], None] | None = None
    ) -> AbstractContextManager[Denoiser]:
        """The network, recording attention maps inside the block if asked to; it leaves no trace after it.

        `watch` is told the evaluations so far after each batch; an exception that it raises stops the work.
        """
        ...


def load(
    model: str = BUNDLED,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    packed: bool = True,
    offload: str | None = None,
    variant: str | None = None,
    quantize: str | None = None,
    transformer: str | Path | None = None,
) -> Backbone:
    """The backbone of a checkpoint in diffusers' layout: "scenes" (bundled), a folder, or a hub repository's id.

    device "auto" takes CUDA, then MPS, then the CPU. dtype "auto" is float16 on CUDA, bfloat16 there for transformers,
    which overflow in float16; on a CPU bfloat16 where a UNet of this size is faster in it; else float32. Weights are
    read from safetensors files only. `packed`: on an x86 CPU layers and attention are replaced by faster ones
    (`ledits.pack`); False is for whoever puts his own in their place.
    `offload` keeps parts in the machine's memory while others run: "model", "group" or "sequential", each smaller and
    slower than the one before (diffusers' own). `variant` is of weights files, such as "bf16"; one is downloaded.
    `quantize` holds the weights of the network and its language models in 8 bits ("int8", "fp8", by torchao) or 4
    ("nf4", by bitsandbytes, on CUDA), in each step turned to `dtype`. `transformer` is a .gguf or .safetensors file of
    it, in place of the folder's.
    """
    where = device_named(device)
    if dtype not in ("auto", *DTYPES):
        raise ValueError(f"dtype {dtype!r}: auto, {', '.join(DTYPES)} are accepted")
    special = (offload, variant, quantize, transformer) != (None,) * 4
    if special:
        from ledits.backbones import large

        large.check(where, offload, quantize, transformer)
    found, file = checkpoints.find(model), None if transformer is None else Path(transformer)
    folder = found or hub.download(model, revision, variant, without_transformer=file is not None)
    index = checkpoints.index(folder, model)
    variant = variant or hub.only_variant(folder)
    if special or variant or index["_class_name"] in checkpoints.BY_PIPELINE:
        from ledits.backbones import families

        usual = torch.bfloat16 if where.type == "cuda" else torch.float32
        return families.read(
            folder, index, name=model, fingerprint=fingerprint(folder, variant=variant, beside=file), device=where,
            dtype=DTYPES.get(dtype, usual), offload=offload, variant=variant, quantize=quantize, transformer=file,
        )  # fmt: skip
    from ledits.backbones import checkpoint
    from ledits.cpu import precision

    read = checkpoint.stable_diffusion_xl if "XL" in index["_class_name"] else checkpoint.stable_diffusion
    kind = DTYPES[dtype] if dtype != "auto" else precision.best(where, checkpoint.width(folder))
    return read(folder, index, name=model, fingerprint=fingerprint(folder), device=where, dtype=kind, packed=packed)


def from_pipe(pipe: Any) -> Backbone:
    """The backbone of a diffusers pipeline, whose parts are neither moved nor cast: offload, quantisation and adapters
    that it was set up with go on working. ValueError for one of no family that is known.
    """
    from ledits.backbones import families

    return families.from_pipe(pipe)


def device_named(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "mps", "cuda"):
            raise RuntimeError
    except RuntimeError:
        raise ValueError(f"device {name!r}: auto, cpu, mps, cuda and cuda:N are accepted") from None
    if (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    ):
        raise LeditsError(
            f"device {name!r} is not there, as this PyTorch sees no {device.type.upper()} device",
            "use device='cpu'", option="device", given=name, accepted="auto, cpu",
        )  # fmt: skip
    return device
