"""diffusers' own LEDITS++ pipeline on our networks, changed only where it can't run at all.

Three things stand between it and the bundled model: it takes the mode of an AutoencoderKL's distribution, which a tiny
autoencoder doesn't have, it asks that autoencoder for a sample size, and it repeats masks over 4 channels where the
latents have 8. What else is wrong with it stays: with transformers 5 it counts padding as words, so that its attention
masks are of everything but the first and the last token, and its maps have a quarter of the latents' side, 4x4 cells
here. It mixes up the pictures of a batch, so one at a time goes through it.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import FrozenDict
from diffusers.pipelines.ledits_pp import pipeline_leditspp_stable_diffusion
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor, nn

from ledits.backbones.latent_unet import LatentUNet
from ledits.backbones.stable_diffusion import ClipPrompts
from ledits.method.core import Concept

published: Any = pipeline_leditspp_stable_diffusion  # its types are too narrow for what is passed here
CHANNELS = 4  # that the published code repeats masks over


class _Latents(nn.Module):
    """An autoencoder that holds the latents already; the pictures that come and go are blanks."""

    def __init__(self, backbone: LatentUNet, x0: Tensor) -> None:
        super().__init__()
        self.x0, self.device = x0, x0.device
        blocks = (1,) * len(backbone.vae.config.block_out_channels)
        self.config = FrozenDict(scaling_factor=1.0, sample_size=1 << 20, block_out_channels=blocks)

    def encode(self, _blank: Tensor) -> SimpleNamespace:
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: self.x0))

    def decode(self, x: Tensor, return_dict: bool, generator: object) -> tuple[Tensor]:  # noqa: ARG002
        return (torch.zeros(len(x), 3, 32, 32),)


def edit(
    backbone: LatentUNet,
    x0: Tensor,
    concepts: Sequence[Concept],
    *,
    steps: int,
    skip: float,
    seed: int,
    final_sigma: str,
) -> tuple[Tensor, Tensor, int]:
    """One picture's latents (1 c h w) edited, where the edits acted (1 h w) in 0..1, and the network evaluations.

    `final_sigma` is "zero" as the pipeline is built for every checkpoint of Stable Diffusion, which name none, or
    "sigma_min", which mends its inversion.
    """
    evaluations = 0

    def count(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal evaluations
        evaluations += len(inputs[0])

    with _pipeline(backbone, x0, final_sigma) as pipe:
        handle = backbone.unet.register_forward_pre_hook(count)
        try:
            generator = torch.Generator().manual_seed(seed)
            blank = torch.zeros(1, 3, 64, 64)
            pipe.invert(image=blank, num_inversion_steps=steps, skip=skip, generator=generator)
            x = pipe(
                editing_prompt=[str(concept.prompt) for concept in concepts],
                reverse_editing_direction=[concept.scale < 0 for concept in concepts],
                edit_guidance_scale=[abs(concept.scale) for concept in concepts],
                edit_threshold=[concept.threshold for concept in concepts],
                output_type="latent",
            ).images
        finally:
            handle.remove()
        return x, pipe.activation_mask[:, :, :, 0].amax(1).mean(0), evaluations


@contextmanager
def _pipeline(backbone: LatentUNet, x0: Tensor, final_sigma: str) -> Generator[Any]:
    scheduler = DPMSolverMultistepScheduler.from_config(
        {**backbone.scheduler, "final_sigmas_type": final_sigma}, algorithm_type="sde-dpmsolver++", solver_order=2
    )
    prompts = cast("ClipPrompts", backbone.prompts)
    pipe = published.LEditsPPPipelineStableDiffusion(
        _Latents(backbone, x0), prompts.text_encoder, prompts.tokenizer, backbone.unet, scheduler, None, None, False
    )
    pipe.set_progress_bar_config(disable=True)
    processors = dict(backbone.unet.attn_processors)
    repeats = backbone.unet.config.in_channels // CHANNELS
    published.F = SimpleNamespace(pad=F.pad, conv2d=F.conv2d, interpolate=_repeated(repeats))
    try:
        yield pipe
    finally:
        published.F = F
        backbone.unet.set_attn_processor(processors)  # the pipeline leaves its own behind


def _repeated(times: int) -> Callable[[Tensor, Sequence[int]], Tensor]:
    """F.interpolate of masks (b 1 h w), repeated over so many channels that 4 times as many are all of the latents'."""
    return lambda mask, size: F.interpolate(mask, tuple(size)).repeat(1, times, 1, 1)
