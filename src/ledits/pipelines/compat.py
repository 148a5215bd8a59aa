"""What diffusers' LEDITS++ does otherwise, for those who compare with it: its masks, and steps without noise.

Ours are `core.implicit_mask` and `core.edit`.
"""

from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ledits.method import core
from ledits.method.core import Concept, Inversion, MaskRule, Schedule, Step

Upsampling = Literal["bilinear", "nearest"]


def mask(rule: MaskRule, schedule: Schedule, upsampling: Upsampling, noise_mask_below: float | None) -> core.Mask:
    """The mask of `rule`, in which M1 is enlarged as diffusers does (`upsampling` "nearest") and M2 takes part only at
    times up to `noise_mask_below`, 800 in diffusers' Stable Diffusion pipeline (docs/migration.md).
    """
    attend = _blocks if upsampling == "nearest" else partial(core.implicit_mask, rule="attention")

    def shape(i: int, psi: Tensor, attention: Tensor | None, concept: Concept) -> Tensor:
        early = noise_mask_below is not None and schedule.t[i] > noise_mask_below
        if rule in ("noise", "none"):
            return core.implicit_mask(i, psi, attention, concept, rule)
        m1 = attend(i, psi, attention, concept)
        if rule == "attention" or early:
            return m1
        if rule != "intersect":
            raise ValueError(f"mask rule {rule!r} is none of diffusers': use intersect, attention or noise")
        return m1 * core.implicit_mask(i, psi, attention, concept, "noise")

    return shape


def _blocks(i: int, psi: Tensor, attention: Tensor | None, concept: Concept) -> Tensor:
    """M1 (b h w) thresholded at the resolution of the maps, so that its edges are as coarse as they are."""
    if attention is None:
        raise ValueError("an attention mask needs attention maps, and the denoiser records none")
    maps = core.smooth(attention.float()[:, None])[:, 0]
    region = core.implicit_mask(i, psi, None, concept, "none")
    cells = F.adaptive_max_pool2d(region[:, None], maps.shape[-2:])[:, 0]
    blocks = core.quantile_mask(maps, concept.threshold, cells)
    return F.interpolate(blocks[:, None], psi.shape[-2:])[:, 0] * region


def without_noise(inversion: Inversion, step: Step) -> Tensor:
    """The state (b c h w) that a step reaches without its noise map: diffusers' `num_zero_noise_steps`."""
    return step.x - inversion.residual(step.i)
