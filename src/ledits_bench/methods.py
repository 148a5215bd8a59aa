"""The methods that are compared: ours, and its rivals on the same network, the same latents and the same cases.

Each is a function of a backbone, cases as a column tells them, their latents x0 (b c h w) and settings. All are told
the same words. Rivals that need the captions before and after get those that ours makes of the words. Noise is each
case's own, so that batches don't matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import cast

import torch
from torch import Tensor

from ledits import editor
from ledits.asked import settings as asked_settings
from ledits.asked.plan import by_words
from ledits.backbones.latent_unet import LatentUNet
from ledits.backbones.network import NetworkBackbone
from ledits.language import several
from ledits.language.implied import Implied
from ledits.method import caption, core
from ledits.method.core import Concept, Denoiser, Prompt, Schedule
from ledits.method.told import for_pictures
from ledits.scenes import suits
from ledits_bench import attention_control, reference
from ledits_bench.asked import Asked
from ledits_bench.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """What a method makes of cases: latents, where it acted, and how many samples went through the network."""

    x: Tensor  # (b c h w)
    acted: Tensor | None  # (b h w) in 0..1, the share of steps in which a cell was let through; None: no masks
    evaluations: int


Run = Callable[[NetworkBackbone, Sequence[Asked], Tensor, Settings], Outcome]


@dataclass(frozen=True)
class Method:
    """A method of the comparison."""

    title: str
    run: Run
    batch: int  # pictures at once: as many as it can take without a change of its results
    grid: tuple[Settings, ...]  # what tuning chooses from: as many settings for each method
    masks: tuple[Settings, ...] = ()  # each threshold of its masks at the model's own scales
    composite: bool = False  # the result is laid onto the source's own pixels
    by_words: bool = False  # it is told no caption: it has no place for one
    own_attention: bool = False  # it puts attention of its own into a UNet, and runs on no other network
    flows: bool = False  # it is of flows alone

    def curve(self) -> tuple[Settings, ...]:
        """The settings of success against preservation: the grid, and part of it at fewer and at more steps."""
        few = self.grid[:: len(self.grid) // 3]
        return self.grid + tuple(replace(s, steps=steps) for steps in (10, 50) for s in few)


def ours(backbone: NetworkBackbone, cases: Sequence[Asked], x0: Tensor, settings: Settings) -> Outcome:
    """What `Editor` does with each case, many pictures at once: with a caption, or with the one that edits imply."""
    inverted = asked_settings.Settings(steps=settings.steps, skip=settings.skip)
    edits = [
        tuple(replace(e, scale=settings.scale, threshold=settings.threshold) for e in case.edits) for case in cases
    ]
    world = suits.world(backbone.name)
    plans = [replace(case, edits=asked).plan(inverted, world) for case, asked in zip(cases, edits, strict=True)]
    said = [cast("Implied", plan.captions(backbone.defaults)) for plan in plans]
    base = tuple(each.source for each in said)
    concepts = [[c for group in plan.grouped(backbone.defaults) for c in group] for plan in plans]
    read = [several.told(*each, plan.emptied) for each, plan in zip(said, plans, strict=True)]
    told = for_pictures(read, base)
    schedule = backbone.schedule(settings.steps, settings.skip)
    with backbone.denoiser(schedule, maps=False) as denoise:
        inversion = core.invert(denoise, schedule, x0, _noise(schedule, cases, x0), base_prompt=base)
        steps = list(caption.edit(denoise, inversion, _together(concepts), told))
        return Outcome(steps[-1].x, steps[-1].masks.amax(0), denoise.evaluations)


def words(backbone: NetworkBackbone, cases: Sequence[Asked], x0: Tensor, settings: Settings) -> Outcome:
    """LEDITS++ of the paper, told the edits' words alone, as this package does it."""
    schedule = backbone.schedule(settings.steps, settings.skip)
    with backbone.denoiser(schedule, maps=False) as denoise:
        inversion = core.invert(denoise, schedule, x0, _noise(schedule, cases, x0))
        evaluations = denoise.evaluations
    with backbone.denoiser(schedule, maps=settings.mask in core.WITH_MAPS) as denoise:
        steps = list(core.edit(denoise, inversion, _concepts(backbone, cases, settings), settings.mask))
        evaluations += denoise.evaluations
    acted = torch.stack([step.masks.amax(0) for step in steps]).mean(0)
    return Outcome(steps[-1].x, acted, evaluations)


def installed(backbone: NetworkBackbone, cases: Sequence[Asked], x0: Tensor, settings: Settings) -> Outcome:
    """LEDITS++ as diffusers does it, with the scheduler its pipeline makes of a Stable Diffusion checkpoint's."""
    return _diffusers(backbone, cases, x0, settings, "zero")


def mended(backbone: NetworkBackbone, cases: Sequence[Asked], x0: Tensor, settings: Settings) -> Outcome:
    """The same with a schedule that ends at the smallest noise instead of none, which makes its inversion exact."""
    return _diffusers(backbone, cases, x0, settings, "sigma_min")


def _diffusers(
    backbone: NetworkBackbone, cases: Sequence[Asked], x0: Tensor, settings: Settings, final_sigma: str
) -> Outcome:
    assert isinstance(backbone, LatentUNet)
    done: list[tuple[Tensor, Tensor, int]] = []
    for case, x in zip(cases, x0, strict=True):
        concepts = [
            replace(c, prompt=cast("tuple[str, ...]", c.prompt)[0]) for c in _concepts(backbone, [case], settings)
        ]
        done.append(
            reference.edit(
                backbone,
                x[None],
                concepts,
                steps=settings.steps,
                skip=settings.skip,
                seed=case.case.seed,
                final_sigma=final_sigma,
            )  # fmt: skip
        )
    x, acted, evaluations = zip(*done, strict=True)
    return Outcome(torch.cat(x), torch.cat(acted), sum(evaluations))


def edit_friendly(backbone: NetworkBackbone, cases: Sequence[Asked], x0: Tensor, settings: Settings) -> Outcome:
    """Edit-friendly DDPM inversion (Huberman-Spiegelglas et al. 2023): the source's noise maps under the target.

    The source's caption guides the inversion by 3.5, as published.
    """
    schedule = replace(backbone.schedule(settings.steps, settings.skip), order=1)
    sources, targets = _captions(backbone, cases)
    with backbone.denoiser(schedule, maps=False) as denoise:
        inversion = core.invert(denoise, schedule, x0, _noise(schedule, cases, x0), source=sources, source_scale=3.5)
        x = inversion.x[0]
        for i in range(len(schedule)):
            x = inversion.replay(i, x, _guided(denoise, x, i, targets, _scale(settings)), None)
        return Outcome(x, None, denoise.evaluations)


def sdedit(backbone: NetworkBackbone, cases: Sequence[Asked], x0: Tensor, settings: Settings) -> Outcome:
    """SDEdit (Meng et al. 2022): noise the picture, then sample the target from there (DDIM)."""
    schedule = backbone.schedule(settings.steps, settings.skip)
    x = schedule.alpha[0] * x0 + schedule.sigma[0] * _noise(schedule, cases, x0)[0]
    with backbone.denoiser(schedule, maps=False) as denoise:
        targets = _captions(backbone, cases)[1]
        return Outcome(_ddim(denoise, schedule, x, targets, settings), None, denoise.evaluations)


def ddim(backbone: NetworkBackbone, cases: Sequence[Asked], x0: Tensor, settings: Settings) -> Outcome:
    """DDIM inversion of the source's caption (Song et al. 2021), then DDIM for the target's with guidance."""
    schedule = backbone.schedule(settings.steps, settings.skip)
    sources, targets = _captions(backbone, cases)
    with backbone.denoiser(schedule, maps=False) as denoise:
        x = _ddim_inverse(denoise, schedule, x0, sources)
        return Outcome(_ddim(denoise, schedule, x, targets, settings), None, denoise.evaluations)


def prompt_to_prompt(backbone: NetworkBackbone, cases: Sequence[Asked], x0: Tensor, settings: Settings) -> Outcome:
    """Attention control in the way of Prompt-to-Prompt (Hertz et al. 2022), after DDIM inversion."""
    schedule = backbone.schedule(settings.steps, settings.skip)
    sources, targets = _captions(backbone, cases)
    with backbone.denoiser(schedule, maps=False) as denoise:
        x = _ddim_inverse(denoise, schedule, x0, sources)
        evaluations = denoise.evaluations
    share = 0.8 if settings.threshold is None else settings.threshold
    assert isinstance(backbone, LatentUNet)
    x, more = attention_control.edit(
        backbone, schedule, x, sources, targets, scale=_scale(settings), share=share
    )  # fmt: skip
    return Outcome(x, None, evaluations + more)


def flowedit(backbone: NetworkBackbone, cases: Sequence[Asked], x0: Tensor, settings: Settings) -> Outcome:
    """FlowEdit (Kulikov et al. 2024, arXiv 2412.08629, Algorithm 1): from the source to the target with no inversion.

    In each step new noise, the source with it, and the edited picture with it; their velocities' difference moves the
    picture. The source's caption guides by 1 plus a fifth of what the target's exceeds 1, as published for SD3 (3.5 and
    13.5).
    """
    schedule = backbone.schedule(settings.steps, settings.skip)
    (sources, targets), noise, x = _captions(backbone, cases), _noise(schedule, cases, x0), x0
    scale = _scale(settings)
    with backbone.denoiser(schedule, maps=False) as denoise:
        for i in range(len(schedule)):
            alpha, sigma = schedule.alpha[i], schedule.sigma[i]
            source = alpha * x0 + sigma * noise[i]
            edited = source + (x - x0)
            before = (source - _guided(denoise, source, i, sources, 1 + (scale - 1) / 5)) / sigma
            after = (edited - _guided(denoise, edited, i, targets, scale)) / sigma
            x = x + (schedule.sigma[i + 1] - sigma) * (after - before)
        return Outcome(x, None, denoise.evaluations)


def _concepts(backbone: NetworkBackbone, cases: Sequence[Asked], settings: Settings) -> list[Concept]:
    """What LEDITS++ is asked for by words."""
    return _together(
        [
            [
                concept
                for edit in case.edits
                for concept in by_words(
                    replace(edit, scale=settings.scale, threshold=settings.threshold), backbone.defaults
                )
            ]
            for case in cases
        ]
    )


def _together(asked: Sequence[Sequence[Concept]]) -> list[Concept]:
    """One concept for all cases at once at each place, each case with its own words."""
    return [replace(group[0], prompt=tuple(c.prompt for c in group)) for group in zip(*asked, strict=True)]


def _noise(schedule: Schedule, cases: Sequence[Asked], x0: Tensor) -> Tensor:
    """Noise (n b c h w), each picture's drawn from its case's own seed."""
    return torch.cat([editor.noise(len(schedule), x0.shape[1:], case.case.seed) for case in cases], 1).to(x0.device)


def _captions(backbone: NetworkBackbone, cases: Sequence[Asked]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The captions before and after all edits."""
    world = suits.world(backbone.name)
    sources, targets = zip(*(case.before_and_after(world) for case in cases), strict=True)
    return sources, targets


def _scale(settings: Settings) -> float:
    return 3.5 if settings.scale is None else settings.scale


def _guided(denoise: Denoiser, x: Tensor, i: int, targets: Prompt, scale: float) -> Tensor:
    """The clean picture that classifier-free guidance predicts (b c h w)."""
    null, target = denoise(x[None], [i], ["", targets])[0][:, 0]
    return null + scale * (target - null)


def _ddim(denoise: Denoiser, schedule: Schedule, x: Tensor, targets: Prompt, settings: Settings) -> Tensor:
    for i in range(len(schedule)):
        x0 = _guided(denoise, x, i, targets, _scale(settings))
        eps = (x - schedule.alpha[i] * x0) / schedule.sigma[i]
        x = schedule.alpha[i + 1] * x0 + schedule.sigma[i + 1] * eps
    return x


def _ddim_inverse(denoise: Denoiser, schedule: Schedule, x: Tensor, sources: Prompt) -> Tensor:
    """From the picture up to level 0; each step takes the noise to be what the network sees at the noisier level."""
    for i in reversed(range(len(schedule))):
        seen = denoise(x[None], [i], [sources])[0][0, 0]
        eps = (x - schedule.alpha[i] * seen) / schedule.sigma[i]
        x0 = (x - schedule.sigma[i + 1] * eps) / schedule.alpha[i + 1]
        x = schedule.alpha[i] * x0 + schedule.sigma[i] * eps
    return x


def _grid(
    skips: Sequence[float], scales: Sequence[float], thresholds: Sequence[float | None] = (None,)
) -> tuple[Settings, ...]:
    return tuple(Settings(skip=a, scale=b, threshold=c) for a, b, c in product(skips, scales, thresholds))


RULES: tuple[core.MaskRule, ...] = ("attention", "noise", "intersect")
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
MASKS = tuple(Settings(threshold=t, mask=rule) for rule in RULES for t in THRESHOLDS)
REGIONS = tuple(Settings(threshold=t) for t in (*THRESHOLDS, None))
# 12 settings for each: what masks or attention control leave to choose, the others get in finer steps of guidance.
# A new background needs masks that leave less than half of the picture alone.
_OURS = _grid((0.05, 0.1), (2.0, 2.5, 3.0), (None, 0.8))
_MASKED = _grid((0.1, 0.35), (3.0, 6.0, 10.0), (0.3, 0.75))
_PLAIN = _grid((0.1, 0.25, 0.4), (2.0, 3.5, 5.0, 7.5))
METHODS = {
    "ours": Method("ours", ours, 25, _OURS, REGIONS),
    "ours-composite": Method("ours, composite", ours, 25, _OURS, composite=True),
    "words": Method("LEDITS++ by words, this package", words, 25, _MASKED, MASKS, by_words=True),
    "diffusers": Method(
        "LEDITS++ in diffusers, as installed", installed, 1, _MASKED, by_words=True, own_attention=True
    ),
    "diffusers-mended": Method(
        "LEDITS++ in diffusers, final sigma mended", mended, 1, _MASKED, by_words=True, own_attention=True
    ),
    "edit-friendly": Method("edit-friendly DDPM inversion", edit_friendly, 16, _PLAIN),
    "sdedit": Method("SDEdit", sdedit, 16, _PLAIN),
    "ddim": Method("DDIM inversion", ddim, 16, _PLAIN),
    "prompt-to-prompt": Method(
        "Prompt-to-Prompt", prompt_to_prompt, 10, _grid((0.1, 0.25, 0.4), (3.5, 7.5), (0.4, 0.8)), own_attention=True
    ),
    "flowedit": Method("FlowEdit", flowedit, 16, _PLAIN, flows=True),
}


def running_on(*, flow: bool) -> list[str]:
    """The methods that run on a flow transformer, or on a UNet."""
    return [name for name, method in METHODS.items() if not (method.own_attention if flow else method.flows)]
