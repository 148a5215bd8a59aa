"""Stable Diffusion XL: two CLIP text encoders side by side, pooled text, and the sizes the network is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ledits.backbones.latent_unet import UNetFamily
from ledits.backbones.stable_diffusion import longest
from ledits.backbones.texts import Text, tokenize


@dataclass(frozen=True)
class ClipPairPrompts:
    """Two CLIP text encoders; the first may be None, as in SDXL's refiner, which has only the second.

    `force_zeros` embeds the empty prompt as zeros, as the checkpoint was trained. `crop` is (top, left), `target`
    (height, width) in pixels, the picture's own size where it is None (Podell et al. 2023, section 2.2).
    SDXL's refiner is told an aesthetic `score` of 0 to 10 in place of the target; its authors sample with 6.
    """

    tokenizers: Sequence[Any]
    text_encoders: Sequence[Any]
    device: torch.device
    force_zeros: bool = True
    crop: tuple[int, int] = (0, 0)
    target: tuple[int, int] | None = None
    score: float | None = None

    @torch.no_grad()
    def embed(self, text: str, *, clip_skip: int | None = None, second: str | None = None) -> Text:
        """`second` is the prompt of the second encoder, where it differs."""
        states, pooled, marked = list[torch.Tensor](), torch.empty(0), torch.empty(0)
        both = zip(self.tokenizers, self.text_encoders, strict=True)
        for tokenizer, encoder in both:
            last = encoder is self.text_encoders[-1]
            told = second if last and second is not None else text
            ids, _, marked = tokenize(tokenizer, told, longest(tokenizer, encoder))
            out = encoder(ids.to(self.device), output_hidden_states=True)
            states.append(out.hidden_states[-2 if clip_skip is None else -(clip_skip + 2)][0])
            pooled = out[0][0]
        joined = torch.cat(states, -1)
        if self.force_zeros and not text and not second:
            joined, pooled = torch.zeros_like(joined), torch.zeros_like(pooled)
        return Text(text, joined, marked, pooled)

    def conditions(self, texts: Sequence[Text], height: int, width: int) -> dict[str, Any]:
        last = (self.target or (height, width)) if self.score is None else (self.score,)
        sizes = torch.tensor([height, width, *self.crop, *last], dtype=torch.float32, device=self.device)
        return {"text_embeds": torch.stack([text.pooled for text in texts if text.pooled is not None]),
                "time_ids": sizes.expand(len(texts), -1)}  # fmt: skip


def _prompts(parts: Mapping[str, Any], index: Mapping[str, Any], device: torch.device) -> ClipPairPrompts:
    pairs = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
    there = [(parts[a], parts[b]) for a, b in pairs if parts.get(b) is not None]
    return ClipPairPrompts(
        [tokenizer for tokenizer, _ in there], [encoder for _, encoder in there], device,
        bool(index.get("force_zeros_for_empty_prompt", True)),
        score=6.0 if index.get("requires_aesthetics_score") else None,
    )  # fmt: skip


FAMILY = UNetFamily(_prompts)
