"""Edits of a picture whose caption is known: each acts in one region, found before anything is edited.

Beyond the paper. Its masks are found anew in each step, from one noisy prediction, out of a threshold that has to be
guessed, and what is outside them may drift. Here the inversion's base prompt is the picture's caption, so that one
network answer a step says both what is there and what is kept; an edit is a direction between two captions; and where
the caption and the one after the edit predict different pictures along the exact path, all levels asked in batches, is
where the edit belongs (the idea of DiffEdit, Couairon et al. 2022, which has neither the path nor a threshold of its
own). No attention maps are needed. Outside the regions the replay stays on the path. Axes are core.py's.
"""

import math
from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.method import core
from ledits.method.core import Concept, Denoiser, Inversion, Prompt, Step
from ledits.method.told import Told

# Only every second level is asked where an edit belongs, and every sixth whose place one is: as good as all of them on
# scenes (docs/log). What a thing is shows at the less noisy levels.
_STRIDE = 2
_RARELY = 3
# An edit takes a place whose prediction it moves by two thirds of how far the caption's own one is from the picture:
# 0.4 of both together. One that takes more than half of the picture so is of all of it, as of a background or a style.
_TAKEN = 0.4
# The share of an edit's steps in which the picture does not show yet what the other edits do.
_EARLY = 0.35


@dataclass(frozen=True)
class Known:
    """How far what the network predicts for a prompt is from what it does for the base prompt, (l b h w)."""

    often: dict[Prompt, Tensor] = field(default_factory=dict)
    rarely: dict[Prompt, Tensor] = field(default_factory=dict)


def edit(
    denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept], told: Sequence[Told] | None = None, *,
    known: Known | None = None, drop_source_late: bool = False,
) -> Generator[Step, Tensor | None]:  # fmt: skip
    """Replay captioned edits within the regions that `locate` finds, and stay on the path everywhere else.

    One concept is one edit. Its prompt is the caption after it alone, the inversion's base prompt the caption itself.
    `told` says what the network is told in its place (None: the concept's own prompt). A step's masks are of edits.
    `drop_source_late` is an approximation: from half of the steps on an edit moves from its own caption, which spares
    the network the source's (guidance in a limited interval, Kynkäänniemi et al. 2024, arXiv 2404.07724).
    A tensor sent in after a step takes the place of its x, as in `core.edit`.
    Where a thing goes, the later steps take fresh noise in place of the path's, which remembers it.
    """
    base = inversion.base_prompt
    told = told or [Told.of(c.prompt, base) for c in concepts]
    # What changes several things is several edits: each is found, and moves, by itself. A share of the picture that is
    # given is of all of them.
    parts = [
        (k, part) for k, (concept, captions) in enumerate(zip(concepts, told, strict=True))
        for part in (captions.parts if concept.threshold is None and captions.parts else (captions,))
    ]  # fmt: skip
    each = [replace(concepts[k], prompt=part.target) for k, part in parts]
    located, looks = _located(denoise, inversion, each, [part for _, part in parts], known)
    directions, of = list[Concept](), list[int]()
    for (k, captions), concept, look in zip(parts, located, looks, strict=True):
        if captions.target == base:
            continue  # it asks for what is there
        for direction in spans(concept, captions, inversion, look, drop_source_late=drop_source_late):
            directions.append(direction)
            of.append(k)
    regions = [concept.region for concept in located if concept.region is not None]
    inside = torch.stack(regions).amax(0) if regions else None
    going = [
        (concept, concept.region * _same(captions.goes, True, concept.region))
        for (_, captions), concept in zip(parts, located, strict=True) if concept.region is not None
    ]  # fmt: skip
    steps, begun = core.edit(denoise, inversion, directions, "none"), False
    step = next(steps)
    while True:
        x, masks = step.x, step.x.new_zeros(len(concepts), *step.masks.shape[1:])
        if inside is not None:
            path = inversion.x[step.i + 1].float()
            for concept, place in going:
                if concept.active(step.i) and step.i >= _late(concept, len(inversion.schedule)) and place.any():
                    x = torch.lerp(x, step.x - inversion.residual(step.i) + _fresh(inversion, step.i), place)
            x = path + inside * (x - path)
        for k, mask in zip(of, step.masks, strict=True):
            masks[k] = masks[k].maximum(mask)
        # Before an edit begins there is nothing to hold, and the replay can stay where no network is asked.
        begun = begun or any(direction.active(step.i) for direction in directions)
        sent = yield replace(step, x=x, masks=masks)
        try:
            step = steps.send(sent if sent is not None else x if begun else None)
        except StopIteration:
            return


def spans(
    concept: Concept, told: Told, inversion: Inversion, looks: Sequence[bool] = (), *, drop_source_late: bool = False
) -> list[Concept]:  # fmt: skip
    """The directions of one edit, which take turns: each says what it moves towards and away from in its steps.

    `looks` says in which pictures it changes how all of it looks. There it begins late: what stands where is decided in
    the first steps, and is to stay.
    """
    base, n = inversion.base_prompt, len(inversion.schedule)
    first, end = concept.warmup, n if concept.cooldown is None else min(concept.cooldown, n)
    late = _late(concept, n)
    dropped = max(first, math.ceil(n / 2)) if drop_source_late else n
    cuts = sorted({first, end, *(i for i in (late, dropped) if first < i < end)})
    result = list[Concept]()
    for start, stop in zip(cuts, cuts[1:], strict=False):
        towards, away = (told.late, told.away) if start >= late else (told.early, base)
        if start < late < end and any(looks):
            pairs = zip(looks, _each(base, looks), _each(towards, looks), strict=True)
            towards = tuple(old if look else new for look, old, new in pairs)
            if all(looks):
                continue
        away = towards if start >= dropped else None if away == base else away
        if result and (result[-1].prompt, result[-1].away) == (towards, away):
            result[-1] = replace(result[-1], cooldown=stop)
        else:
            result.append(replace(concept, prompt=towards, away=away, warmup=start, cooldown=stop))
    return result


def _late(concept: Concept, steps: int) -> int:
    """The first step of an edit in which the picture shows what it, and the others, do."""
    return concept.warmup + math.ceil(max(1.0, _EARLY * (steps - concept.warmup)))


def _fresh(inversion: Inversion, i: int) -> Tensor:
    """Noise of step i that has nothing of the picture in it, (b c h w), in the place of its noise map.

    A noise map holds what no prediction said, so that what goes would leave its outlines behind. Level i + 1 was noised
    by itself (paper, Eq. 6): its noise knows neither the picture nor the noise of any other level.
    """
    s, end = inversion.schedule, inversion.x[-1].float()
    if i + 1 == len(s):
        return torch.zeros_like(end)  # the picture itself
    alpha, sigma = (levels[i + 1] for levels in s.noised or (s.alpha, s.sigma))
    return s.std(i) / sigma * (inversion.x[i + 1].float() - alpha * end)


def locate(
    denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept], told: Sequence[Told] | None = None,
    known: Known | None = None,
) -> list[Concept]:  # fmt: skip
    """Each concept with its detected region, (b 1 h w) in 0..1, clipped to any given region.

    A threshold is the share of the given region left alone; None finds it: by Otsu's method, or what is `taken` where
    that is most of the picture, for then nothing is still that a split could be from. Where two regions meet, the
    smaller one has the place to itself: an object that changes on a background that does. What guides nothing (scale 0,
    or the caption itself) has no region.

    A region that is found keeps clear of what `told.clear` and the caption disagree about. Of all regions that change a
    thing each is left what that thing's own caption predicts better than those of all others do, changed or not.
    `known` remembers what the network was asked, so that it is asked once.
    """
    return _located(denoise, inversion, concepts, told, known)[0]


def _located(
    denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept], told: Sequence[Told] | None,
    known: Known | None,
) -> tuple[list[Concept], list[list[bool]]]:  # fmt: skip
    """As `locate`, and in which pictures each edit changes how all of it looks."""
    if not concepts:
        return [], []
    known, base = known or Known(), inversion.base_prompt
    told = told or [Told.of(c.prompt, base) for c in concepts]
    levels, pairs = list(range(0, len(inversion.schedule), _STRIDE)), list(zip(concepts, told, strict=True))
    clear = [t.clear for c, t in pairs if c.scale and c.threshold is None and t.clear != base]
    asked = [*(t.target for c, t in pairs if c.scale), *clear]
    _ask(denoise, inversion, levels, [prompt for prompt in asked if prompt != base], known.often)
    # Means of plain differences: the noisiest levels, where most is undecided, count most.
    like = inversion.x[-1][:, 0].float()
    error = (inversion.base_denoised[levels].float() - inversion.x[-1].float()).abs().sum(2)
    apart = {prompt: known.often[prompt].mean(0) if prompt != base else like * 0 for prompt in asked}
    found, allowed, looks = list[Tensor](), list[Tensor](), list[list[bool]]()
    for concept, captions in pairs:
        free = torch.ones_like(like)[:, None]
        if concept.region is not None:
            free = F.interpolate(concept.region.to(like), like.shape[-2:], mode="area").expand_as(free)
        still = _same(captions.target, base, like)
        looks.append([False] * len(like))
        if concept.scale == 0 or bool(still.all()):
            allowed.append(free * 0)
            found.append(free * 0)
            continue
        values = apart[captions.target]
        if concept.threshold is not None:
            region = core.quantile_mask(values, concept.threshold, free[:, 0])[:, None]
        else:
            if captions.clear in clear:
                kept = otsu(apart[captions.clear], torch.ones_like(values))[:, None]
                free = free * torch.where(_same(captions.clear, base, values), 1, 1 - kept)
            region = otsu(values, free[:, 0])[:, None]
            ever, late = (each[:, None] * (free > 0) for each in taken(known.often[captions.target], error))
            alone = _same(captions.clear, base, values)  # what comes beside something is a thing
            most, look = (
                alone & (each.sum((1, 2, 3), keepdim=True) > 0.5 * (free > 0).sum((1, 2, 3), keepdim=True))
                for each in (ever, late)
            )
            region = torch.where(most, ever, region)
            looks[-1] = look.flatten().tolist()
            region = torch.where(_same(captions.wide, True, values), F.max_pool2d(region, 3, 1, 1), region)
        found.append(region * (free > 0) * ~still)
        allowed.append(free)
    own = [t.own if c.scale and c.threshold is None else base for c, t in pairs]
    stay = [prompt for c, t in pairs if c.scale and c.threshold is None for prompt in t.stays]
    things = list(dict.fromkeys(prompt for prompt in [*own, *stay] if prompt != base))
    if len(things) > 1:
        _ask(denoise, inversion, levels[len(levels) // 3 :: _RARELY], things, known.rarely)
        wrong = {prompt: core.smooth(known.rarely[prompt].mean(0)[:, None]) for prompt in things}
        found = _shared_out(found, allowed, own, wrong, base)
    clipped = [region * free for region, free in zip(found, allowed, strict=True)]
    return [replace(c, region=region) for c, region in zip(concepts, make_disjoint(clipped), strict=True)], looks


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


def _each(prompt: Prompt, pictures: Sequence[object]) -> Sequence[Prompt]:
    return prompt if isinstance(prompt, tuple) else (prompt,) * len(pictures)


def taken(apart: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """1 where an edit moves a prediction far, (b h w), of how far it does and how wrong the caption's own is (l b h w);
    and 1 where it does so at the least noisy levels.

    Where much is undecided a prediction moves much, though nothing there is to change: a thing's details beside another
    background. How wrong it is at that level says how much that is. A background shows at the noisiest levels, so each
    third of the levels is asked, and the one that says most counts. What the least noisy ones still change, with all
    that stands there in plain sight, is how it looks.
    """
    share = apart / (apart + error).clamp(min=torch.finfo(apart.dtype).tiny)
    thirds = torch.stack([part.mean(0) for part in share.tensor_split(3) if len(part)])
    plain = thirds[-1] if len(thirds) == 3 else thirds[-1] * 0  # of fewer levels none is so much less noisy
    ever, late = (core.smooth(each[:, None])[:, 0] > _TAKEN for each in (thirds.amax(0), plain))
    return ever.to(apart), late.to(apart)


def _same(one: Hashable, other: Hashable, like: Tensor) -> Tensor:
    """For which pictures of `like` (b ...) two prompts are the same, (b 1 1 1); one is for all, a tuple for each."""
    both = zip(*(each if isinstance(each, tuple) else (each,) * len(like) for each in (one, other)), strict=True)
    return torch.tensor([a == b for a, b in both], device=like.device)[:, None, None, None]


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
