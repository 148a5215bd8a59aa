"""What the pipelines return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from diffusers.utils.outputs import BaseOutput
from PIL import Image
from torch import Tensor

from ledits.backbones.state import State
from ledits.backbones.texts import Text as PromptEmbedding
from ledits.method.core import Inversion


@dataclass
class LEditsPPDiffusionPipelineOutput(BaseOutput):
    """Edited pictures, and what led to them."""

    images: Any
    """As `output_type` says: list of PIL pictures, array (b H W 3) or tensor (b 3 H W) in 0..1, latents (b c h w)."""
    nsfw_content_detected: list[bool] | None
    masks: Tensor | None = None
    """(T k b h w) in 0..1: where each edit acted at each step."""
    sem_guidance: list[Tensor] | None = None
    """T tensors (b c h w): what the edits added to the network's output at each step, for `sem_guidance` again."""
    attention_maps: Tensor | list[Tensor] | None = None
    """(k b h' w'), averaged over `attn_store_steps`, or a list with one for each of them."""
    network_evaluations: int = 0
    """Samples that went through the network, those of a repeated prediction of the path included."""


@dataclass(frozen=True)
class Conditioning:
    """What the network is given beside the picture and the edits; a replay is exact under the inversion's own."""

    source: str | Sequence[str] = ""
    source_scale: float = 3.5
    negative: str | Sequence[str] | PromptEmbedding | tuple[PromptEmbedding, ...] = ""
    negative_2: str | Sequence[str] | None = None
    attention: Mapping[str, Any] | None = None
    clip_skip: int | None = None
    crop: tuple[int, int] = (0, 0)
    target: tuple[int, int] | None = None
    caption: str | Sequence[str] | None = None
    """What edits start from, in caption mode (`ledits.method.caption`); None in keyword mode, the paper's."""

    def __post_init__(self) -> None:
        if self.caption is None:
            return
        if not any([self.caption] if isinstance(self.caption, str) else self.caption):
            raise ValueError("caption is empty: say what the picture shows, or leave it out for edits by keywords")
        if self.source or self.negative or self.negative_2:
            raise ValueError(
                "caption goes with neither source_prompt nor negative_prompt: edits start from the caption instead"
            )


@dataclass(eq=False)
class LEditsPPInversionPipelineOutput:
    """Inverted pictures; give it to a pipeline's call as `inversion`, as often as you like and from any thread."""

    images: list[Image.Image]
    """The pictures as they were inverted: cropped and resized where that was asked for."""
    inversion: Inversion
    sizes: list[tuple[int, int]]
    """(H, W) of each picture in pixels; the inversion covers them padded to one size."""
    network_evaluations: int
    zero_noise_steps: int = 0
    conditioning: Conditioning = field(default_factory=Conditioning, repr=False)
    decode: Callable[[Tensor], list[Image.Image]] | None = field(default=None, repr=False)
    state: State | None = field(default=None, repr=False)
    """What the network was when it predicted along the path."""

    @cached_property
    def vae_reconstruction_images(self) -> list[Image.Image]:
        """The pictures after a turn through the autoencoder, decoded when first asked for.

        Raises ValueError after unpickling, unless they were decoded before: a pipeline is not pickled.
        """
        if self.decode is None:
            raise ValueError(
                "this inversion was pickled without its pipeline: use pipe(inversion=inversion).images, or ask for "
                "vae_reconstruction_images before pickling"
            )
        return self.decode(self.inversion.x[-1].float())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "decode": None}  # it holds the whole pipeline

    @property
    def init_latents(self) -> Tensor:
        """(b c h w), the noisiest level."""
        return self.inversion.x[0]

    @property
    def zs(self) -> Tensor:
        """(T b c h w), the noise maps z of Eq. 7; zero where the solver adds no noise, or was told not to."""
        s = self.inversion.schedule
        keep = len(s) - self.zero_noise_steps
        return torch.stack(
            [self.inversion.residual(i) / s.std(i) if s.std(i) > 0 and i < keep else torch.zeros_like(self.init_latents)
             for i in range(len(s))]
        )  # fmt: skip
