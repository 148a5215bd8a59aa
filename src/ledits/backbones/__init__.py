"""Model families behind one contract; `load` finds the right one for a folder, a file or a hub repository."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ledits.asked.loading import Embedding, Loading, Lora
from ledits.backbones.digest import fingerprint
from ledits.files import families, modular
from ledits.files.checkpoints import BUNDLED
from ledits.files.defaults import Defaults
from ledits.method.core import Denoiser, Schedule

__all__ = ["BUNDLED", "DTYPES", "Backbone", "Loading", "fingerprint", "from_pipe", "load", "loaded", "lora_choice"]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Backbone(Protocol):
    """A model family behind four verbs. Prompts, tokens, latents, attention and devices stay on this side."""

    name: str  # what the user asked for
    multiple: int  # sides of pictures must be multiples of it, in pixels
    area: int  # of the pictures it was trained on, in pixels
    defaults: Defaults  # steps, skip, scale, threshold, ... that this checkpoint does best with
    device: torch.device
    dtype: torch.dtype

    @property
    def fingerprint(self) -> str:
        """Of the checkpoint's files, or of a pipeline's weights as they are: an inversion belongs to one."""
        ...

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
    base: str | None = None,
    transformer: str | Path | None = None,
    text_encoder: Sequence[str | Path] = (),
    vae: str | Path | None = None,
    tiny_vae: str | Path | None = None,
    lora: Sequence[str | Lora] = (),
    embedding: Sequence[str | Embedding] = (),
) -> Backbone:
    """The backbone of a checkpoint: "scenes" (bundled), a folder in diffusers' layout, a hub id, or a file.

    device "auto" takes CUDA, then MPS, then the CPU. dtype "auto" is float16 on CUDA, bfloat16 there for transformers,
    which overflow in float16; on a CPU bfloat16 where a UNet of this size is faster in it; else float32. Weights are
    read from safetensors and GGUF files only; of several variants those of 16 bits where it runs in 16 bits, unless
    `variant` names one. `packed`: on an x86 CPU layers and attention are replaced by faster ones (`ledits.pack`); False
    is for whoever puts his own in their place.

    A file (.safetensors, .gguf) holds a whole Stable Diffusion 1.x, 2.x or XL, or the network of another family; `base`
    is then a folder or hub id that has the rest. `transformer` is a file of the network in place of the folder's,
    `text_encoder` files of text encoders, `vae` a file or folder of an autoencoder, `tiny_vae` a small one for
    previews. `lora` are FILE_OR_ID[:WEIGHT], `embedding` textual inversions, FILE[:WORD].

    `offload` keeps parts in the machine's memory while others run: "model", "group" or "sequential", each smaller and
    slower than the one before (diffusers' own). `quantize` holds the weights of the network and its language models in
    8 bits ("int8", "fp8", by torchao) or 4 ("nf4", by bitsandbytes, on CUDA), in each step turned to `dtype`.
    """
    asked = Loading(
        model=model, device=device, dtype=dtype, revision=revision, variant=variant, base=base, offload=offload,
        quantize=quantize, transformer=None if transformer is None else str(transformer),
        text_encoders=tuple(map(str, text_encoder)), vae=None if vae is None else str(vae),
        tiny_vae=None if tiny_vae is None else str(tiny_vae), loras=tuple(map(Lora.of, lora)),
        embeddings=tuple(map(Embedding.of, embedding)),
    )  # fmt: skip
    return loaded(asked, packed=packed)


def loaded(asked: Loading, *, packed: bool = True) -> Backbone:
    """`load`, of what was checked before."""
    from ledits.backbones import loading

    return loading.backbone(asked, packed=packed)


def lora_choice(backbone: Backbone, loras: str) -> Backbone:
    """The same model with some of the LoRAs that it was loaded with; ValueError where it was not loaded with them."""
    if (choosing := getattr(backbone, "choosing", None)) is None:
        raise ValueError(f"LoRAs {loras!r}: this model was loaded without any")
    return choosing(loras)


def from_pipe(pipe: Any) -> Backbone:
    """The backbone of a diffusers pipeline, whose parts are neither moved nor cast: offload, quantisation and adapters
    that it was set up with go on working. ValueError for one of no family that is known.
    """
    kind = type(pipe).__name__
    family, known = families.find(kind, f"a pipeline of {kind}")
    index = modular.told(kind, pipe.config)
    made = known.load().backbone(
        pipe.components, pipe.scheduler.config, name=kind, fingerprint="", index=index,
        device=torch.device(pipe._execution_device),
    )  # fmt: skip
    made.made_of = family, pipe.components, index
    return made
