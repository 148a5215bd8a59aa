"""Anima: Cosmos' transformer for pictures alone, texts by Qwen3 and a small network that is asked about T5's words."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ledits.backbones.network import Net
from ledits.backbones.qwen_image import autoencoder
from ledits.backbones.texts import Text, stack, tokenize
from ledits.backbones.transformer import Family, across, middle

_TOKENS = 512


class Prompts:
    """A text as its network takes it, in T5's words, padded with zeros. No part of T5 but its words is used."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device
        self.t5_tokenizer, self.conditioner = parts["t5_tokenizer"], parts["text_conditioner"]

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        ids, mask, _ = tokenize(self.tokenizer, text, _TOKENS, pad=False)
        if not ids.shape[1]:  # nothing to read, and no token that begins a text
            ids, mask = torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)
        ids, mask = ids.to(self.device), mask.to(self.device)
        read = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
        ids, told, words = tokenize(self.t5_tokenizer, text, _TOKENS, pad=False)
        states = self.conditioner(
            source_hidden_states=read.to(self.conditioner.dtype), source_attention_mask=mask,
            target_input_ids=ids.to(self.device), target_attention_mask=told.to(self.device),
        )[0]  # fmt: skip
        padding = torch.zeros(len(states) - len(words), dtype=torch.bool)
        return Text(text, states, torch.cat([words, padding]))


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    mask = dict[str, Tensor]()
    if config.concat_padding_mask:
        mask["padding_mask"] = x.new_zeros(1, 1, *x.shape[2:])  # nothing of the picture is padding
    elif config.concat_padding_mask is None:
        mask["condition_mask"] = torch.zeros_like(x[:, :1, None])
    return net(
        hidden_states=x[:, :, None], timestep=time.to(x.dtype), encoder_hidden_states=stack(texts).to(x.dtype), **mask
    ).sample[:, :, 0]


def _settle(parts: Mapping[str, Any]) -> None:
    """Its network would call torchvision, which need not be there, to bring an empty mask to the picture's size. The
    same channel, of that size already, is what it takes as its other mask.
    """
    if parts["transformer"].config.concat_padding_mask:
        parts["transformer"].register_to_config(concat_padding_mask=None)


FAMILY = Family(
    call=call, prompts=Prompts, layers=lambda net: middle(net, "transformer_blocks", "attn2"), layout=across,
    codec=autoencoder, settle=_settle,
)  # fmt: skip
