"""Stable Diffusion 1.x and 2.x, and every checkpoint in their layout: one CLIP text encoder, a UNet, an autoencoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ledits.backbones.latent_unet import UNetFamily
from ledits.backbones.texts import Text, tokenize


@dataclass(frozen=True)
class ClipPrompts:
    """One CLIP text encoder; its last layer is what the network takes."""

    tokenizer: Any
    text_encoder: Any
    device: torch.device

    @torch.no_grad()
    def embed(self, text: str, *, clip_skip: int | None = None) -> Text:
        ids, mask, marked = tokenize(self.tokenizer, text, longest(self.tokenizer, self.text_encoder))
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        out = self.text_encoder(
            ids.to(self.device),
            attention_mask=mask.to(self.device) if masked else None,
            output_hidden_states=clip_skip is not None,
        )
        states = out.last_hidden_state
        if clip_skip is not None:
            # The network has seen no other states than those that went through the last normalisation.
            states = _final_norm(self.text_encoder)(out.hidden_states[-(clip_skip + 1)])
        return Text(text, states[0], marked)

    def conditions(self, texts: Sequence[Text], height: int, width: int) -> dict[str, Any]:
        return {}


def longest(tokenizer: Any, encoder: Any) -> int:
    """Tokens of a prompt: a tokenizer of words and merges alone does not say, and its encoder does."""
    return min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))


def _final_norm(text_encoder: Any) -> Any:
    # transformers 5 made CLIPTextModel its own text model; before, it held one.
    return getattr(text_encoder, "text_model", text_encoder).final_layer_norm


def _prompts(parts: Mapping[str, Any], index: Mapping[str, Any], device: torch.device) -> ClipPrompts:
    return ClipPrompts(parts["tokenizer"], parts["text_encoder"], device)


FAMILY = UNetFamily(_prompts)
