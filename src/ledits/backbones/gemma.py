"""Sana and Lumina 2, whose texts are read by Gemma 2, behind an instruction of their own."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from ledits.backbones import chat
from ledits.backbones.network import Net
from ledits.backbones.texts import TOKENIZING, Text, stack
from ledits.backbones.transformer import Family, across, middle, text_first

# As its pipeline has it. A prompt that is empty has none, here and in Sana.
_ASSIST = (
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment based "
    "on textual prompts or user prompts. <Prompt Start> "
)


class SanaPrompts:
    """The first token, and what comes after all but the last of the instruction."""

    longest = 300

    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        from diffusers.pipelines.sana.pipeline_sana import SanaPipeline  # older diffusers have none

        self.instruction = "\n".join(signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default)
        self.tokenizer, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        before = self.instruction if text else ""
        with TOKENIZING:
            told = len(self.tokenizer(before).input_ids)
        lowered = text.lower().strip()
        ids, mask, words = chat.tokens(self.tokenizer, lowered, before, "", told + self.longest - 2)
        states = self.encoder(ids.to(self.device), attention_mask=mask.to(self.device))[0][0]
        kept = [0, *range(max(1, told - 1), ids.shape[1])]
        return Text(text, states[kept], words[kept])


class LuminaPrompts:
    longest = 256

    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        ids, mask, words = chat.tokens(self.tokenizer, text, _ASSIST if text else "", "", self.longest)
        out = self.encoder(ids.to(self.device), attention_mask=mask.to(self.device), output_hidden_states=True)
        return Text(text, out.hidden_states[-2][0], words)


def _sana(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    return net(x, encoder_hidden_states=stack(texts), timestep=1000 * time * config.timestep_scale).sample


def _lumina(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    states = stack(texts)
    mask = torch.ones(states.shape[:2], dtype=torch.int64, device=states.device)
    # Its time and its sign run the other way.
    return -net(x, timestep=1 - time, encoder_hidden_states=states, encoder_attention_mask=mask).sample


# The attention of Sana's pictures to themselves is linear: only that to text is heard.
SANA = Family(
    call=_sana,
    prompts=SanaPrompts,
    layers=lambda net: middle(net, "transformer_blocks", "attn2"),
    layout=across,
    patch=1,
)
LUMINA = Family(call=_lumina, prompts=LuminaPrompts, layers=lambda net: middle(net, "layers"), layout=text_first)
