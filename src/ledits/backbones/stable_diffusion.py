"""Stable Diffusion 1.x and 2.x, and every checkpoint in their layout: one CLIP text encoder, a UNet, an autoencoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ledits.backbones.texts import Text, tokenize


@dataclass(frozen=True)
class ClipPrompts:
    """One CLIP text encoder; its last layer is what the network takes."""

    tokenizer: Any
    text_encoder: Any
    device: torch.device

    @torch.no_grad()
    def embed(self, text: str, *, clip_skip: int | None = None) -> Text:
        ids, mask, marked = tokenize(self.tokenizer, text)
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


def _final_norm(text_encoder: Any) -> Any:
    # transformers 5 made CLIPTextModel its own text model; before, it held one.
    return getattr(text_encoder, "text_model", text_encoder).final_layer_norm
