"""Stable Diffusion 3 and 3.5: two CLIP text encoders and T5, joint attention (Esser et al. 2024, arXiv 2403.03206)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.backbones import zeros
from ledits.backbones.network import Net
from ledits.backbones.stable_diffusion import longest
from ledits.backbones.texts import Text, pooled, stack, tokenize
from ledits.backbones.transformer import Family, chosen

_T5_TOKENS = zeros.COUNT  # padded to it, unmasked: another length would be other words to the network

# Blocks whose attention to text follows the picture best, by how many there are (Shin et al. 2025, arXiv 2508.07519).
_MEDIUM, _LARGE = (4, 5, 7, 8, 9), (16, 18, 20, 21, 24)


class Prompts:
    """CLIP's 77 tokens, then T5's 256; T5, a third of the checkpoint's memory, may be left out, as zeros, or as one of
    them for a network that takes it for all (zeros.py).
    """

    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        self.clip = [(parts["tokenizer"], parts["text_encoder"]), (parts["tokenizer_2"], parts["text_encoder_2"])]
        self.t5 = parts.get("tokenizer_3"), parts.get("text_encoder_3")
        self.width, self.device = parts["transformer"].config.joint_attention_dim, device
        self.zeros = 1 if zeros.are_merged(parts["transformer"]) else zeros.COUNT

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        states, pools, words = list[Tensor](), list[Tensor](), torch.empty(0)
        for tokenizer, encoder in self.clip:
            ids, _, words = tokenize(tokenizer, text, longest(tokenizer, encoder))
            out = encoder(ids.to(self.device), output_hidden_states=True)
            states.append(out.hidden_states[-2][0])
            pools.append(out[0][0])
        clip = torch.cat(states, -1)
        clip = F.pad(clip, (0, self.width - clip.shape[-1]))
        tokenizer, encoder = self.t5
        if encoder is None:
            t5, more = clip.new_zeros(self.zeros, self.width), torch.zeros(self.zeros, dtype=torch.bool)
        else:
            ids, _, more = tokenize(tokenizer, text, _T5_TOKENS)
            t5 = encoder(ids.to(self.device))[0][0]
        return Text(text, torch.cat([clip, t5.to(clip)]), torch.cat([words, more]), torch.cat(pools))


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    return net(
        hidden_states=x, timestep=1000 * time, encoder_hidden_states=stack(texts), pooled_projections=pooled(texts)
    ).sample


def _layers(net: Any) -> list[str]:
    best = {24: _MEDIUM, 38: _LARGE}
    return chosen(net, "transformer_blocks", best)


def _settle(parts: Mapping[str, Any]) -> None:
    if parts.get("text_encoder_3") is None:
        zeros.merge(parts["transformer"])


FAMILY = Family(call=call, prompts=Prompts, layers=_layers, settle=_settle)
