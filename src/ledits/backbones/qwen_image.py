"""Qwen-Image: joint attention, texts by Qwen2.5-VL, latents of an autoencoder for video."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ledits.backbones import chat
from ledits.backbones.codec import Autoencoder
from ledits.backbones.network import Net
from ledits.backbones.texts import Text, stack
from ledits.backbones.transformer import Family, middle, pack, text_first, unpack

_TOKENS = 1024
# The prompt that the model was trained with, as its pipeline has it; the first 34 tokens are cut off after encoding.
BEFORE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
AFTER, CUT = "<|im_end|>\n<|im_start|>assistant\n", 34


class Prompts:
    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        # The model's card asks for a space where there is no prompt.
        ids, mask, words = chat.tokens(self.tokenizer, text or " ", BEFORE, AFTER, _TOKENS + CUT)
        ids, mask = ids.to(self.device), mask.to(self.device)
        out = self.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return Text(text, out.hidden_states[-1][0, CUT:], words[CUT:])


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(v, dtype=torch.float32) for v in (vae.config.latents_mean, vae.config.latents_std))
    return mean.view(-1, 1, 1).to(like.device), std.view(-1, 1, 1).to(like.device)


def inward(vae: Any, z: Tensor) -> Tensor:
    mean, std = _statistics(vae, z)
    return (z - mean) / std


def outward(vae: Any, x: Tensor) -> Tensor:
    mean, std = _statistics(vae, x)
    return x * std + mean


def autoencoder(vae: Any, device: torch.device) -> Autoencoder:
    """The codec of an autoencoder that knows the mean and the deviation of each of its channels."""
    return Autoencoder(vae, device, inward, outward, frames=True)


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    r, _, h, w = x.shape
    tokens = net(
        hidden_states=pack(x), timestep=time.to(x.dtype), encoder_hidden_states=stack(texts),
        encoder_hidden_states_mask=None, img_shapes=[[(1, h // 2, w // 2)]] * r,
    ).sample  # fmt: skip
    return unpack(tokens, h, w)


FAMILY = Family(
    call=call, prompts=Prompts, layers=lambda net: middle(net, "transformer_blocks"), layout=text_first,
    codec=autoencoder,
)  # fmt: skip
