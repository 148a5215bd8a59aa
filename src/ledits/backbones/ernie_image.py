"""ERNIE-Image and its Turbo: one stream of picture and text, texts by Ministral 3, FLUX.2's autoencoder."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.backbones import flux_2
from ledits.backbones.network import Net
from ledits.backbones.texts import Text, stack, tokenize
from ledits.backbones.transformer import Family, middle

_TOKENS = 2048  # its pipeline has no limit but the tokenizer's, which is the language model's own of 262,144


class Prompts:
    """Texts as they are: the model that writes them out for its pipeline ("pe") is not asked, for it changes them."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        ids, _, words = tokenize(self.tokenizer, text, _TOKENS, pad=False)
        if not ids.shape[1]:  # nothing to read, and no token that begins a text
            ids, words = torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, dtype=torch.bool)
        out = self.encoder(input_ids=ids.to(self.device), output_hidden_states=True)
        return Text(text, out.hidden_states[-2][0], words)


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    states = stack(texts)
    lengths = torch.full((len(texts),), states.shape[1], device=x.device)
    # Its patches are 2 x 2 latents as channels, made outside of it; its times are those of training.
    patches = net(F.pixel_unshuffle(x, 2), (1000 * time).to(x.dtype), states, lengths, return_dict=False)[0]
    return F.pixel_shuffle(patches, 2)


FAMILY = Family(
    call=call, prompts=Prompts, layers=lambda net: middle(net, "layers", "self_attention"),
    # Its pipeline adds this to the variances, whatever the autoencoder's configuration says.
    codec=partial(flux_2.autoencoder, least=1e-5),
)  # fmt: skip
