"""What a network's own predictions say of its checkpoint's claims: what it predicts, at which levels, of latents how
large.

Each claim says what the network has to see in a picture that was noised by a known amount. A claim is put to the test
beside the others that might be true in its place, at the same ratios of picture to noise, so that none has the easier
task: the right one leaves the least of what is unknown.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ledits.backbones.network import PREDICTIONS, NetworkBackbone
from ledits.backbones.schedule import from_config
from ledits.method.core import Schedule

RATIOS = (2.0, 1.0, 0.5, 0.25)  # of alpha to sigma: from a little noise to almost nothing else
_FINE = (250, 50, 8, 4, 1)  # levels to choose from; models that were distilled know few
# Schedules that networks are trained with.
_SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "linear": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2", "beta_start": 0.0001, "beta_end": 0.02},
}
_BETTER = 0.8  # of the error: what another reading has to be under, to be believed
_KNOWS = 0.9  # of what is left by who knows nothing but how large latents are: a network that was trained is under it
_STEP, _MOST = 2**0.5, 8.0  # of sizes that are tried
_EQUAL = 0.02  # of alpha: schedules that are nearer are one
_FEW = 2  # pictures, where each says nearly the same
_NOISY = (0.7, 0.5, 0.35, 0.25, 0.18)  # ratios where the noise that a network keeps is looked for
_NUMBERS = 2**16  # of latents, that are enough for it
_KEPT = 0.03  # of the noise: what is kept without a reason; where the flag is wrong it is 0.04 to 0.07


@dataclass(frozen=True)
class Reading:
    """What may be true of a network."""

    prediction: str
    levels: Schedule  # to choose from
    size: float = 1.0  # of the latents it was trained on, over those that the checkpoint makes


@dataclass
class Found:
    """What is left of the unknown under each reading, by name; the checkpoint's own is ""."""

    errors: dict[str, float] = field(default_factory=dict[str, float])
    tried: dict[str, Reading] = field(default_factory=dict[str, Reading])
    kept: dict[str, float] = field(default_factory=dict[str, float])  # of the noise, under two ends of one schedule

    @property
    def size(self) -> float:
        """Of latents that the network sees the most in, over the checkpoint's."""
        return self.tried[SIZE].size

    @property
    def believed(self) -> Reading:
        return self.tried[self.best]

    @property
    def best(self) -> str:
        """The reading that explains the network best, where it is one that can be believed; else the own."""
        name = min(self.errors, key=lambda each: self.errors[each])
        if self.errors[name] < _BETTER * self.errors[""] and self._explains(name):
            return name
        least = min(self.kept, key=lambda each: abs(self.kept[each]), default="")
        own = abs(self.kept.get("", 0.0))
        return least if own > _KEPT and abs(self.kept[least]) < own / 2 else ""

    @property
    def trained(self) -> bool:
        return any(map(self._explains, self.errors))

    def _explains(self, name: str) -> bool:
        """Whether a reading tells the network from one that knows nothing; a size was chosen among many."""
        return self.errors[name] < _KNOWS * (_BETTER if name == SIZE else 1)


SIZE = "latents of another size"  # a reading's name


def compare(backbone: NetworkBackbone, x0: Tensor, own: Schedule) -> Found:
    """The readings that might be true of a network, on latents x0 (b c h w) of ordinary pictures."""
    first, few = Reading(backbone.prediction, own), x0[:_FEW]
    found = Found(tried={"": first, **_others(backbone, own)})
    for name, reading in found.tried.items():
        found.errors[name] = left(backbone, few, reading)
    found.tried[SIZE], found.errors[SIZE] = _size(backbone, few, first, found.errors[""])
    ends = _other_end(backbone, own)
    if found.trained and not found.best and ends:
        found.tried.update(ends)
        enough = x0[: max(1, _NUMBERS // x0[0].numel())]
        found.kept = {name: kept(backbone, enough, found.tried[name]) for name in ("", *ends)}
    return found


def levels(backbone: NetworkBackbone, side: int) -> Schedule:
    """As many levels as the checkpoint knows, for pictures of side x side pixels."""
    for count in _FINE:
        try:
            return backbone.schedule(count, 0.0, side, side)
        except ValueError:
            continue
    return backbone.schedule(1, 0.5, side, side)


def at(reading: Reading, ratios: Sequence[float] = RATIOS) -> Schedule:
    """The levels of a reading at which picture and noise have these ratios, as nearly as it has them."""
    s = reading.levels

    def away(i: int, ratio: float) -> float:
        return abs(math.log(s.alpha[i] * reading.size / s.sigma[i] / ratio))

    usable = [i for i in range(len(s)) if s.alpha[i] > 0]
    chosen = [min(usable, key=lambda i: away(i, ratio)) for ratio in ratios]
    return Schedule(
        tuple(s.t[i] for i in chosen), (*(s.alpha[i] for i in chosen), 1.0), (*(s.sigma[i] for i in chosen), 0.0)
    )


def noised(x0: Tensor, schedule: Schedule, seed: int) -> Tensor:
    """x0 (b c h w) at each level (n b c h w), by the same noise whatever the levels are."""
    noise = torch.randn(len(schedule), *x0.shape, generator=torch.Generator().manual_seed(seed)).to(x0.device)
    return torch.stack([schedule.alpha[i] * x0 + schedule.sigma[i] * noise[i] for i in range(len(schedule))])


def left(backbone: NetworkBackbone, x0: Tensor, reading: Reading) -> float:
    """What a network leaves of pictures, over what is left by who knows nothing but how large latents are."""
    schedule = at(reading)
    try:
        with read_as(backbone, reading), backbone.denoiser(schedule, maps=False) as denoise:
            seen = denoise(noised(reading.size * x0, schedule, 0), range(len(schedule)), [""])[0][0]
    except ValueError:  # what it sees is no number
        return math.inf
    size = float(x0.square().mean().sqrt())
    shares = list[float]()
    for i, each in enumerate(seen):
        blind = 1 / math.hypot(1, size * reading.size * schedule.alpha[i] / schedule.sigma[i])
        shares.append(float((each / reading.size - x0).norm() / x0.norm()) / blind)
    return sum(shares) / len(shares) if all(map(math.isfinite, shares)) else math.inf


def kept(backbone: NetworkBackbone, x0: Tensor, reading: Reading) -> float:
    """How much of the noise is in what a network gets wrong of pictures x0 (b c h w), where there is little but noise.

    Of a network that was trained it is none: what is wrong has nothing in common with what was shown, or training would
    have found it. Told another level than the picture's, it takes away too much noise or too little. That changes
    what is left unknown by a hundredth, and so it is looked for by itself: in the finest detail, where pictures have
    the least, and followed to where there is no picture.
    """
    schedule = at(reading, _NOISY)
    x = noised(x0, schedule, 3)
    with read_as(backbone, reading), backbone.denoiser(schedule, maps=False) as denoise:
        wrong = denoise(x, range(len(schedule)), [""])[0][0] - x0
    fine, shown = _finest(wrong), _finest(x)
    shares = (fine * shown).flatten(1).sum(1) / shown.square().flatten(1).sum(1)
    alpha = torch.tensor(schedule.alpha[:-1]).to(shares)
    away = alpha - alpha.mean()
    return float(shares.mean() - alpha.mean() * (away * shares).sum() / away.square().sum())


def _finest(x: Tensor) -> Tensor:
    """What no parabola explains of each number's neighbours, down and across; (... h w), two smaller."""
    for dim in (-1, -2):
        x = x.diff(2, dim)
    return x


@contextmanager
def read_as(backbone: Any, reading: Reading) -> Generator[None]:
    """A network as if it predicted what a reading says, inside the block; a transformer is told times of that kind."""
    kept = {name: getattr(backbone, name) for name in ("prediction", "flow") if hasattr(backbone, name)}
    backbone.prediction = reading.prediction
    if "flow" in kept:
        backbone.flow = reading.prediction == "flow_prediction"
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(backbone, name, value)


def _others(backbone: NetworkBackbone, own: Schedule) -> dict[str, Reading]:
    """What else a network may predict, and at which other levels."""
    config: Mapping[str, Any] = getattr(backbone, "scheduler", {})
    train, count = int(config.get("num_train_timesteps", 1000)), len(own)
    said, found = backbone.prediction, dict[str, Reading]()
    if count < max(_FINE):  # one that knows a few times alone is of its scheduler's kind
        return {name: Reading(name, own) for name in PREDICTIONS[:3] if said not in (name, "flow_prediction")}
    flow = from_config({"shift": 1.0, "num_train_timesteps": train}, count, 0.0)
    usual = {**_SCHEDULES["scaled_linear"], "num_train_timesteps": train}
    diffusion = from_config(usual, count, 0.0) if said == "flow_prediction" else own
    for kind in PREDICTIONS:
        if kind != said:
            name = f"prediction_type {kind}"
            found[name] = Reading(kind, flow if kind == "flow_prediction" else diffusion)
    if said != "flow_prediction":
        for name, betas in _SCHEDULES.items():
            other = from_config({**config, **betas, "trained_betas": None}, count, 0.0)
            if max(abs(a - b) for a, b in zip(own.alpha, other.alpha, strict=True)) > _EQUAL:
                found[f"beta_schedule {name}"] = Reading(said, other)
    return found


def _other_end(backbone: NetworkBackbone, own: Schedule) -> dict[str, Reading]:
    """The same betas with the other end: nothing but noise at the last level, or a little of the picture."""
    config: Mapping[str, Any] = getattr(backbone, "scheduler", {})
    said = bool(config.get("rescale_betas_zero_snr"))
    if backbone.prediction == "flow_prediction" or len(own) < max(_FINE):
        return {}
    if backbone.prediction == "epsilon" and not said:  # which can't be trained with such an end
        return {}
    other = from_config({**config, "rescale_betas_zero_snr": not said}, len(own), 0.0)
    return {f"rescale_betas_zero_snr {str(not said).lower()}": Reading(backbone.prediction, other)}


def _size(backbone: NetworkBackbone, x0: Tensor, own: Reading, error: float) -> tuple[Reading, float]:
    """How large latents have to be for the network to see the most in them, and what it leaves of them then.

    From the checkpoint's own size it goes to where less is left, and takes the lowest point of the parabola there.
    """
    tried = {1.0: error}

    def ask(size: float) -> float:
        if size not in tried:
            tried[size] = left(backbone, x0, replace(own, size=size))
        return tried[size]

    best = min((1 / _STEP, 1.0, _STEP), key=ask)
    way = _STEP if best > 1 else 1 / _STEP
    while best != 1 and 1 / _MOST < best < _MOST and ask(best * way) < ask(best):
        best *= way
    low, middle, high = (ask(best * step) for step in (1 / _STEP, 1.0, _STEP))
    bend = low - 2 * middle + high
    if all(map(math.isfinite, (low, middle, high))) and bend > 0:
        best *= _STEP ** ((low - high) / (2 * bend))
    return replace(own, size=best), ask(best)
