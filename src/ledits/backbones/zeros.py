"""Stable Diffusion 3 without T5 is told 256 zeros in its place: here one token does for all of them, exactly.

They begin equal and have no positions, so that every block keeps them equal, and each attention sees the same key 256
times: one key whose score is log(256) higher. A network of 64 picture tokens is told 97 tokens in place of 352.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0
from torch import Tensor

COUNT = 256


def merge(net: Any) -> None:
    """Have the last token of all texts that `net` is told stand for the zeros, in place."""
    net.set_attn_processor(_Merged())


def are_merged(net: Any) -> bool:
    return any(isinstance(processor, _Merged) for processor in net.attn_processors.values())


@contextmanager
def unmerged(net: Any) -> Generator[None]:
    """While the network takes all of them, as diffusers' pipeline tells it."""
    if not hasattr(net, "attn_processors") or not are_merged(net):
        yield
        return
    kept = dict(net.attn_processors)  # which `set_attn_processor` empties
    net.set_attn_processor(JointAttnProcessor2_0())
    try:
        yield
    finally:
        net.set_attn_processor(kept)


class _Merged(JointAttnProcessor2_0):
    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Any:  # fmt: skip
        if encoder_hidden_states is None:  # a second attention, of the picture alone
            return super().__call__(attn, cast("Any", hidden_states))
        layer: Any = attn

        def heads(x: Tensor, norm: Any = None) -> Tensor:
            x = x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            return x if norm is None else norm(x)

        picture, text = hidden_states, encoder_hidden_states
        q = torch.cat([heads(layer.to_q(picture), layer.norm_q), heads(layer.add_q_proj(text), layer.norm_added_q)], 2)
        k = torch.cat([heads(layer.to_k(picture), layer.norm_k), heads(layer.add_k_proj(text), layer.norm_added_k)], 2)
        v = torch.cat([heads(layer.to_v(picture)), heads(layer.add_v_proj(text))], 2)
        more = q.new_zeros(1, 1, q.shape[2], k.shape[2])
        more[..., -1] = math.log(COUNT)
        out = F.scaled_dot_product_attention(q, k, v, more).transpose(1, 2).flatten(2)
        seen, told = out[:, : picture.shape[1]], out[:, picture.shape[1] :]
        return layer.to_out[1](layer.to_out[0](seen)), told if attn.context_pre_only else layer.to_add_out(told)
