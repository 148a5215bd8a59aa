"""LEDITS++ (Brack et al. 2024, arXiv 2311.16711): invert a picture exactly, replay it with guidance inside masks.

One picture of the world, diffusion and flow matching alike: x = alpha * x0 + sigma * eps. A network returns x0, the
clean picture it predicts; eps, v and flow are affine in it at a fixed (x, level) and guidance weights sum to one, so
that guiding x0 gives the same steps and the same masks as guiding eps.

Axes: l levels, p prompts, k edits, b pictures, c channels, h w latent grid. A level i runs from 0, the noisiest kept,
to n, the clean picture. The solver's arithmetic is fp32, whatever the network computes in.
"""

import math
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Prompt = Hashable  # for the denoiser alone to read: a text for every picture, or a tuple with one for each
MaskRule = Literal["intersect", "attention", "noise", "none"]
WITH_MAPS = ("intersect", "attention")  # the rules that look at attention


class Denoiser(Protocol):
    """A network behind one verb; `evaluations` counts the samples that went through it."""

    evaluations: int
    precision: float  # how far rounding may set two predictions of one thing apart, relative to their root mean square

    def __call__(self, x: Tensor, levels: Sequence[int], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor | None]:
        """Clean pictures (p l b c h w) predicted from x (l b c h w) at `levels`, one set a prompt, and where each
        prompt's words are: attention summed over their tokens (p l b h' w'), None where maps are not recorded.
        """
        ...


@dataclass(frozen=True)
class Schedule:
    """Noise levels, noisy to clean: x_i = alpha[i] x0 + sigma[i] eps, i = 0..n; t[i] is what the network is told."""

    t: tuple[float, ...]
    alpha: tuple[float, ...]
    sigma: tuple[float, ...]
    order: int = 2  # of the solver; 1 is DDIM with eta = 1, that is DDPM
    noised: tuple[tuple[float, ...], tuple[float, ...]] | None = None  # alpha, sigma of `invert` alone (TurboEdit)

    def __post_init__(self) -> None:
        if not len(self.t) + 1 == len(self.alpha) == len(self.sigma) or not self.t:
            raise ValueError(f"a schedule of {len(self.t)} steps needs one more alpha and sigma and at least one step")
        if self.order not in (1, 2):
            raise ValueError(f"solver order {self.order}: 1 and 2 are accepted")
        if any(s <= 0 for s in self.sigma[:-1]) or any(a <= 0 for a in self.alpha[1:]):
            raise ValueError("only a schedule's last level may be free of noise, and only its first may be all noise")

    def __len__(self) -> int:
        return len(self.t)

    def decay(self, i: int) -> float:
        """exp(-h) of step i, where h is how much its half log-SNR, log(alpha / sigma), grows."""
        return self.alpha[i] * self.sigma[i + 1] / (self.sigma[i] * self.alpha[i + 1])

    def mean(self, i: int, x: Tensor, x0: Tensor, previous: Tensor | None) -> Tensor:
        """Mean of level i + 1 given x and the prediction x0 at level i, and the prediction at level i - 1.

        SDE-DPM-Solver++ (Lu et al. 2022), midpoint form. It is of first order at the first step, and at a last step
        that ends free of noise, where the second-order term has no limit.
        """
        alpha, sigma, decay = self.alpha[i + 1], self.sigma[i + 1], self.decay(i)
        if self.order == 2 and previous is not None and decay > 0:
            x0 = x0 + 0.5 * self._growth(i) / self._growth(i - 1) * (x0 - previous)
        return sigma / self.sigma[i] * decay * x + alpha * (1 - decay**2) * x0

    def std(self, i: int) -> float:
        """Standard deviation of the noise of step i; residual / std is the published noise map z."""
        return self.sigma[i + 1] * math.sqrt(max(0.0, 1 - self.decay(i) ** 2))

    def _growth(self, i: int) -> float:
        decay = self.decay(i)
        return -math.log(decay) if decay > 0 else math.inf


@dataclass(frozen=True)
class Inversion:
    """A noisy path to a picture and what the network predicted along it: from `invert`, for `edit`."""

    schedule: Schedule
    x: Tensor  # (n+1 b c h w), noisy to clean; x[n] is the picture
    denoised: Tensor  # (n b c h w), clean pictures predicted, under the source prompt's guidance if there is one
    base_denoised: Tensor  # (n b c h w), those for the base prompt; `denoised` itself where no source prompt guides
    base_prompt: Prompt = ""  # what edits start from: the empty or negative prompt, or the caption (caption.py)
    source: Prompt = ""
    source_scale: float = 0.0  # 0 where there is no source prompt

    def residual(self, i: int) -> Tensor:
        """What step i adds to its mean on the way to the picture, (b c h w); over its std, the noise map z of Eq. 7."""
        previous = self.denoised[i - 1].float() if i else None
        return self.x[i + 1].float() - self.schedule.mean(i, self.x[i].float(), self.denoised[i].float(), previous)

    def replay(self, i: int, x: Tensor, x0: Tensor, previous: Tensor | None) -> Tensor:
        """Level i + 1 of a replay at x that predicts x0, and predicted `previous` at level i - 1: mean plus residual.

        The mean is linear, so mean(replay) + (path - mean(path)) = path + mean(replay - path). Written so, a replay
        that is on the path stays on it to the last bit: at a last step free of noise, where z = residual / 0 loses the
        picture, and however the path was rounded for storage.
        """
        x, x0 = x - self.x[i].float(), x0 - self.denoised[i].float()
        previous = previous - self.denoised[i - 1].float() if previous is not None else None
        return self.x[i + 1].float() + self.schedule.mean(i, x, x0, previous)


@dataclass(frozen=True, eq=False)
class Concept:
    """One edit: a prompt to move towards (scale > 0) or away from (scale < 0)."""

    prompt: Prompt
    scale: float = 5.0  # s_e of the paper
    threshold: float | None = 0.9  # share of the picture left alone, in [0, 1); lambda of the paper; None: no threshold
    warmup: int = 0  # first step that is guided
    cooldown: int | None = None  # first step that is guided no more; None: guided to the end
    region: Tensor | None = None  # (1 or b, 1, H, W) in 0..1, where this edit may act; any size, soft values allowed
    away: Prompt | None = None  # what the scale pushes away from; None: the base prompt, as in the paper

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"scale {self.scale} of {self.prompt!r}: a finite number is needed, such as 5 or -5")
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ValueError(
                f"threshold {self.threshold} of {self.prompt!r}: it is the share of the picture left alone, "
                "between 0 and 1, 0 itself accepted, such as 0 for a style and 0.9 for an object"
            )
        if self.warmup < 0 or (self.cooldown is not None and self.cooldown <= self.warmup):
            steps = f"steps {self.warmup} to {self.cooldown} of {self.prompt!r}"
            raise ValueError(f"{steps}: begin at 0 or later and end after that")

    def active(self, i: int) -> bool:  # without a scale it guides nothing and opens nothing
        return self.scale != 0 and self.warmup <= i and (self.cooldown is None or i < self.cooldown)


Mask = Callable[[int, Tensor, Tensor | None, Concept], Tensor]  # (step, psi, attention, concept) -> (b h w) in 0..1


@dataclass(frozen=True)
class Step:
    """One replayed step: the state it reached, the clean picture it saw, and what each edit's mask let through."""

    i: int
    x: Tensor  # (b c h w), at level i + 1
    x0: Tensor  # (b c h w), predicted at level i, guidance included
    guidance: Tensor  # (b c h w), what the edits added to x0
    masks: Tensor  # (k b h w) in 0..1; zero for an edit that was not active
    attention: Tensor | None  # (k' b h' w') of the k' active edits, before any smoothing; None where not recorded


def invert(
    denoise: Denoiser, schedule: Schedule, x0: Tensor, noise: Tensor, *, base_prompt: Prompt = "", source: Prompt = "",
    source_scale: float = 3.5, storage: torch.dtype = torch.float32,
) -> Inversion:  # fmt: skip
    """A path to the pictures x0 (b c h w) through `noise` (n b c h w), and the network's predictions along it.

    Edit-friendly DDPM inversion (Huberman-Spiegelglas et al. 2023): the levels are noised independently of each other
    (paper, Eq. 6), so the network can be asked about all of them at once. `base_prompt` is the empty or
    the negative prompt; a `source` prompt guides the path and its replay by `source_scale` (classifier-free guidance).
    """
    n, shape = len(schedule), (-1, 1, 1, 1, 1)
    if noise.shape != (n, *x0.shape):
        raise ValueError(f"noise of shape {tuple(noise.shape)} for {n} steps of pictures of shape {tuple(x0.shape)}")
    noised = schedule.noised or (schedule.alpha, schedule.sigma)
    alpha, sigma = (torch.tensor(v[:n], dtype=torch.float32).to(x0.device) for v in noised)
    x = alpha.view(shape) * x0.float() + sigma.view(shape) * noise.float()
    path = torch.cat([x, x0.float()[None]]).to(storage)
    return predict(denoise, schedule, path, base_prompt=base_prompt, source=source, source_scale=source_scale)


def predict(
    denoise: Denoiser, schedule: Schedule, path: Tensor, *, base_prompt: Prompt, source: Prompt, source_scale: float
) -> Inversion:
    """The inversion along a path (n+1 b c h w) that is noised already, as another inversion's is."""
    guided = source != "" and source_scale != 0
    prompts = [base_prompt, source] if guided else [base_prompt]
    predicted, _ = denoise(path[:-1].float(), range(len(schedule)), prompts)
    base_denoised = predicted[0].to(path.dtype)
    towards_source = source_scale * (predicted[-1] - predicted[0])
    denoised = (predicted[0] + towards_source).to(path.dtype) if guided else base_denoised
    return Inversion(schedule, path, denoised, base_denoised, base_prompt, source, source_scale if guided else 0.0)


def edit(
    denoise: Denoiser, inversion: Inversion, concepts: Sequence[Concept], mask: MaskRule | Mask = "intersect", *,
    rescale: float = 0.0, recorded: Sequence[Tensor] = (), begin: Tensor | None = None,
) -> Generator[Step, Tensor | None]:  # fmt: skip
    """Replay the sampler along `inversion` with one guidance term per concept; the last step yielded is the result.

    x0 = base + sum_k mask_k (away_k - base + scale_k (prompt_k - away_k)); where away is the base, it is the paper's.
    Until the first concept is active the replay is the path itself and the network is not asked; then only for the base
    prompt and the active concepts. Where all of these have an `away` of their own, base is what the path says.
    A tensor sent in after a step takes the place of its x; `begin` (b c h w) that of the path's first level.
    `rescale` draws the deviation of the guided x0 back to that of the concepts' own (Lin et al. 2023, section 3.4).
    `recorded` guidance (b c h w) of the first steps is used as it is, and no concept is asked there.
    """
    s = inversion.schedule
    check_windows(concepts, len(s))
    shape = mask if callable(mask) else partial(implicit_mask, rule=mask)
    asked = [inversion.base_prompt, inversion.source] if inversion.source_scale else [inversion.base_prompt]
    on_path, x, previous = begin is None, inversion.x[0].float() if begin is None else begin, None
    for i in range(len(s)):
        active = [k for k, c in enumerate(concepts) if c.active(i) and i >= len(recorded)]
        own = [concepts[k] for k in active]
        stored = on_path or (bool(own) and all(concept.away is not None for concept in own))
        prompts = [concept.prompt for concept in own]
        away = (concept.away for concept in own if concept.away is not None)
        seen, maps = _at(denoise, x, i, [*(() if stored else asked), *prompts, *away])
        base, unedited = inversion.base_denoised[i].float(), inversion.denoised[i].float()
        if not stored:
            near, scale = denoise.precision, inversion.source_scale
            base = snap_to_stored(seen[asked[0]], inversion.base_denoised[i], near)
            guided = seen[asked[0]] + scale * (seen[asked[-1]] - seen[asked[0]])
            unedited = snap_to_stored(guided, inversion.denoised[i], near * (abs(1 - scale) + abs(scale)))
        masks, guidance = x.new_zeros(len(concepts), x.shape[0], *x.shape[2:]), torch.zeros_like(unedited)
        for k, concept in zip(active, own, strict=True):
            start = base if concept.away is None else seen[concept.away]
            psi = concept.scale * (seen[concept.prompt] - start)  # paper, Eq. 10
            masks[k] = shape(i, psi, maps.get(concept.prompt), concept)
            change = psi if concept.away is None else start - base + psi
            guidance = guidance + masks[k][:, None] * change  # paper, Eq. 11 and 12
        x0 = unedited + (recorded[i].to(unedited) if i < len(recorded) else guidance)
        if rescale and active:
            meant = torch.stack([seen[prompt] for prompt in prompts]).mean(0)
            ratio = meant.std((1, 2, 3), keepdim=True) / x0.std((1, 2, 3), keepdim=True)
            x0 = x0 * (1 + rescale * (ratio - 1))
        x, previous = inversion.replay(i, x, x0, previous), x0
        on_path = on_path and not active and i >= len(recorded)
        attention = torch.stack([maps[prompt] for prompt in prompts]) if maps and prompts else None
        changed = yield Step(i, x, x0, x0 - unedited, masks, attention)
        if changed is not None:
            x, on_path = changed.float(), False


def check_windows(concepts: Sequence[Concept], steps: int) -> None:
    """Raise ValueError for a concept that would never act; surfaces call it before a long inversion."""
    for c in concepts:
        if c.warmup >= steps:
            raise ValueError(f"warm-up {c.warmup} of {c.prompt!r} is past the end: the steps are 0 to {steps - 1}")


def implicit_mask(i: int, psi: Tensor, attention: Tensor | None, concept: Concept, rule: MaskRule) -> Tensor:
    """Where one edit may act, (b h w) in 0..1: M1, M2 or both (paper, Eq. 12 to 14), within the concept's own region.

    psi (b c h w) is the scaled difference to the base prediction, attention (b h' w') is where the prompt's words are.
    """
    b, _, h, w = psi.shape
    own = torch.ones_like(psi[:, :1]) if concept.region is None else concept.region.to(psi)
    region = F.interpolate(own, (h, w), mode="area").expand(b, 1, h, w)
    found = [region[:, 0]]
    if rule in WITH_MAPS:
        if attention is None:
            raise ValueError(f"mask rule {rule!r} needs attention maps, and the denoiser records none")
        # Smooth, enlarge, then threshold: thresholding first would leave blocks as large as one cell of the map.
        large = F.interpolate(smooth(attention.float()[:, None]), (h, w), mode="bilinear")[:, 0]
        found.append(quantile_mask(large, concept.threshold, region[:, 0]))
    if rule in ("intersect", "noise"):
        found.append(quantile_mask((psi * region).abs().sum(1), concept.threshold, region[:, 0]))
    return math.prod(found[1:], start=found[0])


def quantile_mask(values: Tensor, threshold: float | None, region: Tensor) -> Tensor:
    """1 where values (b h w) reach their `threshold` quantile in the region, else 0: a share of 1 - threshold."""
    if threshold is None:
        raise ValueError("an implicit mask needs a threshold, the share of the picture left alone, such as 0.9")
    inside = torch.where(region > 0, values, torch.nan).flatten(1)
    # "higher" is one of the values itself: a number between two of them by interpolation might round to either.
    return (values >= inside.nanquantile(threshold, 1, interpolation="higher")[:, None, None]).to(values)


def smooth(maps: Tensor) -> Tensor:
    """3x3 smoothing (b 1 h w) with the kernel of the published code: exp(-(d / (2 * 0.5))^2), normalised."""
    kernel = torch.tensor([math.exp(-1), 1.0, math.exp(-1)], dtype=torch.float32, device=maps.device)
    kernel = kernel / kernel.sum()
    pad = "reflect" if min(maps.shape[-2:]) > 1 else "replicate"
    return F.conv2d(F.pad(maps, (1, 1, 1, 1), mode=pad), torch.outer(kernel, kernel)[None, None])


def snap_to_stored(predicted: Tensor, stored: Tensor, precision: float) -> Tensor:
    """`stored` in fp32 where `predicted` differs from it by rounding alone: of storage, and of the network itself."""
    stored, storage = stored.float(), torch.finfo(stored.dtype).eps
    rounding = storage * stored.abs() + precision * stored.square().mean((1, 2, 3), keepdim=True).sqrt()
    return torch.where((predicted - stored).abs() <= rounding, stored, predicted)


def _at(
    denoise: Denoiser, x: Tensor, i: int, prompts: Sequence[Prompt]
) -> tuple[dict[Prompt, Tensor], dict[Prompt, Tensor]]:
    """Each prompt's prediction (b c h w) and map (b h' w') at one level; no maps where none are recorded."""
    if not (once := list(dict.fromkeys(prompts))):
        return {}, {}
    predicted, maps = denoise(x[None], [i], once)
    found = {} if maps is None else dict(zip(once, maps[:, 0], strict=True))
    return dict(zip(once, predicted[:, 0], strict=True)), found
