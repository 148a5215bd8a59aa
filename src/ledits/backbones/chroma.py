"""Chroma: FLUX.1's blocks without CLIP's summary and without distilled guidance, T5's padding held down by a mask."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ledits.backbones.flux import layers, positions
from ledits.backbones.network import Net
from ledits.backbones.texts import Text, stack, tokenize
from ledits.backbones.transformer import Family, pack, text_first, unpack

_TOKENS = 512


class Prompts:
    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        ids, mask, words = tokenize(self.tokenizer, text, _TOKENS)
        states = self.encoder(ids.to(self.device), attention_mask=mask.to(self.device))[0][0]
        # It was trained with one token of padding to attend to.
        kept = torch.arange(_TOKENS, device=self.device) <= mask.sum().item()
        return Text(text, states, words, mask=kept.to(states))


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    r, _, h, w = x.shape
    states, told = stack(texts), torch.stack([text.mask for text in texts if text.mask is not None])
    # Numbers, and no booleans, as diffusers' pipeline has them (0.42): attention adds them, so that padding is held
    # down by a factor of e and not left out (diffusers' issue 13619).
    mask = torch.cat([told.to(x), x.new_ones(r, h * w // 4)], 1)
    tokens = net(
        hidden_states=pack(x), timestep=time.to(x.dtype), encoder_hidden_states=states, attention_mask=mask,
        txt_ids=torch.zeros(states.shape[1], 3, device=x.device), img_ids=positions(h // 2, w // 2, 3, x.device),
    ).sample  # fmt: skip
    return unpack(tokens, h, w)


FAMILY = Family(call=call, prompts=Prompts, layers=layers, layout=text_first)
