"""FLUX.1 dev and schnell: T5's tokens and CLIP's pooled text, joint attention, 2 x 2 latents to a token."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ledits.backbones.network import Net
from ledits.backbones.stable_diffusion import longest
from ledits.backbones.texts import TOKENIZING, Text, pooled, stack, tokenize
from ledits.backbones.transformer import Family, chosen, pack, text_first, unpack

# Of 19 double blocks (Shin et al. 2025, arXiv 2508.07519).
_BEST = {19: (11, 12, 14, 17, 18)}
# What the distilled guidance is told, for every prompt: the base and an edit with one and the same, so that their
# difference is the edit's. 1.5 is what FlowEdit (Kulikov et al. 2024, arXiv 2412.08629) tells the source's side.
GUIDANCE = 1.5


class Prompts:
    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        self.clip, self.t5 = (
            (parts["tokenizer"], parts["text_encoder"]),
            (parts["tokenizer_2"], parts["text_encoder_2"]),
        )
        self.tokens = 512 if parts["transformer"].config.guidance_embeds else 256  # schnell was trained on 256
        self.device = device

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        # CLIP first, as its pipeline has them: where parts are offloaded, T5 sends CLIP away and the network T5.
        tokenizer, encoder = self.clip
        # CLIP gives only a summary: what does not fit into its 77 tokens is in T5's.
        with TOKENIZING:
            short = tokenizer(
                text, padding="max_length", max_length=longest(tokenizer, encoder), truncation=True, return_tensors="pt"
            )
        pooled = encoder(short.input_ids.to(self.device)).pooler_output[0]
        tokenizer, encoder = self.t5
        # T5's mask is not used, so its padding is attended to, and has to be as long as it was in training.
        ids, _, words = tokenize(tokenizer, text, self.tokens)
        states = encoder(ids.to(self.device))[0][0]
        return Text(text, states, words, pooled.to(states))


def positions(height: int, width: int, axes: int, device: torch.device) -> Tensor:
    """(h w, axes): 0, row, column of each token, and zeros."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ids = torch.zeros(height * width, axes)
    ids[:, 1], ids[:, 2] = rows.flatten(), columns.flatten()
    return ids.to(device)


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    r, _, h, w = x.shape
    states = stack(texts)
    guidance = torch.full((r,), GUIDANCE, device=x.device, dtype=torch.float32) if config.guidance_embeds else None
    tokens = net(
        hidden_states=pack(x), timestep=time.to(x.dtype), guidance=guidance, pooled_projections=pooled(texts),
        encoder_hidden_states=states, txt_ids=torch.zeros(states.shape[1], 3, device=x.device),
        img_ids=positions(h // 2, w // 2, 3, x.device),
    ).sample  # fmt: skip
    return unpack(tokens, h, w)


def layers(net: Any) -> list[str]:
    return chosen(net, "transformer_blocks", _BEST)


FAMILY = Family(
    call=call, prompts=Prompts, layers=layers, layout=text_first,
    distilled=lambda net, scheduler, index: not net.config.guidance_embeds,
)  # fmt: skip
