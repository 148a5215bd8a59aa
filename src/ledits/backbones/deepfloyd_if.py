"""DeepFloyd IF, stage I: a diffusion UNet on pixels, 64 a side, with T5's tokens among its attention's keys."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ledits.backbones.latent_unet import UNetFamily
from ledits.backbones.texts import Text, tokenize

_TOKENS = 77
# What the authors of LEDITS++ use for it: 50 steps, scales 6 to 8, warm-up 5, thresholds .8 to .925 (arXiv 2311.16711).
DEFAULTS = {"steps": 50, "skip": 0.15, "warmup": 5, "add_scale": 8.0, "remove_scale": 8.0, "swap_new_scale": 8.0,
            "swap_old_scale": 8.0}  # fmt: skip


class Prompts:
    """T5 reads its own mask; the UNet attends to the padding too."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device

    @torch.no_grad()
    def embed(self, text: str, *, clip_skip: int | None = None) -> Text:
        ids, mask, words = tokenize(self.tokenizer, text.lower().strip(), _TOKENS)
        return Text(text, self.encoder(ids.to(self.device), attention_mask=mask.to(self.device))[0][0], words)

    def conditions(self, texts: Sequence[Text], height: int, width: int) -> dict[str, Any]:
        return {}


def _prompts(parts: Mapping[str, Any], index: Mapping[str, Any], device: torch.device) -> Prompts:
    return Prompts(parts, device)


FAMILY = UNetFamily(_prompts, DEFAULTS, packed=False)
