"""Edits of a picture whose caption is known: each acts in one region, found before anything is edited.

Beyond the paper. Its masks are found anew in each step, from one noisy prediction, out of a threshold that has to be
guessed, and what is outside them may drift. Here the inversion's base prompt is the picture's caption, so that one
network answer a step says both what is there and what is kept; an edit is the caption with that edit alone; and where
the two predict different pictures along the exact path, all levels asked in batches, is where the edit belongs (the
idea of DiffEdit, Couairon et al. 2022, which has neither the path nor a threshold of its own). No attention maps are
needed. Outside the regions the replay stays on the path. Axes are core.py's.
"""

from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.method import core
from ledits.method.core import Concept, Denoiser, Inversion, Prompt, Step

# Only every second level is asked where an edit belongs, and every sixth whose place one is: as good as all of them on
# scenes (LOG.md). What a thing is shows at the less noisy levels.
_STRIDE = 2
_RARELY = 3


class Beside(NamedTuple):
    """What captions say of the things of a picture, for concepts' regions to be told apart.

    One of each for a concept, but for `stays`, which has one for a thing. The base prompt itself says nothing,
    be it for all pictures or for one of them.
    """

    apart: Sequence[Prompt]  # the caption without the things that the region keeps clear of
    own: Sequence[Prompt]  # of the thing that the concept changes and nothing else, in every place
    goes: Sequence[Hashable]  # whether things go and nothing takes their place; a tuple has one for each picture
    stays: Sequence[Prompt]  # of a thing that no concept changes and nothing else, in every place


@dataclass(frozen=True)
class Known:
    """How far what the network predicts for a prompt is from what it does for the base prompt, (l b h w)."""

    often: dict[Prompt, Tensor] = field(default_factory=dict)
    rarely: dict[Prompt, Tensor] = field(default_factory=dict)


def locate(
    denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept], beside: Beside | None = None,
    known: Known | None = None,
) -> list[Concept]:  # fmt: skip
    """Each concept with its detected region, (b 1 h w) in 0..1, clipped to any given region.

    Each concept's prompt is the caption with its edit alone, and the inversion's base prompt is the caption itself. A
    threshold is the share of the given region left alone; None finds it by Otsu's method. Where two regions meet, the
    smaller one has the place to itself: an object that changes on a background that does.

    With `beside` a region keeps clear of what a picture and the same without its things (`apart`) disagree about, and
    of each region that changes a thing there is left what that thing's own caption predicts better than those of
    all the others, be they changed or not. What goes has one cell more about it: its edge and its light go as well.

    `known` remembers what the network was asked, so that it is asked once.
    """
    if not concepts:
        return []
    known, base = known or Known(), inversion.base_prompt
    nothing = [base] * len(concepts)
    beside = beside or Beside(nothing, nothing, [False] * len(concepts), [])
    levels = list(range(0, len(inversion.schedule), _STRIDE))
    asked = [*(concept.prompt for concept in concepts), *(prompt for prompt in beside.apart if prompt != base)]
    _ask(denoise, inversion, levels, asked, known.often)
    # Means of plain differences: the noisiest levels, where most is undecided, count most.
    apart = {prompt: known.often[prompt].mean(0) for prompt in asked}
    found, allowed = list[Tensor](), list[Tensor]()
    for concept, without, gone in zip(concepts, beside.apart, beside.goes, strict=True):
        values = apart[concept.prompt]
        free = torch.ones_like(values)[:, None]
        if concept.region is not None:
            free = F.interpolate(concept.region.to(values), values.shape[-2:], mode="area").expand_as(free)
        if without != base:
            kept = otsu(apart[without], torch.ones_like(values))[:, None]
            free = free * torch.where(_same(without, base, values), 1, 1 - kept)
        if concept.threshold is None:
            region = otsu(values, free[:, 0])[:, None]
            region = torch.where(_same(gone, True, values), F.max_pool2d(region, 3, 1, 1), region)
        else:
            region = core.quantile_mask(values, concept.threshold, free[:, 0])[:, None]
        found.append(region * (free > 0))
        allowed.append(free)
    changed = [prompt for prompt in beside.own if prompt != base]
    things = list(dict.fromkeys([*changed, *(prompt for prompt in beside.stays if prompt != base)]))
    if changed and len(things) > 1:
        _ask(denoise, inversion, levels[len(levels) // 3 :: _RARELY], things, known.rarely)
        wrong = {prompt: core.smooth(known.rarely[prompt].mean(0)[:, None]) for prompt in things}
        found = _shared_out(found, allowed, beside.own, wrong, base)
    clipped = [region * free for region, free in zip(found, allowed, strict=True)]
    return [replace(c, region=region) for c, region in zip(concepts, make_disjoint(clipped), strict=True)]


def likelier(denoise: Denoiser, inversion: Inversion, prompts: Sequence[Prompt]) -> Tensor:
    """Which of `prompts` each picture suits best, (b) of their numbers: under it the network errs least.

    A diffusion model as a classifier (Li et al. 2023, arXiv 2303.16203), along the one path that is there.
    """
    levels = list(range(0, len(inversion.schedule), _STRIDE))
    predicted, _ = denoise(inversion.x[levels].float(), levels, prompts)
    wrong = (predicted - inversion.x[-1].float()).square().mean((3, 4, 5))
    return wrong.log().mean(1).argmin(0)  # of logarithms: each level counts alike


def _shared_out(
    found: Sequence[Tensor], allowed: Sequence[Tensor], own: Sequence[Prompt], wrong: Mapping[Prompt, Tensor],
    base: Prompt,
) -> list[Tensor]:  # fmt: skip
    """Regions (b 1 h w), of what changes a thing the part in which its own caption is least wrong (b 1 h w) of all."""
    silent = {prompt: _same(prompt, base, values) for prompt, values in wrong.items()}
    nearest = torch.stack([values.masked_fill(silent[prompt], torch.inf) for prompt, values in wrong.items()]).argmin(0)
    number = {prompt: i for i, prompt in enumerate(wrong)}
    inside = [region * ~silent[prompt] for region, prompt in zip(found, own, strict=True) if prompt in wrong]
    result = list(found)
    for k, prompt in enumerate(own):
        if prompt in wrong:
            part = torch.stack(inside).amax(0) * (nearest == number[prompt]) * (allowed[k] > 0)
            empty = part.amax((1, 2, 3), keepdim=True) == 0
            result[k] = torch.where(silent[prompt] | empty, found[k], part)
    return result


def _ask(
    denoise: Denoiser, inversion: Inversion, levels: Sequence[int], prompts: Sequence[Prompt],
    known: dict[Prompt, Tensor],
) -> None:  # fmt: skip
    """Add to `known` what it does not hold of prompts, at these levels of the path."""
    if prompts := [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]:
        predicted, _ = denoise(inversion.x[levels].float(), levels, prompts)
        apart = (predicted - inversion.base_denoised[levels].float()).abs().sum(3)
        known.update(zip(prompts, apart, strict=True))


def _same(one: Hashable, other: Hashable, like: Tensor) -> Tensor:
    """For which pictures of `like` (b ...) two prompts are the same, (b 1 1 1); one is for all, a tuple for each."""
    both = zip(*(each if isinstance(each, tuple) else (each,) * len(like) for each in (one, other)), strict=True)
    return torch.tensor([a == b for a, b in both], device=like.device)[:, None, None, None]


def edit(denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept]) -> Generator[Step, Tensor | None]:
    """`core.edit` within the concepts' regions, which `locate` found, and on the path everywhere else.

    A tensor sent in after a step takes the place of its x, as in `core.edit`.
    """
    if not concepts:
        yield from core.edit(denoise, inversion, concepts, "none")
        return
    regions = [concept.region for concept in concepts if concept.region is not None]
    inside = torch.stack(regions).amax(0)
    steps = core.edit(denoise, inversion, concepts, "none")
    step, begun = next(steps), False
    while True:
        path = inversion.x[step.i + 1].float()
        x = path + inside * (step.x - path)
        # Before an edit begins there is nothing to hold, and the replay can stay where no network is asked.
        begun = begun or any(concept.active(step.i) for concept in concepts)
        sent = yield replace(step, x=x)
        try:
            step = steps.send(sent if sent is not None else x if begun else None)
        except StopIteration:
            return


def otsu(values: Tensor, region: Tensor) -> Tensor:
    """1 where values (b h w) are on the upper side of the split with the largest variance between its sides, else 0.

    Otsu 1979, over the sorted values themselves instead of a histogram; equal values are never split. Only values where
    `region` (b h w) is above 0 are counted, and only those can be 1.
    """
    inside = region > 0
    # The rest sorts to the end and weighs nothing.
    values = torch.where(inside, values, values.masked_fill(~inside, -torch.inf).amax((1, 2), keepdim=True))
    ordered, order = values.flatten(1).sort(1)
    weights = inside.flatten(1).gather(1, order).long()
    sums, ranks = (ordered * weights).cumsum(1), weights.cumsum(1)
    below, above = ranks[:, :-1], ranks[:, -1:] - ranks[:, :-1]
    low, high = sums[:, :-1] / below.clamp(min=1), (sums[:, -1:] - sums[:, :-1]) / above.clamp(min=1)
    between = below * above * (high - low).square()
    cut = ordered.gather(1, between.argmax(1, keepdim=True) + 1)
    return ((values >= cut[..., None]) & inside).to(values)


def make_disjoint(regions: Sequence[Tensor]) -> list[Tensor]:
    """Regions (b 1 h w) without what belongs to a smaller one; of two of the same size, to the first."""
    areas = [region.sum((1, 2, 3), keepdim=True) for region in regions]
    result: list[Tensor] = []
    for k, region in enumerate(regions):
        for j, other in enumerate(regions):
            smaller = areas[j] < areas[k] if j > k else areas[j] <= areas[k]
            if j != k:
                region = region * (1 - other * smaller)
        result.append(region)
    return result
