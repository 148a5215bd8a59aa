"""Z-Image and Z-Image-Turbo: one stream of picture and text, texts by Qwen3."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ledits.backbones import chat
from ledits.backbones.attention import Layout
from ledits.backbones.network import Net
from ledits.backbones.texts import Text
from ledits.backbones.transformer import Family, middle

_TOKENS = 512
_MULTIPLE = 32  # to which the network pads picture and text, each on its own


class Prompts:
    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        before, after = chat.around(self.tokenizer, enable_thinking=True)
        ids, _, words = chat.tokens(self.tokenizer, text, before, after, _TOKENS)
        out = self.encoder(input_ids=ids.to(self.device), output_hidden_states=True)
        return Text(text, out.hidden_states[-2][0], words)


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    # Lists of pictures (c 1 h w) and of texts; its time and its sign run the other way.
    pictures = [picture[:, None] for picture in x]
    return -torch.stack(net(pictures, 1 - time, [text.states for text in texts], return_dict=False)[0])[:, :, 0]


def layout(tokens: int, cells: int) -> Layout:
    whole, texts = (-(-n // _MULTIPLE) * _MULTIPLE for n in (cells, tokens))
    return Layout(cells, whole + texts, text_at=whole)


def _layers(net: Any) -> list[str]:
    return middle(net, "layers", "attention")


FAMILY = Family(
    call=call, prompts=Prompts, layers=_layers, layout=layout,
    # Turbo's scheduler has half the shift of the model it was distilled from.
    distilled=lambda net, scheduler, index: scheduler.get("shift", 6.0) <= 3.0,
)  # fmt: skip
