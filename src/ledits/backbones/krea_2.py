"""Krea 2: one stream of text and picture, texts by a dozen layers of Qwen3-VL, Qwen-Image's autoencoder."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ledits.backbones import chat
from ledits.backbones.flux import positions
from ledits.backbones.network import Net
from ledits.backbones.qwen_image import AFTER, BEFORE, CUT, autoencoder
from ledits.backbones.texts import Text, stack
from ledits.backbones.transformer import Family, middle, pack, text_first, unpack

_TOKENS = 512
_LAYERS = tuple(range(2, 36, 3))  # whose states are read, where its pipeline's configuration doesn't say it


class Prompts:
    """Texts by `layers` of a language model, side by side. Its pipeline pads them and masks the padding everywhere."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device, layers: Sequence[int] = _LAYERS) -> None:
        self.tokenizer, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device
        self.layers = layers

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        ids, _, words = chat.tokens(self.tokenizer, text, BEFORE, AFTER, _TOKENS + CUT)
        out = self.encoder(input_ids=ids.to(self.device), output_hidden_states=True)
        return Text(text, torch.cat([out.hidden_states[layer][0, CUT:] for layer in self.layers], -1), words[CUT:])


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    states, (_, _, h, w) = stack(texts), x.shape
    cells = positions(h // 2, w // 2, 3, x.device)
    tokens = net(
        hidden_states=pack(x), timestep=time.to(x.dtype),
        encoder_hidden_states=states.unflatten(-1, (config.num_text_layers, -1)),
        position_ids=torch.cat([cells.new_zeros(states.shape[1], 3), cells]),
    ).sample  # fmt: skip
    return unpack(tokens, h, w)


def _fixed(tokens: int, steps: float) -> float:
    """The shift of the distilled one's levels, whatever the picture's size."""
    return math.exp(1.15)


def _own(index: Mapping[str, Any]) -> Mapping[str, Any]:
    layers = tuple(index.get("text_encoder_select_layers") or _LAYERS)
    return {"prompts": partial(Prompts, layers=layers), "shift": _fixed if index.get("is_distilled") else None}


FAMILY = Family(
    call=call, prompts=Prompts, layers=lambda net: middle(net, "transformer_blocks"), layout=text_first,
    codec=autoencoder, distilled=lambda net, scheduler, index: bool(index.get("is_distilled")), own=_own,
)  # fmt: skip
