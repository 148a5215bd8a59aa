"""What the network is told and answers here, beside what it is told and answers in diffusers' own pipeline.

Both work with the same parts. diffusers' pipeline runs until the network has answered once; here it is asked the same
prompt at the same noise level, of the same latents.
"""

import inspect
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ledits.backbones import zeros
from ledits.backbones.flux import GUIDANCE
from ledits.backbones.network import NetworkBackbone
from ledits.backbones.own_pipeline import arguments, pipeline
from ledits.backbones.reading import quiet
from ledits.backbones.schedule import is_flow
from ledits.method.core import Schedule

# How a pipeline is asked for a single answer without guidance; FLUX's networks are told a number of it.
_ALONE = {"true_cfg_scale": 1.0, "use_resolution_binning": False, "num_inference_steps": 1}
_UNGUIDED = {"ZImagePipeline": 0.0, "Krea2Pipeline": 0.0}
ANSWER = "the network's answer"


class _Enough(Exception):
    """The network has answered."""


def compare(backbone: NetworkBackbone, prompt: str, side: int) -> dict[str, float]:
    """How far what the network is told, by the names of its arguments, and what it answers are from diffusers', each
    relative to its own size; for pictures of side x side pixels. ValueError where it can't be told.
    """
    if backbone.made_of is None or getattr(backbone, "guidance", None) is not None:
        raise ValueError("diffusers' own pipeline tells such a network something else, so that they can't be compared")
    family, parts, index = backbone.made_of
    scheduler: Any = getattr(backbone, "scheduler", {})
    flow, net = is_flow(scheduler), getattr(backbone.net, "_orig_mod", backbone.net)
    kind: Any = FlowMatchEulerDiscreteScheduler if flow else DDIMScheduler
    # A single step at a terminal level is one by zero in diffusers.
    plain = {"shift_terminal": None} if flow else {"clip_sample": False}
    pipe = pipeline(family, parts, index, kind.from_config(scheduler, **plain))
    if not hasattr(pipe, "blocks"):
        pipe.set_progress_bar_config(disable=True)
    if family == "QwenImage21Pipeline":
        pipe.vae_scale_factor = backbone.factor  # its own is a number, whatever its autoencoder is
    guided = GUIDANCE if getattr(net.config, "guidance_embeds", False) else _UNGUIDED.get(family, 1.0)
    said = {**_ALONE, "guidance_scale": guided, "prompt": prompt, "height": side, "width": side,
            "generator": torch.Generator().manual_seed(0)}  # fmt: skip
    taken = arguments(pipe)
    theirs = dict[str, Any]()
    with quiet(), _unreported(), zeros.unmerged(net), _masking(net), _heard(net, theirs, None):
        try:
            pipe(**{name: value for name, value in said.items() if name in taken})
        except _Enough:
            pass
        except Exception as error:  # whatever a pipeline says of parts that are ours
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"diffusers' own pipeline does not run: {reason}") from error
    if ANSWER not in theirs:
        raise ValueError("diffusers' own pipeline never asked the network")
    sigma = float(pipe.scheduler.sigmas[0]) if flow else 0.5
    level = Schedule((float(pipe.scheduler.timesteps[0]),), (1 - sigma, 1.0), (sigma, 0.0))
    ours, nothing = dict[str, Any](), torch.zeros(1, 3, side, side)
    with _heard(net, ours, theirs), backbone.denoiser(level, maps=False) as denoise, suppress(_Enough):
        denoise(backbone.encode(nothing)[None], [0], [prompt])
    return {name: away for name in (*ours, ANSWER) if (away := _away(ours.get(name), theirs.get(name))) is not None}


@contextmanager
def _unreported() -> Generator[None]:
    """While modular pipelines don't log what ends them, which is what stops them here."""
    logger = logging.getLogger("diffusers.modular_pipelines.modular_pipeline")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextmanager
def _masking(net: Any) -> Generator[None]:
    """Anima's network as diffusers has it, which asks torchvision for an empty mask, and not as anima.py has it."""
    settled = getattr(net.config, "concat_padding_mask", False) is None
    if settled:
        net.register_to_config(concat_padding_mask=True)
    try:
        yield
    finally:
        if settled:
            net.register_to_config(concat_padding_mask=None)


@contextmanager
def _heard(net: Any, into: dict[str, Any], instead: Mapping[str, Any] | None) -> Generator[None]:
    """What the network is told and answers the first time that it is asked; its picture is taken from `instead`."""
    form = inspect.signature(net.forward)
    picture = next(iter(form.parameters))

    def before(_: Any, args: Any, kwargs: Any) -> Any:
        told = form.bind(*args, **kwargs)
        if instead is not None:
            told.arguments[picture] = instead[picture]
        into.update(told.arguments)
        return told.args, told.kwargs

    def after(_: Any, args: Any, kwargs: Any, answer: Any) -> None:
        into[ANSWER] = answer[0] if isinstance(answer, tuple) else answer.sample
        raise _Enough

    hooks = [
        net.register_forward_pre_hook(before, with_kwargs=True),
        net.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _away(ours: Any, theirs: Any) -> float | None:
    """How far numbers are from others of the same shape; None where there are none to compare."""
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        pairs = zip(cast("list[Any]", ours), cast("list[Any]", theirs), strict=False)
        return max((away for a, b in pairs if (away := _away(a, b)) is not None), default=None)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = cast("dict[str, Any]", ours)
        return _away(list(names.values()), [cast("dict[str, Any]", theirs).get(name) for name in names])
    if not isinstance(ours, Tensor) or not isinstance(theirs, Tensor) or ours.numel() != theirs.numel():
        return None
    a, b = ours.flatten().double(), theirs.flatten().double()
    return float((a - b).norm() / b.norm().clamp(min=1e-12))
