"""FLUX.2 dev and klein: one language model's tokens from three of its layers, joint attention, normalised latents."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.backbones import chat
from ledits.backbones.codec import Autoencoder
from ledits.backbones.flux import GUIDANCE, positions
from ledits.backbones.network import Net
from ledits.backbones.schedule import flux_2_shift
from ledits.backbones.texts import Text, stack
from ledits.backbones.transformer import Family, middle, pack, text_first, unpack

_TOKENS = 512  # padded to it: the network attends to the padding too, which its language model does not


class Prompts:
    """Texts by `layers` of a language model, side by side."""

    def __init__(self, parts: Mapping[str, Any], device: torch.device, layers: Sequence[int], *, told: bool) -> None:
        self.encoder, self.device, self.layers, processor = parts["text_encoder"], device, layers, parts["tokenizer"]
        self.tokenizer = getattr(processor, "tokenizer", processor)  # dev's reads pictures as well
        self.around = _told(processor) if told else chat.around(processor, enable_thinking=False)

    @torch.no_grad()
    def embed(self, text: str) -> Text:
        ids, mask, words = chat.tokens(self.tokenizer, text, *self.around, _TOKENS, pad=True)
        ids, mask = ids.to(self.device), mask.to(self.device)
        out = self.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
        return Text(text, torch.cat([out.hidden_states[layer][0] for layer in self.layers], -1), words)


def _told(processor: Any) -> tuple[str, str]:
    from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE  # older diffusers have none

    return chat.around(processor, system=SYSTEM_MESSAGE)


def _statistics(vae: Any, like: Tensor, least: float | None) -> tuple[Tensor, Tensor]:
    mean, variance = (v.float().view(-1, 1, 1).to(like.device) for v in (vae.bn.running_mean, vae.bn.running_var))
    return mean, (variance + (vae.config.batch_norm_eps if least is None else least)).sqrt()


def _inward(vae: Any, z: Tensor, least: float | None) -> Tensor:
    mean, std = _statistics(vae, z, least)
    return F.pixel_shuffle((F.pixel_unshuffle(z, 2) - mean) / std, 2)


def _outward(vae: Any, x: Tensor, least: float | None) -> Tensor:
    mean, std = _statistics(vae, x, least)
    return F.pixel_shuffle(F.pixel_unshuffle(x, 2) * std + mean, 2)


def autoencoder(vae: Any, device: torch.device, *, least: float | None = None) -> Autoencoder:
    """The codec of FLUX.2's autoencoder. `least` is added to the variances; None: what its configuration says."""
    return Autoencoder(vae, device, partial(_inward, least=least), partial(_outward, least=least))


def call(net: Net, config: Any, x: Tensor, time: Tensor, texts: Sequence[Text]) -> Tensor:
    states, (r, _, h, w) = stack(texts), x.shape
    text_ids = F.pad(torch.arange(states.shape[1], device=x.device)[:, None].float(), (3, 0))
    tokens = net(
        hidden_states=pack(x), timestep=time.to(x.dtype), encoder_hidden_states=states, txt_ids=text_ids,
        guidance=torch.full((r,), GUIDANCE, device=x.device) if config.guidance_embeds else None,
        img_ids=positions(h // 2, w // 2, 4, x.device),
    ).sample  # fmt: skip
    return unpack(tokens, h, w)


def _family(layers: Sequence[int], *, told: bool) -> Family:
    return Family(
        call=call, prompts=partial(Prompts, layers=layers, told=told),
        layers=lambda net: middle(net, "transformer_blocks"), layout=text_first, shift=flux_2_shift,
        codec=autoencoder,
        distilled=lambda net, scheduler, index: bool(index.get("is_distilled")),
    )  # fmt: skip


DEV, KLEIN = _family((10, 20, 30), told=True), _family((9, 18, 27), told=False)
