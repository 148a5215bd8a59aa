"""PixArt-Sigma: a diffusion transformer that attends across to T5's tokens (Chen et al. 2024, arXiv 2403.04692)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ledits.backbones.network import Net
from ledits.backbones.texts import Text, stack, tokenize
from ledits.backbones.transformer import Family, across, middle

_TOKENS = 300


class Prompts:
    """T5's tokens without their padding, which the network's attention leaves out."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        ids, mask, words = tokenize(self.tokenizer, text.lower().strip(), _TOKENS, pad=False)
        return Text(text, self.encoder(ids.to(self.device), attention_mask=mask.to(self.device))[0][0], words)


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    sizes = {"resolution": None, "aspect_ratio": None}
    return net(x, encoder_hidden_states=stack(texts), timestep=time, added_cond_kwargs=sizes).sample


FAMILY = Family(
    call=call, prompts=Prompts, layers=lambda net: middle(net, "transformer_blocks", "attn2"), layout=across
)
