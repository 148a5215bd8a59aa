"""Qwen-Image 2.1: text, then the picture, in one stream; texts by Qwen3-VL; an autoencoder of four channels."""

from collections.abc import Mapping, Sequence
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor

from ledits.backbones import chat, qwen_image
from ledits.backbones.codec import Autoencoder
from ledits.backbones.network import Net
from ledits.backbones.texts import Text, stack
from ledits.backbones.transformer import Family, causal, middle

_TOKENS = 2048  # its pipeline has no limit
# The prompt that the model was trained with, as its pipeline has it; the tokens of the system's part are cut off.
_SYSTEM = "<|im_start|>system\nComprehend and analyze the provided prompt.<|im_end|>\n"
_BEFORE, _AFTER = f"{_SYSTEM}<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


class Prompts:
    """Texts by the last layer of a language model, before its final norm."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        processor, self.encoder, self.device = parts["processor"], parts["text_encoder"], device
        self.tokenizer = getattr(processor, "tokenizer", processor)  # a pipeline's reads pictures as well
        self.cut = chat.tokens(self.tokenizer, "", _SYSTEM, "", _TOKENS)[0].shape[1]

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        ids, mask, words = chat.tokens(self.tokenizer, text or " ", _BEFORE, _AFTER, _TOKENS + self.cut)
        states, owner = list[Tensor](), get_ident()

        def keep(_: Any, given: tuple[Tensor, ...]) -> None:
            if get_ident() == owner:
                states.append(given[0])

        # transformers 5 gives the last states after the norm alone.
        handle = self.encoder.model.language_model.norm.register_forward_pre_hook(keep)
        try:
            self.encoder(input_ids=ids.to(self.device), attention_mask=mask.to(self.device))
        finally:
            handle.remove()
        return Text(text, states[-1][0, self.cut :], words[self.cut :])


class Opaque(Autoencoder):
    """Of pictures with an alpha channel. Every picture is opaque, and none is shown with that channel."""

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(torch.cat([images, torch.ones_like(images[:, :1])], 1))

    def decode(self, x: Tensor) -> Tensor:
        return super().decode(x)[:, :3]


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    states, (r, _, h, w) = stack(texts), x.shape
    # The picture's places in the language model's sequence: one for 2 x 2 of its tokens.
    places = torch.ones(r, states.shape[1] + h * w // 4, dtype=torch.bool, device=x.device)
    places[:, : states.shape[1]] = False
    tokens = net(
        hidden_states=x.flatten(2).mT, timestep=time.to(x.dtype), encoder_hidden_states=states,
        img_shapes=[[(1, h, w)]] * r, img_mask=places,
    ).sample  # fmt: skip
    return tokens[:, -h * w :].mT.unflatten(2, (h, w))


FAMILY = Family(
    call=call, prompts=Prompts, layers=lambda net: middle(net, "transformer_blocks"), layout=causal,
    codec=partial(Opaque, inward=qwen_image.inward, outward=qwen_image.outward, frames=True), patch=1, pairs=2,
    own=lambda index: {"levels": tuple(index.get("sample_sigmas") or ())},  # Turbo's
    distilled=lambda net, scheduler, index: bool(index.get("is_distilled") or index.get("sample_sigmas")),
)  # fmt: skip
