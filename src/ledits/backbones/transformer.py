"""Transformers on latents, flows but for PixArt: what they share. A family's own file says the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.backbones.attention import Layout
from ledits.backbones.codec import Autoencoder, Codec
from ledits.backbones.network import Net, NetworkBackbone
from ledits.backbones.schedule import Shift, flow_shift, flow_skip, from_config, is_flow
from ledits.backbones.texts import Prompts, Text
from ledits.files import checkpoints
from ledits.files.defaults import Defaults
from ledits.method.core import Schedule

Call = Callable[[Net, Any, Tensor, Tensor, Sequence[Text]], Tensor]
"""(network, its config, x (r c h w) in the network's format, time (r), texts) -> what it predicts, (r c' h w).

Of a flow the time is sigma and the prediction eps - x0; of a diffusion model they are those of its training.
"""


def image_first(tokens: int, cells: int) -> Layout:
    """Joint attention of the picture's tokens, then the text's."""
    return Layout(cells, cells + tokens, text_at=cells)


def text_first(tokens: int, cells: int) -> Layout:
    return Layout(cells, cells + tokens, image_at=tokens)


def across(tokens: int, cells: int) -> Layout:
    """Attention of the picture's tokens to the text's alone."""
    return Layout(cells, cells)


def causal(tokens: int, cells: int) -> Layout:
    """The text's tokens, each attending to those before it, then the picture's, which attend to all."""
    return Layout(cells, cells, whole=cells + tokens)


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
    pairs: int = 1  # tokens of a side that come together
    area: int = 1024**2  # of the pictures it was trained on, where the network doesn't say it
    shift: Shift | None = None  # where the scheduler's config doesn't say it
    levels: Sequence[float] = ()  # that it was distilled for, where they are not even
    # By the network, its scheduler's config and its pipeline's (model_index.json).
    distilled: Callable[[Any, Mapping[str, Any], Mapping[str, Any]], bool] = lambda net, scheduler, index: False
    defaults: Mapping[str, float] = field(default_factory=dict[str, float])
    # What else a pipeline's configuration says: fields of this class that are others for it.
    own: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda index: {}
    # What may be made faster, exactly, in parts that nobody else has.
    settle: Callable[[Mapping[str, Any]], None] = lambda parts: None

    def backbone(
        self, parts: Mapping[str, Any], scheduler: Mapping[str, Any], *, name: str, fingerprint: str,
        device: torch.device, index: Mapping[str, Any], settings: Mapping[str, Any] | None = None,
        max_batch: int | None = None,
    ) -> "LatentTransformer":  # fmt: skip
        return LatentTransformer(
            replace(self, **self.own(index)), parts, scheduler, name=name, fingerprint=fingerprint, device=device,
            index=index, settings=settings, max_batch=max_batch,
        )  # fmt: skip


# Of networks whose predictions hold guidance already: the scales of consistency models (see latent_unet.py).
_DISTILLED = {
    "steps": 4, "add_scale": 1.5, "remove_scale": 1.0, "swap_new_scale": 1.5, "swap_old_scale": 1.0,
    "described_scale": 1.5,
}  # fmt: skip


def _usual(scheduler: Mapping[str, Any], tokens: int, family: Family) -> dict[str, float]:
    """Defaults of a flow. The table's steps are of whole schedules; of one that is shifted, more are all but noise."""
    steps, how = 28, family.shift
    skip = flow_skip(how(tokens, steps) if how else flow_shift(scheduler, tokens, steps), family.levels)
    return {"steps": steps, "skip": skip, "described_skip": skip, "add_scale": 5.0, "remove_scale": 5.0,
            "swap_new_scale": 5.0, "swap_old_scale": 5.0, "described_scale": 5.0}  # fmt: skip


class LatentTransformer(NetworkBackbone):
    """A backbone (see `ledits.backbones.Backbone`) of one `family`.

    `settings` are the checkpoint's own ledits.json: "map_blocks", names of the attention modules to record, "defaults",
    and "distilled", which is said by a "turbo" in its name otherwise, or by the family. `index` is its pipeline's
    configuration.
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
        index: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        attention: Mapping[str, Any] | None = None,
        max_batch: int | None = None,
    ) -> None:
        settings = settings or {}
        self.attention = attention
        self.family, self.transformer, self.scheduler = family, parts["transformer"], dict(scheduler)
        self.map_layers = settings.get("map_blocks") or family.layers(self.transformer)
        codec = family.codec(parts["vae"], device)
        side = getattr(self.transformer.config, "sample_size", None)  # in latents
        area = family.area if side is None else (codec.factor * side) ** 2
        index = index or {}
        names = [name, str(index.get("_name_or_path") or name)]  # where its pipeline was read from
        by_name = any("turbo" in checkpoints.short(each).lower() for each in names)
        told = by_name or family.distilled(self.transformer, self.scheduler, index)
        self.distilled = bool(settings.get("distilled", told))
        self.flow = is_flow(self.scheduler)
        self.prediction = "flow_prediction" if self.flow else self.scheduler.get("prediction_type", "epsilon")
        tokens = min(area // (codec.factor * family.patch) ** 2, 4096)
        usual = _usual(self.scheduler, tokens, family) if self.flow else {}
        super().__init__(
            codec, family.prompts(parts, device), name=name, fingerprint=fingerprint, device=device,
            dtype=self.transformer.dtype, multiple=codec.factor * family.patch * family.pairs, area=area,
            max_batch=max_batch,
            defaults=Defaults().changed(
                usual, _DISTILLED if self.distilled else {}, family.defaults, settings.get("defaults", {})
            ),
        )  # fmt: skip

    @property
    def net(self) -> Any:
        return self.transformer

    def schedule(self, steps: int, skip: float, height: int | None = None, width: int | None = None) -> Schedule:
        pixels = self.area if height is None or width is None else height * width
        tokens = pixels // (self.factor * self.family.patch) ** 2
        family = self.family
        return from_config(self.scheduler, steps, skip, tokens=tokens, shift=family.shift, levels=family.levels)

    def predict(self, net: Net, x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor, texts: Sequence[Text]) -> Tensor:
        if self.attention:
            net = partial(net, joint_attention_kwargs=dict(self.attention))
        time = sigma if self.flow else t
        output = self.family.call(net, self.transformer.config, x.to(self.dtype), time, texts)
        # Some predict a variance as well, in channels of its own.
        return self.clean(x, alpha, sigma, output[:, : x.shape[1]])

    def map_grid(self, height: int, width: int) -> tuple[int, int]:
        return height // self.family.patch, width // self.family.patch

    def map_layout(self, tokens: int, cells: int) -> Layout:
        return self.family.layout(tokens, cells)

    def row_bytes(self, x: Tensor, tokens: int) -> int:
        """A row holds about 24 numbers a token and channel at once: the widest layer's and its neighbours' (counted in
        the blocks' code, not measured on a GPU).
        """
        config = self.transformer.config
        named = getattr(config, "dim", None) or getattr(config, "hidden_size", None)
        width: int = named or config.num_attention_heads * config.attention_head_dim
        cells = x[0, 0, 0].numel() // self.family.patch**2
        return 24 * width * (cells + tokens) * self.dtype.itemsize


def pack(x: Tensor) -> Tensor:
    """Tokens (r n 4c) of latents (r c h w), one for each 2 x 2 of them, row by row."""
    return F.pixel_unshuffle(x, 2).flatten(2).mT


def unpack(y: Tensor, height: int, width: int) -> Tensor:
    """Latents (r c h w) of tokens (r n 4c)."""
    return F.pixel_shuffle(y.mT.unflatten(2, (height // 2, width // 2)), 2)
