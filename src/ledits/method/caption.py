"""Edits of a picture whose caption is known: each acts in one region, found before anything is edited.

Beyond the paper. Its masks are found anew in each step, from one noisy prediction, out of a threshold that has to be
guessed, and what is outside them may drift. Here the inversion's base prompt is the picture's caption, so that one
network answer a step says both what is there and what is kept; an edit is a direction between two captions; and where
it belongs is found once (regions.py). Outside the regions the replay stays on the path. Axes are core.py's.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.method import core
from ledits.method.core import Concept, Denoiser, Inversion, Step
from ledits.method.regions import Known, Place, each_prompt, find, same
from ledits.method.told import Told

# The share of an edit's steps in which the picture does not show yet what the other edits do.
_EARLY = 0.35
# That in which it does not show where a background ends, or what comes, and how far beside its region, in cells.
_SHOWN = 0.45
_EDGE = 2


def edit(
    denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept], told: Sequence[Told] | None = None, *,
    known: Known | None = None, drop_source_late: bool = False,
) -> Generator[Step, Tensor | None]:  # fmt: skip
    """Replay captioned edits within the regions that `find` finds, and stay on the path everywhere else.

    One concept is one edit. Its prompt is the caption after it alone, the inversion's base prompt the caption itself.
    `told` says what the network is told in its place (None: the concept's own prompt). A step's masks are of edits.
    `drop_source_late` is an approximation: from half of the steps on an edit moves from its own caption, which spares
    the network the source's (guidance in a limited interval, Kynkäänniemi et al. 2024, arXiv 2404.07724).
    A tensor sent in after a step takes the place of its x, as in `core.edit`.
    Where a thing goes, the later steps take fresh noise in place of the path's, which remembers it. Where a background
    changes, the replay begins with noise alone, and its region grows to the edges of what stands before it; that of a
    thing that comes grows to the thing's own.
    """
    base = inversion.base_prompt
    told = told or [Told.of(c.prompt, base) for c in concepts]
    # What changes several things is several edits: each is found, and moves, by itself. A share of the picture that is
    # given is of all of them.
    parts = [
        (k, part) for k, (concept, captions) in enumerate(zip(concepts, told, strict=True))
        for part in (captions.parts if concept.threshold is None and captions.parts else (captions,))
    ]  # fmt: skip
    each, said = [replace(concepts[k], prompt=part.target) for k, part in parts], [part for _, part in parts]
    found = find(denoise, inversion, each, said, known)
    edges, n = _edges(found, said), len(inversion.schedule)
    directions, of = list[Concept](), list[int]()
    for (k, captions), place, edge in zip(parts, found, edges, strict=True):
        if captions.target == base:
            continue  # it asks for what is there
        looks = place.looks.flatten().tolist()
        new = spans(place.concept, captions, inversion, looks, edge, drop_source_late=drop_source_late)
        directions += new
        of += [k] * len(new)
    inside = torch.stack([place.region for place in found]).amax(0) if found else None
    going = [
        (place.concept, place.region * same(captions.goes, True, place.region))
        for (_, captions), place in zip(parts, found, strict=True)
        if any(each_prompt(captions.goes, range(len(place.region))))
    ]  # fmt: skip
    steps, begun = core.edit(denoise, inversion, directions, "none", begin=_begin(inversion, found)), False
    step = next(steps)
    while True:
        x, masks = step.x, step.x.new_zeros(len(concepts), *step.masks.shape[1:])
        if inside is not None:
            path = inversion.x[step.i + 1].float()
            emptied = [part for concept, part in going if concept.active(step.i) and step.i >= _late(concept, n)]
            if emptied:
                anew = step.x - inversion.residual(step.i) + _fresh(inversion, step.i)
                x = torch.lerp(x, anew, torch.stack(emptied).amax(0))
            for place, edge in zip(found, edges, strict=True):
                shown = place.concept.active(step.i) and step.i == _late(place.concept, n, _SHOWN) < n - 1
                if edge is not None and shown:
                    more = edge * _moved(step, inversion, place)
                    # What is here is what is predicted here, and the noise of this level.
                    anew = path + _noised(inversion)[0][step.i + 1] * (step.x0 - inversion.x[-1].float())
                    x, inside = torch.lerp(x, anew, more), inside.maximum(more)
            x = path + inside * (x - path)
        for k, mask in zip(of, step.masks, strict=True):
            masks[k] = masks[k].maximum(mask if inside is None else mask.minimum(inside[:, 0]))
        # Before an edit begins there is nothing to hold, and the replay can stay where no network is asked.
        begun = begun or any(direction.active(step.i) for direction in directions)
        sent = yield replace(step, x=x, masks=masks)
        try:
            step = steps.send(sent if sent is not None else x if begun else None)
        except StopIteration:
            return


def spans(
    concept: Concept, told: Told, inversion: Inversion, looks: Sequence[bool] = (), edge: Tensor | None = None, *,
    drop_source_late: bool = False,
) -> list[Concept]:  # fmt: skip
    """The directions of one edit, which take turns: each says what it moves towards and away from in its steps.

    `looks` says in which pictures it changes how all of it looks. There it begins late: what stands where is decided in
    the first steps, and is to stay.
    """
    base, n = inversion.base_prompt, len(inversion.schedule)
    first, end = concept.warmup, n if concept.cooldown is None else min(concept.cooldown, n)
    late = _late(concept, n)
    dropped = max(first, math.ceil(n / 2)) if drop_source_late else n
    wider = concept.region if edge is None or concept.region is None else concept.region + edge
    cuts = sorted({first, end, *(i for i in (late, dropped) if first < i < end)})
    result = list[Concept]()
    for start, stop in zip(cuts, cuts[1:], strict=False):
        towards, away = (told.late, told.away) if start >= late else (told.early, base)
        if start < late < end and any(looks):
            pairs = zip(looks, each_prompt(base, looks), each_prompt(towards, looks), strict=True)
            towards = tuple(old if look else new for look, old, new in pairs)
            if all(looks):
                continue
        away = towards if start >= dropped else None if away == base else away
        region = concept.region if start < late else wider
        if result and (result[-1].prompt, result[-1].away) == (towards, away) and result[-1].region is region:
            result[-1] = replace(result[-1], cooldown=stop)
        else:
            result.append(replace(concept, prompt=towards, away=away, warmup=start, cooldown=stop, region=region))
    return result


def _edges(found: Sequence[Place], told: Sequence[Told]) -> list[Tensor | None]:
    """Of each edit of a background, or of what comes, the cells beside its region that may be of it too, (b 1 h w);
    none that is beside two of them, for both would move it."""
    result = list[Tensor | None]()
    for (concept, region, free, looks, ground), captions in zip(found, told, strict=True):
        grows = (ground | (same(captions.comes, True, region) & ~looks)) & (concept.threshold is None)
        near = F.max_pool2d((region > 0).to(region), 2 * _EDGE + 1, 1, _EDGE) * free * grows
        result.append(near if grows.any() else None)
    if claims := [edge > 0 for edge in result if edge is not None] + [place.region > 0 for place in found]:
        alone = torch.stack(claims).sum(0) == 1
        result = [edge if edge is None else edge * alone for edge in result]
    return result


def _begin(inversion: Inversion, found: Sequence[Place]) -> Tensor | None:
    """Where the replay begins: with noise alone where a background goes. None: on the path.

    The noisiest level still shows how bright the picture is and of what colour, and a network keeps to it (Lin et al.
    2023, arXiv 2305.08891): a white wall would become a pale sky, and no night.
    """
    grounds = [place.region * place.ground for place in found if place.concept.active(0) and place.concept.scale > 0]
    if not grounds or not (ground := torch.stack(grounds).amax(0)).any():
        return None
    return inversion.x[0].float() - _noised(inversion)[0][0] * ground * inversion.x[-1].float()


def _moved(step: Step, inversion: Inversion, place: Place) -> Tensor:
    """1 where the picture is predicted to change half as much as most of an edit's region does, (b 1 h w): what stands
    beside it is predicted as it is."""
    apart = (step.x0 - inversion.x[-1].float()).abs().sum(1, keepdim=True)
    inside = torch.where(place.region > 0, apart, torch.nan).flatten(1)
    usual = inside.nanquantile(0.5, 1, interpolation="lower")
    return (apart > 0.5 * usual[:, None, None, None]).to(apart)


def _late(concept: Concept, steps: int, share: float = _EARLY) -> int:
    """The first step of an edit in which the picture shows what it, and the others, do."""
    return concept.warmup + math.ceil(max(1.0, share * (steps - concept.warmup)))


def _fresh(inversion: Inversion, i: int) -> Tensor:
    """Noise of step i that has nothing of the picture in it, (b c h w), in the place of its noise map.

    A noise map holds what no prediction said, so that what goes would leave its outlines behind. Level i + 1 was noised
    by itself (paper, Eq. 6): its noise knows neither the picture nor the noise of any other level.
    """
    s, end = inversion.schedule, inversion.x[-1].float()
    if i + 1 == len(s):
        return torch.zeros_like(end)  # the picture itself
    alpha, sigma = (levels[i + 1] for levels in _noised(inversion))
    return s.std(i) / sigma * (inversion.x[i + 1].float() - alpha * end)


def _noised(inversion: Inversion) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The alpha and sigma of the path's levels."""
    return inversion.schedule.noised or (inversion.schedule.alpha, inversion.schedule.sigma)
