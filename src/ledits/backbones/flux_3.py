"""FLUX.3 klein and its distilled one: text and picture apart, then in one stream; texts by eight layers of Qwen3-VL."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.backbones import chat, flux_2
from ledits.backbones.flux import positions
from ledits.backbones.network import Net
from ledits.backbones.texts import Text, stack
from ledits.backbones.transformer import Family, middle, pack, text_first, unpack

_TOKENS, _MULTIPLE = 8192, 80  # to which texts are padded: the network attends to the padding too
_LAYERS = range(4, 33, 4)
_SCALE = 0.5  # of the picture's positions


class Prompts:
    """Texts by some layers of a language model, side by side."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device) -> None:
        processor, self.encoder, self.device = parts["tokenizer"], parts["text_encoder"], device
        self.tokenizer = getattr(processor, "tokenizer", processor)  # a pipeline's reads pictures as well
        self.around = chat.around(processor)

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        ids, mask, words = chat.tokens(self.tokenizer, text, *self.around, _TOKENS)
        more = -ids.shape[1] % _MULTIPLE
        ids, mask = F.pad(ids, (0, more), value=self.tokenizer.pad_token_id), F.pad(mask, (0, more))
        # Versions of transformers differ in the padding's places; these are those of the training.
        places = torch.arange(ids.shape[1])[None].masked_fill(mask == 0, 1)
        out = self.encoder(
            input_ids=ids.to(self.device), attention_mask=mask.to(self.device), position_ids=places.to(self.device),
            output_hidden_states=True, use_cache=False,
        )  # fmt: skip
        states = torch.cat([out.hidden_states[layer][0] for layer in _LAYERS], -1)
        return Text(text, states, F.pad(words, (0, more)))


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    states, (_, _, h, w) = stack(texts), x.shape
    # The distilled one is told where it jumps to as well: here always to the clean picture.
    jump = {"target_timestep": torch.zeros_like(time, dtype=x.dtype)} if config.flow_map else {}
    tokens = net(
        hidden_states=pack(x), timestep=time.to(x.dtype), encoder_hidden_states=states,
        img_ids=_SCALE * positions(h // 2, w // 2, 4, x.device),
        txt_ids=F.pad(torch.arange(states.shape[1], device=x.device)[:, None].float(), (3, 0)), **jump,
    ).sample  # fmt: skip
    return unpack(tokens, h, w)


def _own(index: Mapping[str, Any]) -> Mapping[str, Any]:
    # Its pipeline takes 16 steps; about half of them lie below the default skip.
    return {"defaults": {"steps": 8}} if index.get("is_distilled") else {}


FAMILY = Family(
    call=call, prompts=Prompts, layers=lambda net: middle(net, "single_transformer_blocks"), layout=text_first,
    codec=flux_2.autoencoder, own=_own, distilled=lambda net, scheduler, index: bool(net.config.flow_map),
)  # fmt: skip
