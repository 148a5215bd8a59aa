"""Masks with diffusers' numbers, for whoever must compare with its LEDITS++; ours are `core.implicit_mask`."""

from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ledits.method import core
from ledits.method.core import Concept, MaskRule, Schedule

Upsampling = Literal["bilinear", "nearest"]


def mask(rule: MaskRule, schedule: Schedule, upsampling: Upsampling, noise_mask_below: float | None) -> core.Mask:
    """The mask of `rule`, in which M1 is enlarged as diffusers does (`upsampling` "nearest") and M2 takes part only at
    times up to `noise_mask_below`, 800 in diffusers' Stable Diffusion pipeline (method.md A.7).
    """
    attend = _blocks if upsampling == "nearest" else partial(core.implicit_mask, rule="attention")

    def shape(i: int, psi: Tensor, attention: Tensor | None, concept: Concept) -> Tensor:
        early = noise_mask_below is not None and schedule.t[i] > noise_mask_below
        if rule in ("noise", "none"):
            return core.implicit_mask(i, psi, attention, concept, rule)
        m1 = attend(i, psi, attention, concept)
        if rule == "attention" or early:
            return m1
        return m1 * core.implicit_mask(i, psi, attention, concept, "noise")

    return shape


def _blocks(i: int, psi: Tensor, attention: Tensor | None, concept: Concept) -> Tensor:
    """M1 (b h w) thresholded at the resolution of the maps, so that its edges are as coarse as they are."""
    if attention is None:
        raise ValueError("an attention mask needs attention maps, and the denoiser records none")
    maps = core.smooth(attention.float()[:, None])[:, 0]
    blocks = core.quantile_mask(maps, concept.threshold, maps.new_ones(1).expand_as(maps))
    whole = core.implicit_mask(i, psi, None, concept, "none")  # the concept's region
    return F.interpolate(blocks[:, None], psi.shape[-2:])[:, 0] * whole
