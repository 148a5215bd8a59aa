"""Diffusion UNets, on an autoencoder's latents or on pixels: Stable Diffusion, SDXL, DeepFloyd IF, and the like."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from ledits.backbones.attention import Layout
from ledits.backbones.codec import Autoencoder, Pixels
from ledits.backbones.network import PREDICTIONS, Net, NetworkBackbone, number
from ledits.backbones.schedule import consistency, from_config, is_flow
from ledits.backbones.texts import Text, stack
from ledits.files import checkpoints
from ledits.files.defaults import Defaults
from ledits.method.core import Schedule

# Of consistency models, whose predictions hold guidance already: 1.5 is TurboEdit's for the difference of two captions
# (Deutch et al. 2024); the other scales are those above over _GUIDANCE, by which such a network widens differences.
_CONSISTENCY_DEFAULTS = {
    "steps": 4, "add_scale": 1.5, "remove_scale": 1.0, "swap_new_scale": 1.5, "swap_old_scale": 1.0,
    "described_scale": 1.5,
}  # fmt: skip
# What a network that was distilled with guidance is told of it: the middle of what LCMs are trained for (Luo et al.
# 2023, w = 2 to 14, one less than this scale), and what their authors sample with.
_GUIDANCE = 8.0


class UNetPrompts(Protocol):
    """The text encoders of a UNet."""

    def embed(self, text: str, *, clip_skip: int | None = None) -> Text:
        """The prompt as the network takes it; `clip_skip` leaves out the last layers of the text encoder."""
        ...

    def conditions(self, texts: Sequence[Text], height: int, width: int) -> dict[str, Any]:
        """What else the network takes, one row a text, for pictures of height x width pixels."""
        ...


class LatentUNet(NetworkBackbone):
    """A backbone; see `ledits.backbones.Backbone`.

    `settings` are the checkpoint's own ledits.json: "map_scale", the latent side over the side of the attention maps to
    use, "time_shift" (see `schedule.from_config`), "guidance_scale", and "defaults". Without it the maps are those at a
    quarter of the latent side, as in the paper, or at the nearest level where the network attends to text; there is no
    shift; and a network that takes a guidance scale as an input (`time_cond_proj_dim`, as LCMs do) is told 8, for every
    prompt. `attention` goes to the network as its cross_attention_kwargs. Without a `vae` it works on pixels.
    """

    prompts: UNetPrompts

    def __init__(
        self,
        unet: Any,
        vae: Any,
        prompts: UNetPrompts,
        scheduler: Mapping[str, Any],
        *,
        name: str,
        fingerprint: str,
        settings: Mapping[str, Any] | None = None,
        device: torch.device | None = None,
        attention: Mapping[str, Any] | None = None,
        max_batch: int | None = None,
    ) -> None:
        settings = settings or {}
        self.unet, self.vae, self.scheduler, self.attention = unet, vae, dict(scheduler), attention
        self.prediction = self.scheduler.get("prediction_type") or "epsilon"
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"model {name!r} predicts {self.prediction!r}: {', '.join(PREDICTIONS)} are known")
        check_scheduler(self.scheduler, name)
        if refused := checkpoints.other_channels(unet.config, None if vae is None else vae.config):
            raise ValueError(f"model {name!r} can't be edited with: {refused}")
        self.map_scale = int(settings.get("map_scale") or _map_scale(unet.config.down_block_types))
        # DeepFloyd's layers attend to text and picture at once. The middle block is left out, as in the published code.
        self.at_once = any(block.startswith("SimpleCrossAttn") for block in unet.config.down_block_types)
        wanted = r"\d+\.attentions\.\d+" if self.at_once else r".*\.attn2"
        self.map_layers = [
            layer for layer, _ in getattr(unet, "_orig_mod", unet).named_modules()  # what torch.compile wraps
            if re.fullmatch(rf"(down|up)_blocks\.{wanted}", layer)
        ]  # fmt: skip
        self.time_shift = number(settings, "time_shift", 0.0, name)
        distilled = _CONSISTENCY_DEFAULTS if consistency(self.scheduler) else {}
        guidance = number(settings, "guidance_scale", _GUIDANCE, name)
        width = getattr(unet.config, "time_cond_proj_dim", None)
        self.guidance = _guidance(guidance, width) if width else None
        where: torch.device = device or unet.device
        codec = Pixels(where) if vae is None else Autoencoder(vae, where)
        super().__init__(
            codec, prompts, name=name, fingerprint=fingerprint, device=where, dtype=unet.dtype,
            # So that attention maps have whole sides; a UNet on pixels halves them three times.
            multiple=8 if vae is None else codec.factor * max(4, self.map_scale),
            area=(codec.factor * int(unet.config.sample_size)) ** 2,
            defaults=Defaults().changed(distilled, settings.get("defaults", {})), max_batch=max_batch,
        )  # fmt: skip

    @property
    def net(self) -> Any:
        return self.unet

    def schedule(self, steps: int, skip: float, height: int | None = None, width: int | None = None) -> Schedule:
        return from_config(self.scheduler, steps, skip, time_shift=self.time_shift)

    def predict(self, net: Net, x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor, texts: Sequence[Text]) -> Tensor:
        height, width = (self.factor * side for side in x.shape[-2:])
        conditions = self.prompts.conditions(texts, height, width)
        if texts[0].image is not None:
            images = zip(*(cast("tuple[Tensor, ...]", text.image) for text in texts), strict=True)
            conditions["image_embeds"] = [torch.stack(each) for each in images]
        output = net(
            x.to(self.dtype),
            t,
            stack(texts),
            timestep_cond=None if self.guidance is None else self.guidance.to(x.device, self.dtype).expand(len(x), -1),
            added_cond_kwargs=conditions or None,
            cross_attention_kwargs=dict(self.attention) if self.attention else None,
        ).sample
        # Some predict a variance as well, in channels of its own.
        return self.clean(x, alpha, sigma, output[:, : x.shape[1]])

    def map_layout(self, tokens: int, cells: int) -> Layout:
        return Layout(cells, cells, whole=tokens + cells if self.at_once else None)

    def map_grid(self, height: int, width: int) -> tuple[int, int]:
        return height // self.map_scale, width // self.map_scale

    def row_bytes(self, x: Tensor, tokens: int) -> int:
        """A row holds about 40 tensors of the first level's width at once (measured on SD 1.5: 20 to 30)."""
        return 40 * self.unet.config.block_out_channels[0] * x[0, 0, 0].numel() * self.dtype.itemsize


def check_scheduler(config: Mapping[str, Any], name: str) -> None:
    """Raise ValueError for a scheduler whose levels are not those that a UNet was trained at."""
    refused = checkpoints.unknown_scheduler(config)
    if is_flow(config) and config.get("prediction_type") != "flow_prediction":
        refused = (
            "its scheduler is one of flow models, and it predicts noise: use DPMSolverMultistepScheduler or "
            "DDIMScheduler, with the betas that it was trained with"
        )
    if refused:
        raise ValueError(f"model {name!r} can't be edited with: {refused}")


@dataclass(frozen=True)
class UNetFamily:
    """What is a family's own. `parts` are a pipeline's components by their names, the index is its configuration."""

    prompts: Callable[[Mapping[str, Any], Mapping[str, Any], torch.device], UNetPrompts]  # (parts, index, device)
    defaults: Mapping[str, float] = field(default_factory=dict[str, float])
    packed: bool = True  # whether `cpu` knows its layers

    def backbone(
        self, parts: Mapping[str, Any], scheduler: Mapping[str, Any], *, name: str, fingerprint: str,
        device: torch.device, index: Mapping[str, Any], settings: Mapping[str, Any] | None = None,
        max_batch: int | None = None,
    ) -> LatentUNet:  # fmt: skip
        said = settings or {}
        settings = {**said, "defaults": {**self.defaults, **said.get("defaults", {})}}
        return LatentUNet(
            parts["unet"], parts.get("vae"), self.prompts(parts, index, device), scheduler, name=name,
            fingerprint=fingerprint, settings=settings, device=device, max_batch=max_batch,
        )  # fmt: skip


def _guidance(scale: float, width: int) -> Tensor:
    """A guidance scale as a network takes it that was distilled with it, (1, width): sines, then cosines."""
    return get_timestep_embedding(torch.tensor([1000 * (scale - 1)], dtype=torch.float32), width)


def _map_scale(blocks: Sequence[str]) -> int:
    """The latent side over the side of the maps to use: 4, or the nearest power of 2 where a block attends to text."""
    scales = [2**level for level, block in enumerate(blocks) if "CrossAttn" in block] or [4]
    return min(scales, key=lambda scale: (max(scale, 4) // min(scale, 4), scale))
