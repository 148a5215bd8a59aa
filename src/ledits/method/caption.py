"""Edits of a picture whose caption is known: each acts in one region, found before anything is edited.

Beyond the paper. Its masks are found anew in each step, from one noisy prediction, out of a threshold that has to be
guessed, and what is outside them may drift. Here the inversion's base prompt is the picture's caption, so that one
network answer a step says both what is there and what is kept; an edit is the caption with that edit alone; and where
the two predict different pictures along the exact path, all levels asked in batches, is where the edit belongs (the
idea of DiffEdit, Couairon et al. 2022, which has neither the path nor a threshold of its own). No attention maps are
needed. Outside the regions the replay stays on the path. Axes are core.py's.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.method import core
from ledits.method.core import Concept, Denoiser, Inversion, Prompt, Step

# Only every second level is asked where an edit belongs: as good as all of them on scenes (LOG.md).
_STRIDE = 2


def locate(
    denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept], apart: Sequence[Prompt] = (),
    own: Sequence[Prompt] = (), known: dict[Prompt, Tensor] | None = None,
) -> list[Concept]:  # fmt: skip
    """Each concept with its detected region, (b 1 h w) in 0..1, clipped to any given region.

    Each concept's prompt is the caption with its edit alone, and the inversion's base prompt is the caption itself. A
    threshold is the share of the given region left alone; None finds it by Otsu's method. Where two regions meet, the
    smaller one has the place to itself: an object that changes on a background that does.

    `apart` has a caption for each concept. Where it is not the base prompt itself, the region keeps clear of what the
    two disagree about: of a place and the same place without anything in it, of the things that are there.

    `own` has a caption for each concept as well: of nothing but the thing that it changes, in every place, or the base
    prompt where it changes no one thing. Of several such concepts each gets of their regions the part where its own
    caption agrees with the picture best.

    `known` remembers how far each prompt's predictions differ, (l b h w) at the levels that are asked, so that the
    network is asked about it once.
    """
    if not concepts:
        return []
    known, base = {} if known is None else known, inversion.base_prompt
    levels = list(range(0, len(inversion.schedule), _STRIDE))
    things = [k for k, prompt in enumerate(own) if prompt != base]
    things = things if len(things) > 1 else []
    prompts = [*(c.prompt for c in concepts), *(p for p in apart if p != base), *(own[k] for k in things)]
    prompts = list(dict.fromkeys(prompts))
    if prompts := [prompt for prompt in prompts if prompt not in known]:
        predicted, _ = denoise(inversion.x[levels].float(), levels, prompts)
        there = inversion.base_denoised[levels].float()
        known.update(zip(prompts, (predicted - there).abs().sum(3), strict=True))
    found, clipped = list[Tensor](), list[Tensor]()
    for concept, without in zip(concepts, apart or [base] * len(concepts), strict=True):
        # Means of plain differences: the noisiest levels, where most is undecided, count most.
        values = known[concept.prompt].mean(0)
        allowed = torch.ones_like(values)[:, None]
        if concept.region is not None:
            allowed = F.interpolate(concept.region.to(values), values.shape[-2:], mode="area").expand_as(allowed)
        if without != base:
            kept = otsu(known[without].mean(0), torch.ones_like(values))[:, None]
            allowed = allowed * torch.where(_same(without, base, len(values)).to(kept.device), 1, 1 - kept)
        if concept.threshold is None:
            region = otsu(values, allowed[:, 0])
        else:
            region = core.quantile_mask(values, concept.threshold, allowed[:, 0])
        found.append(region[:, None] * allowed)
        clipped.append(allowed)
    if things:
        # What a thing is shows at the less noisy levels.
        apart_by = torch.stack([core.smooth(known[own[k]][len(levels) // 3 :].mean(0)[:, None]) for k in things])
        inside, nearest = torch.stack([found[k] for k in things]).amax(0), apart_by.argmin(0)
        for j, k in enumerate(things):
            part = inside * (nearest == j) * clipped[k]
            found[k] = torch.where(part.amax((1, 2, 3), keepdim=True) > 0, part, found[k])
    return [replace(c, region=region) for c, region in zip(concepts, make_disjoint(found), strict=True)]


def _same(prompt: Prompt, other: Prompt, b: int) -> Tensor:
    """Of which of b pictures two prompts say the same, (b 1 1 1)."""
    both = zip(*(each if isinstance(each, tuple) else (each,) * b for each in (prompt, other)), strict=True)
    return torch.tensor([one == two for one, two in both])[:, None, None, None]


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
