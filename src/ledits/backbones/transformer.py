"""Flow transformers on an autoencoder's latents: what they share. A family's own file says the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ledits.attention import Layout
from ledits.backbones.codec import Autoencoder, Codec
from ledits.backbones.network import DEFAULTS, Net, NetworkBackbone
from ledits.backbones.texts import Prompts, Text
from ledits.method.core import Schedule
from ledits.schedule import Shift, flow_shift, flow_skip, from_config

Call = Callable[[Net, Any, Tensor, Tensor, Sequence[Text]], Tensor]
"""(network, its config, x (r c h w) in the network's format, sigma (r), texts) -> eps - x0 (r c h w)."""


def image_first(tokens: int, cells: int) -> Layout:
    """Joint attention of the picture's tokens, then the text's."""
    return Layout(cells, cells + tokens, text_at=cells)


def text_first(tokens: int, cells: int) -> Layout:
    return Layout(cells, cells + tokens, image_at=tokens)


def middle(net: Any, blocks: str, attention: str = "attn") -> list[str]:
    """The attention of the middle third of a stack of blocks, where nothing is known of which are best."""
    n = len(getattr(net, blocks))
    return [f"{blocks}.{i}.{attention}" for i in range(n // 3, max(n // 3 + 1, 2 * n // 3))]


def chosen(net: Any, blocks: str, best: Mapping[int, Sequence[int]], attention: str = "attn") -> list[str]:
    """The attention of the blocks that `best` names for a network of so many blocks, or of the middle third."""
    found = best.get(len(getattr(net, blocks)))
    return [f"{blocks}.{i}.{attention}" for i in found] if found else middle(net, blocks, attention)


@dataclass(frozen=True)
class Family:
    """What is a family's own. `parts` are a pipeline's components by their names."""

    call: Call
    prompts: Callable[[Mapping[str, Any], Any], Prompts]  # (parts, device)
    layers: Callable[[Any], Sequence[str]]  # of the network, whose attention is recorded
    layout: Callable[[int, int], Layout] = image_first
    codec: Callable[[Any, Any], Codec] = Autoencoder  # (autoencoder, device)
    patch: int = 2  # latents of a token's side
    area: int = 1024**2  # of the pictures it was trained on
    shift: Shift | None = None  # where the scheduler's config doesn't say it
    distilled: Callable[[Any, Mapping[str, Any]], bool] = lambda net, scheduler: False
    defaults: Mapping[str, float] = field(default_factory=dict[str, float])


# Of networks whose predictions hold guidance already: the scales of consistency models (see latent_unet.py).
_DISTILLED = {
    "steps": 4, "add_scale": 1.5, "remove_scale": 1.0, "swap_new_scale": 1.5, "swap_old_scale": 1.0,
    "described_scale": 1.5,
}  # fmt: skip


class LatentTransformer(NetworkBackbone):
    """A backbone (see `ledits.backbones.Backbone`) of one `family`.

    `settings` are the checkpoint's own ledits.json: "map_blocks", names of the attention modules to record, "defaults".
    `attention` goes to the network as its joint_attention_kwargs, in the families that have them: a LoRA's scale.
    """

    def __init__(
        self,
        family: Family,
        parts: Mapping[str, Any],
        scheduler: Mapping[str, Any],
        *,
        name: str,
        fingerprint: str,
        device: Any,
        settings: Mapping[str, Any] | None = None,
        attention: Mapping[str, Any] | None = None,
        max_batch: int | None = None,
    ) -> None:
        settings = settings or {}
        self.attention = attention
        self.family, self.transformer, self.scheduler = family, parts["transformer"], dict(scheduler)
        self.map_layers = settings.get("map_blocks") or family.layers(self.transformer)
        codec = family.codec(parts["vae"], device)
        self.distilled = family.distilled(self.transformer, self.scheduler)
        # The table's steps are of whole schedules; of a flow that is shifted, more of them are all but noise.
        tokens, steps = min(family.area // (codec.factor * family.patch) ** 2, 4096), 28
        shift = family.shift(tokens, steps) if family.shift else flow_shift(self.scheduler, tokens, steps)
        skip = flow_skip(shift)
        usual = {"steps": steps, "skip": skip, "described_skip": skip, "add_scale": 5.0, "remove_scale": 5.0,
                 "swap_new_scale": 5.0, "swap_old_scale": 5.0, "described_scale": 5.0}  # fmt: skip
        super().__init__(
            codec, family.prompts(parts, device), name=name, fingerprint=fingerprint, device=device,
            dtype=self.transformer.dtype, multiple=codec.factor * family.patch, area=family.area, max_batch=max_batch,
            defaults={**DEFAULTS, **usual, **family.defaults, **(_DISTILLED if self.distilled else {}),
                      **settings.get("defaults", {})},
        )  # fmt: skip

    @property
    def net(self) -> Any:
        return self.transformer

    def schedule(self, steps: int, skip: float, height: int | None = None, width: int | None = None) -> Schedule:
        pixels = self.area if height is None or width is None else height * width
        tokens = pixels // (self.factor * self.family.patch) ** 2
        return from_config(self.scheduler, steps, skip, tokens=tokens, shift=self.family.shift)

    def predict(self, net: Net, x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor, texts: Sequence[Text]) -> Tensor:
        if self.attention:
            net = partial(net, joint_attention_kwargs=dict(self.attention))
        velocity = self.family.call(net, self.transformer.config, x.to(self.dtype), sigma, texts)
        return self.clean(x, alpha, sigma, velocity)

    def map_grid(self, height: int, width: int) -> tuple[int, int]:
        return height // self.family.patch, width // self.family.patch

    def map_layout(self, tokens: int, cells: int) -> Layout:
        return self.family.layout(tokens, cells)

    def row_bytes(self, x: Tensor) -> int:
        """A row holds about 24 numbers a token and channel at once; its text is as long as half a picture."""
        config = self.transformer.config
        width = getattr(config, "dim", None) or config.num_attention_heads * config.attention_head_dim
        return int(24 * 1.5 * width * x[0, 0, 0].numel() / self.family.patch**2 * self.dtype.itemsize)


def pack(x: Tensor) -> Tensor:
    """Tokens (r n 4c) of latents (r c h w), one for each 2 x 2 of them, row by row."""
    return F.pixel_unshuffle(x, 2).flatten(2).mT


def unpack(y: Tensor, height: int, width: int) -> Tensor:
    """Latents (r c h w) of tokens (r n 4c)."""
    return F.pixel_shuffle(y.mT.unflatten(2, (height // 2, width // 2)), 2)
