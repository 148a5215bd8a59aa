"""A Schedule from a diffusers scheduler or its config: which noise levels to keep, what the network is told at each."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ledits.method.core import Schedule

_FEW = 8  # steps of models that are distilled to few
# sigma of a flow where alpha / sigma is that of Stable Diffusion at skip 0.15, where the authors begin.
_START = 0.866

Shift = Callable[[int, float], float]  # (tokens of the picture, steps without skip) -> the shift of its levels


def consistency(config: Mapping[str, Any]) -> bool:
    """Whether the config is of a consistency model (LCM, TCD), which knows the times of its own grid only."""
    return config.get("_class_name") in ("LCMScheduler", "TCDScheduler")


def from_config(
    config: Mapping[str, Any], steps: int, skip: float, order: int = 2, *, time_shift: float = 0.0,
    tokens: int | None = None, shift: Shift | None = None, levels: Sequence[float] = (),
) -> Schedule:  # fmt: skip
    """`steps` levels below the noisiest share `skip` of the training times, and the clean picture.

    Times are spaced as in the authors' code (method.md A.5): evenly from (1 - skip) T - 1 down to 1, then to 0, where a
    diffusion model's sigma is small and not zero. A flow model goes down to sigma = 0, by levels that are spaced evenly
    before they are shifted; `tokens` of the picture say how far, in models that shift by its size, and `shift` says it
    in place of the config. `levels` are those that a flow was distilled for, from 1 down and without 0: they are taken
    in place of even ones, and what lies between two of them is interpolated.

    A config with "trailing" spacing, as Turbo, Lightning and Hyper models have, has the times that such a model was
    distilled for: T (1 - skip) (n - i) / n - 1, so that no step is spent on t = 1 (Lin et al. 2023, section 3.3). At up
    to 8 such steps, and 8 of a flow model, the solver is of first order, for the second extrapolates from a picture
    that was seen much earlier. A consistency model has the times of its scheduler, and always first order.

    `time_shift`, a share of the training times from 0 to below 1, noises the path at levels that lie this much below
    those which the network and the solver are told; at time 0 and below it is the picture itself. TurboEdit (Deutch et
    al. 2024, arXiv 2408.00735) has 0.2: noise maps between independently noised levels are larger than a sampler's, and
    in few steps they look to the network like those of a noisier time.

    Raises ValueError for steps, skip or shift out of range, and for a kind of schedule that is not known.
    """
    _check(steps, skip)
    train = int(config.get("num_train_timesteps", 1000))
    if not 0 <= time_shift < 1:
        raise ValueError(f"time shift {time_shift}: it is a share of the training times from 0 to below 1, such as 0.2")
    if is_flow(config):
        if time_shift:
            raise ValueError(f"time shift {time_shift}: flow models have no training times to shift, leave it out")
        return _flow(config, steps, skip, order, train, tokens, shift, levels)
    if "beta_schedule" not in config:
        kind = config.get("_class_name", "without beta_schedule")
        raise ValueError(f"scheduler {kind}: betas or a flow shift are needed")
    first = int(train * (1 - skip) - 1)
    if steps > first:
        raise ValueError(
            f"{steps} steps with skip {skip}: the model has {max(first, 0)} times to choose from, use fewer steps"
        )
    bars = _alpha_bars(config, train)
    if consistency(config):
        t, order = _consistency_times(config, steps, skip, train), 1
    elif config.get("timestep_spacing") == "trailing":
        t = [round((first + 1) * (steps - i) / steps) - 1 for i in range(steps)]
        order = 1 if steps <= _FEW else order
    else:
        t = [int(v) for v in torch.linspace(first, 1, steps, dtype=torch.float64)]
    lower = [v - round(time_shift * train) for v in t] if time_shift else []
    if lower and lower[0] <= 0:
        raise ValueError(f"time shift {time_shift} with skip {skip}: no level would hold noise, use less of either")
    noised = _levels([bars[v] if v > 0 else 1.0 for v in lower]) if lower else None
    return Schedule(tuple(map(float, t)), *_levels([bars[v] for v in (*t, 0)]), order, noised)


def _levels(bars: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(map(math.sqrt, bars)), tuple(math.sqrt(1 - bar) for bar in bars)


def _consistency_times(config: Mapping[str, Any], steps: int, skip: float, train: int) -> list[int]:
    """`steps` times of the grid that the model was distilled on, as diffusers' LCMScheduler has them.

    What its `strength` keeps is 1 - skip (Luo et al. 2023, arXiv 2310.04378, Algorithm 3).
    """
    grid = int(config.get("original_inference_steps", 50))
    # In floating point (1 - 0.9) * 50 is a little less than 5.
    count = int(round((1 - skip) * grid, 6))
    if steps > count:
        raise ValueError(f"{steps} steps with skip {skip}: this model was distilled on {count} times, use fewer steps")
    # Rounded as theirs: count / steps first.
    return [(count - int(i * (count / steps))) * (train // grid) - 1 for i in range(steps)]


def _alpha_bars(config: Mapping[str, Any], train: int) -> list[float]:
    """The share of signal power at every training time, in float64."""
    kind, start, end = config["beta_schedule"], config["beta_start"], config["beta_end"]
    if config.get("trained_betas") is not None:
        betas = torch.tensor(config["trained_betas"], dtype=torch.float64)
    elif kind == "linear":
        betas = torch.linspace(start, end, train, dtype=torch.float64)
    elif kind == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, train, dtype=torch.float64) ** 2
    elif kind == "squaredcos_cap_v2":  # Nichol and Dhariwal 2021
        bar = torch.cos((torch.arange(train + 1, dtype=torch.float64) / train + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
    else:
        raise ValueError(f"beta schedule {kind!r}: linear, scaled_linear and squaredcos_cap_v2 are known")
    bars = (1 - betas).cumprod(0)
    if config.get("rescale_betas_zero_snr"):  # Lin et al. 2023, Algorithm 1
        roots = bars.sqrt()
        bars = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    return bars.tolist()


def is_flow(config: Mapping[str, Any]) -> bool:
    """Whether the config is of a flow model; Sana's has betas as well, which it doesn't use."""
    return bool(config.get("use_flow_sigmas")) or ("beta_schedule" not in config and "shift" in config)


def flow_shift(config: Mapping[str, Any], tokens: int | None, steps: float) -> float:
    """How far a flow's levels are shifted to the noise: sigma = shift u / (1 + (shift - 1) u), for u from 1 to 0.

    Where the picture's size decides it, mu is linear in its tokens, and the shift is e^mu or mu (Esser et al. 2024,
    section 5.3.2; FLUX's code).
    """
    if not config.get("use_dynamic_shifting"):
        return float(config["flow_shift"] if config.get("use_flow_sigmas") else config["shift"])
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    mu = low + (high - low) * ((many if tokens is None else tokens) - few) / (many - few)
    return math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu


def flux_2_shift(tokens: int, steps: float) -> float:
    """The shift of FLUX.2's levels, which depends on the number of steps too (the figures are its pipeline's)."""
    many = 0.00016927 * tokens + 0.45666666  # mu of 200 steps, and of any number where the picture is large
    few = 8.73809524e-05 * tokens + 1.89833333  # of 10 steps
    return math.exp(many if tokens > 4300 else many + (few - many) * (200 - steps) / 190)


def flow_skip(shift: float, levels: Sequence[float] = ()) -> float:
    """The skip at which a flow of this shift begins at the signal-to-noise ratio of Stable Diffusion at skip 0.15."""
    start = _START / (shift - (shift - 1) * _START)
    if levels:  # how many of them lie below, and the share of the step to the next
        rising = (0.0, *reversed(levels))
        below = sum(level < start for level in rising) - 1
        start = (below + (start - rising[below]) / (rising[below + 1] - rising[below])) / len(levels)
    return round(1 - start, 2)


def _between(rising: Sequence[float], share: float) -> float:
    """The value at a share of the way through `rising` values; the share itself where there is one value alone."""
    if len(rising) == 1:
        return share
    below = min(int(share * (len(rising) - 1)), len(rising) - 2)
    part = share * (len(rising) - 1) - below
    return rising[below] * (1 - part) + rising[below + 1] * part


def _flow(
    config: Mapping[str, Any], steps: int, skip: float, order: int, train: int, tokens: int | None, how: Shift | None,
    levels: Sequence[float],
) -> Schedule:  # fmt: skip
    for name in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas"):
        if config.get(name):
            raise ValueError(
                f"this flow model's scheduler has {name}: switch it off, even and shifted levels are known"
            )
    whole = steps / (1 - skip)
    shift = flow_shift(config, tokens, whole) if how is None else how(tokens or 4096, whole)
    even = [_between((0.0, *reversed(levels)), (1 - skip) * (1 - i / steps)) for i in range(steps + 1)]
    sigma = [shift * s / (1 + (shift - 1) * s) for s in even]
    if (terminal := config.get("shift_terminal")) and whole >= 2:
        # The last level of all steps is drawn to this sigma, and the others with it (Qwen-Image).
        last = shift / (whole + shift - 1)
        stretch = (1 - last) / (1 - terminal)
        sigma = [*(1 - (1 - s) / stretch for s in sigma[:-1]), 0.0]
    return Schedule(
        tuple(train * s for s in sigma[:-1]), tuple(1 - s for s in sigma), tuple(sigma), 1 if steps <= _FEW else order
    )


def from_scheduler(
    scheduler: Any, steps: int, skip: float, *, as_diffusers: bool = False, as_authors: bool = False,
    tokens: int | None = None,
) -> Schedule:  # fmt: skip
    """The levels of a diffusers scheduler, read from a copy of it: its spacing, its sigmas, its last level, its order.

    It is set to the number of steps of which `steps` are left when the share `skip` of them, the noisiest, is left out.
    `as_diffusers` leaves out what diffusers' LEDITS++ does: the noisiest of int(steps * (1 + skip)) steps in leading
    spacing, which is never more than half of them (method.md A.5). `as_authors` has the times of the authors' code,
    which are `from_config`'s, whatever the scheduler's spacing.

    Raises ValueError for a scheduler that is no sampler with noise of order 1 or 2 in midpoint form.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    config = scheduler.config
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return from_config(config, steps, skip, tokens=tokens)
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        asked = {"algorithm_type": ("sde-dpmsolver++",), "solver_order": (1, 2), "solver_type": ("midpoint",)}
        for name, accepted in asked.items():
            if config[name] not in accepted:
                raise ValueError(
                    f"the scheduler's {name} is {config[name]!r}; inversion needs {' or '.join(map(repr, accepted))}: "
                    f"DPMSolverMultistepScheduler.from_config(scheduler.config, {name}={accepted[-1]!r})"
                )
    elif not isinstance(scheduler, DDIMScheduler):
        raise ValueError(
            f"scheduler {type(scheduler).__name__}: DPMSolverMultistepScheduler (sde-dpmsolver++), DDIMScheduler and "
            "FlowMatchEulerDiscreteScheduler are accepted"
        )
    _check(steps, skip)
    if as_authors:
        return from_config({**config, "timestep_spacing": "linspace"}, steps, skip, int(config.get("solver_order", 1)))
    total = int(steps * (1 + skip)) if as_diffusers else max(steps, round(steps / (1 - skip)))
    train = int(config["num_train_timesteps"])
    if total >= train:
        raise ValueError(f"{steps} steps with skip {skip} need {total} times and the scheduler has {train}: use fewer")
    spacing = "leading" if as_diffusers else config["timestep_spacing"]
    copy: Any = type(scheduler).from_config(config, timestep_spacing=spacing)
    copy.set_timesteps(total)
    t = copy.timesteps[-steps:]
    if isinstance(copy, DPMSolverMultistepScheduler):
        sigmas = copy.sigmas[-steps - 1 :].tolist()
        if config.get("use_flow_sigmas"):
            levels = [(1 - s, s) for s in sigmas]
        else:
            levels = [(1 / math.sqrt(1 + s**2), s / math.sqrt(1 + s**2)) for s in sigmas]
        order = int(config["solver_order"])
    else:
        bars = [*copy.alphas_cumprod[t].tolist(), float(copy.final_alpha_cumprod)]
        levels, order = [(math.sqrt(bar), math.sqrt(1 - bar)) for bar in bars], 1
    alpha, sigma = zip(*levels, strict=True)
    return Schedule(tuple(map(float, t.tolist())), alpha, sigma, order)


def _check(steps: int, skip: float) -> None:
    if steps < 1:
        raise ValueError(f"{steps} steps: at least 1 is needed, 20 to 50 are usual")
    if not 0 <= skip < 1:
        raise ValueError(
            f"skip {skip}: it is the share of the noisiest steps left out, from 0 to below 1, such as 0.15"
        )
