"""Where an edit of a picture whose caption is known belongs.

Where the caption and the one after the edit predict different pictures along the exact path, all levels asked in
batches, is where the edit belongs (the idea of DiffEdit, Couairon et al. 2022, which has neither the path nor a
threshold of its own). No attention maps are needed. Axes are core.py's.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.method import core
from ledits.method.core import Concept, Denoiser, Inversion, Prompt
from ledits.method.told import Told

# Only every second level is asked where an edit belongs, and every sixth whose place one is: as good as all of them on
# scenes (docs/log). What a thing is shows at the less noisy levels.
_STRIDE = 2
_RARELY = 3
# An edit surely takes a place whose prediction it moves by two thirds of how far the caption's own one is from the
# picture: 0.4 of both together.
_TAKEN = 0.4
# An edit is of the whole picture, as of a background, if over all of it it moves so much more than where it is still;
# or half of both together, as of a style. Of a thing it moves less (docs/log).
_WHOLE = 0.11
# Where the other edits are of things that the caption lists, less will do.
_REST = 0.08
# What a thing that no edit changes counts as moved, of the most that an edit moves anything.
_STILL = 0.5


@dataclass(frozen=True)
class Known:
    """How far what the network predicts for a prompt is from what it does for the base prompt, (l b h w)."""

    often: dict[Prompt, Tensor] = field(default_factory=dict)
    rarely: dict[Prompt, Tensor] = field(default_factory=dict)
    between: dict[tuple[Prompt, Prompt], Tensor] = field(
        default_factory=dict
    )  # for one prompt from what it is for another


class Place(NamedTuple):
    """Where an edit belongs."""

    concept: Concept  # with its region ...
    region: Tensor  # ... (b 1 h w)
    free: Tensor  # (b 1 h w) in 0..1, where the region could have been
    looks: Tensor  # (b 1 1 1), of which pictures it changes how all of it looks
    ground: Tensor  # (b 1 1 1), of which it changes the background


def find(
    denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept], told: Sequence[Told] | None = None,
    known: Known | None = None,
) -> list[Place]:  # fmt: skip
    """Where each concept belongs: its region, (b 1 h w) in 0..1, is clipped to any given region.

    A threshold is the share of the given region left alone; None finds it: by Otsu's method, or what is `taken` by an
    edit of the whole picture, where little is still that a split could be from. Where two regions meet, the
    smaller one has the place to itself: an object that changes on a background that does. What guides nothing (scale 0,
    or the caption itself) has no region.

    A region that is found keeps clear of what `told.clear` and the caption disagree about, and takes in what comes
    beside `told.bare`, which may be elsewhere than what it takes the place of. Of all regions that change a thing each
    is left what its own caption predicts better, and its edit moves more, than those of all others do.
    `known` remembers what the network was asked, so that it is asked once.
    """
    if not concepts:
        return []
    known, base = known or Known(), inversion.base_prompt
    told = told or [Told.of(c.prompt, base) for c in concepts]
    levels, pairs = list(range(0, len(inversion.schedule), _STRIDE)), list(zip(concepts, told, strict=True))
    clear = [t.clear for c, t in pairs if c.scale and c.threshold is None and t.clear != base]
    asked = [*(t.target for c, t in pairs if c.scale), *clear]
    beside = [(t.target, t.bare) for c, t in pairs if c.scale and c.threshold is None and t.bare != base]
    for one, other in (pair for pair in dict.fromkeys(beside) if pair not in known.between):
        (new, without), _ = denoise(inversion.x[levels].float(), levels, [one, other])
        known.between[one, other] = (new - without).abs().sum(2)
        known.often[one] = (new - inversion.base_denoised[levels].float()).abs().sum(2)
    _ask(denoise, inversion, levels, [prompt for prompt in asked if prompt != base], known.often)
    # Means of plain differences: the noisiest levels, where most is undecided, count most.
    like = inversion.x[-1][:, 0].float()
    off = (inversion.base_denoised[levels].float() - inversion.x[-1].float()).abs().sum(2)
    apart = {prompt: known.often[prompt].mean(0) if prompt != base else like * 0 for prompt in asked}
    never = same(base, base, like).logical_not()
    found, allowed = list[Tensor](), list[Tensor]()
    looks, ground = [never for _ in pairs], [never for _ in pairs]
    listed = torch.stack([same(captions.thing, True, like) for captions in told]).any(0)
    moved, spread = dict[int, Tensor](), dict[int, Tensor]()
    for concept, captions in pairs:
        free = torch.ones_like(like)[:, None]
        if concept.region is not None:
            free = F.interpolate(concept.region.to(like), like.shape[-2:], mode="area").expand_as(free)
        still = same(captions.target, base, like)
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
                free = free * torch.where(same(captions.clear, base, values), 1, 1 - kept)
            region = otsu(values, free[:, 0])[:, None]
            if captions.bare != base:
                comes = known.between[captions.target, captions.bare].mean(0)
                region = region.maximum(otsu(comes, free[:, 0])[:, None])
            moved[len(found)], excess, late = taken(known.often[captions.target], off, free[:, 0])
            # What comes beside something is a thing, and so is what goes.
            thing, called = same(captions.thing, True, values), same(captions.ground, True, values)
            background = same(captions.clear, base, values) & same(captions.goes, False, values) & ~thing
            spread[len(found)] = torch.where(background, torch.where(called, 1, excess), 0)
            looks[len(found)] = background & late & ~called
        found.append(region * (free > 0) * ~still)
        allowed.append(free)
    # There is one background: that of the edit that moves the most, styles left out.
    every = torch.stack(list(spread.values())) if spread else like[None]
    most = every.masked_fill(every.isinf(), 0).amax(0)
    for k, much in spread.items():
        whole = (much == most) & (much > torch.where(listed, _REST, _WHOLE)) | much.isinf() | looks[k]
        # Of few levels none shows what a style is (`taken`), and a style keeps what is there.
        ground[k] = whole & ~looks[k] & (len(levels) > 2)
        found[k] = torch.where(whole, moved[k], found[k])
        edge = F.max_pool2d(found[k], 3, 1, 1) * (allowed[k] > 0)
        found[k] = torch.where(same(told[k].wide, True, like), edge, found[k])
    own = [t.own if c.scale and c.threshold is None else base for c, t in pairs]
    stay = [prompt for c, t in pairs if c.scale and c.threshold is None for prompt in t.stays]
    things = list(dict.fromkeys(prompt for prompt in [*own, *stay] if prompt != base))
    if len(things) > 1:
        _ask(denoise, inversion, levels[len(levels) // 3 :: _RARELY], things, known.rarely)
        tiny = torch.finfo(like.dtype).tiny  # where nothing moves
        reach = {t.own: core.smooth((apart[t.target] + tiny)[:, None]) for c, t in pairs if c.scale}
        share = {prompt: moves / moves.amax((1, 2, 3), keepdim=True) for prompt, moves in reach.items()}
        error = {prompt: core.smooth(core.smooth(known.rarely[prompt].mean(0)[:, None])) for prompt in things}
        wrong = {prompt: much / share.get(prompt, _STILL) for prompt, much in error.items()}
        found = _shared_out(found, allowed, own, ground, wrong, base)
    clipped = [region * free for region, free in zip(found, allowed, strict=True)]
    places = zip(concepts, make_disjoint(clipped), allowed, looks, ground, strict=True)
    return [Place(replace(c, region=region), region, free, look, behind) for c, region, free, look, behind in places]


def _shared_out(
    found: Sequence[Tensor], allowed: Sequence[Tensor], own: Sequence[Prompt], ground: Sequence[Tensor],
    wrong: Mapping[Prompt, Tensor], base: Prompt,
) -> list[Tensor]:  # fmt: skip
    """Regions (b 1 h w), of a thing that changes the part in which it is least wrong (b 1 h w) of all."""
    silent = {prompt: same(prompt, base, values) for prompt, values in wrong.items()}
    for prompt, behind in zip(own, ground, strict=True):  # a background is where the things are not
        silent |= {prompt: silent[prompt] | behind} if prompt in silent else {}
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


def each_prompt(prompt: Prompt, pictures: Sequence[object]) -> Sequence[Prompt]:
    return prompt if isinstance(prompt, tuple) else (prompt,) * len(pictures)


def taken(apart: Tensor, error: Tensor, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of how far an edit moves a prediction, and how wrong the caption's own is (l b h w), within `free` (b h w): 1
    where it moves it much, (b 1 h w); how much more it does so over all than where it is still, (b 1 1 1), infinite
    where it moves half of both together; and whether the least noisy levels say so too, (b 1 1 1).

    Where much is undecided a prediction moves much, though nothing there is to change: a thing's details beside another
    background. How wrong it is at that level says how much that is. A background shows at the noisiest levels, so each
    third of the levels is asked, and the one that says most counts. What the least noisy ones still change, with all
    that stands there in plain sight, is how it looks.
    """
    share = apart / (apart + error).clamp(min=torch.finfo(apart.dtype).tiny)
    thirds = torch.stack([part.mean(0) for part in share.tensor_split(3) if len(part)])
    plain = thirds[-1] if len(thirds) == 3 else thirds[-1] * 0  # of fewer levels none is so much less noisy
    inside = (free > 0)[:, None].to(apart)
    ever, late = (core.smooth(each[:, None]) for each in (thirds.amax(0), plain))
    upper = otsu(ever[:, 0], free)[:, None]
    high, low, all_of_it = (_mean(ever, part) for part in (upper, inside - upper, inside))
    # The split is in the middle between what moves and what does not; a background's cells are nearer to the first.
    cut = (low + 0.25 * (high - low)).clamp(max=_TAKEN)
    excess = torch.where(all_of_it > 0.5, torch.inf, all_of_it - low)
    return (ever > cut) * inside, excess, _mean((late > _TAKEN).to(apart), inside) > 0.5


def _mean(values: Tensor, part: Tensor) -> Tensor:
    """The mean of values (b 1 h w) where part (b 1 h w) is 1, (b 1 1 1)."""
    return (values * part).sum((1, 2, 3), keepdim=True) / part.sum((1, 2, 3), keepdim=True).clamp(min=1)


def same(one: Hashable, other: Hashable, like: Tensor) -> Tensor:
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
