"""Attention control in the way of Prompt-to-Prompt (Hertz et al. 2022), after DDIM inversion.

The source's caption and the twin's are run side by side. For a share of the steps the target's cross-attention is the
source's wherever their tokens correspond, and its self-attention is the source's at the deeper levels, as published.
Rows of a pass are source, null, target; x_b of each (3b c h w).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import Any, cast

import torch
from torch import Tensor

from ledits.backbones.latent_unet import LatentUNet
from ledits.backbones.stable_diffusion import ClipPrompts
from ledits.method.core import Schedule

# Self-attention is taken over for the first 40 % of the steps, on maps of at most a quarter of the latent cells:
# published as 16x16 of 64x64 cells; small networks have little below that.
SELF_SHARE, SELF_CELLS = 0.4, 0.25


class _Control:
    """An attention processor that computes plain attention, the target's taken over from the source while it is on."""

    def __init__(self, source_token: Tensor, cells: int) -> None:
        self.cross, self.own = False, False  # which attention is taken over now
        self.asked = False
        self._source_token = source_token  # (b tokens): of each target token, the source's that it stands for; or -1
        self._cells = cells

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,  # noqa: ARG002
        temb: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        self.asked = True
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (3b heads cells d)
            for states in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        weights = (q @ k.transpose(2, 3) * attn.scale).softmax(-1).unflatten(0, (3, -1))
        if encoder_hidden_states is not None and self.cross:
            stands = self._source_token[:, None, None].expand_as(weights[0])
            taken = weights[0].gather(-1, stands.clamp(min=0))
            weights = torch.stack([weights[0], weights[1], torch.where(stands >= 0, taken, weights[2])])
        elif encoder_hidden_states is None and self.own and hidden_states.shape[1] <= self._cells:
            weights = torch.stack([weights[0], weights[1], weights[0]])
        states = (weights.flatten(0, 1) @ v).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](states))


def correspondence(source: Sequence[int], target: Sequence[int]) -> list[int]:
    """For each target token the position of the source token it stands for, or -1: equal ones, and words exchanged."""
    result = [-1] * len(target)
    for what, i, i_end, j, j_end in SequenceMatcher(None, source, target, autojunk=False).get_opcodes():
        if what == "equal" or (what == "replace" and i_end - i == j_end - j):
            result[j:j_end] = range(i, i_end)
    return result


def edit(
    backbone: LatentUNet,
    schedule: Schedule,
    x: Tensor,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    scale: float,
    share: float,
) -> tuple[Tensor, int]:
    """Latents (b c h w) sampled by DDIM from the inverted x, for the target captions; and the network evaluations.

    scale: of the target's classifier-free guidance; share: of the steps in which cross-attention is taken over.
    """
    b, n = len(x), len(schedule)
    prompts = (*sources, *[""] * b, *targets)
    x = x.repeat(3, 1, 1, 1)
    with backbone.denoiser(schedule, maps=False) as denoise, _controlled(backbone, x, sources, targets) as control:
        for i in range(n):
            control.cross, control.own = i < share * n, i < SELF_SHARE * n
            x0 = denoise(x[None], [i], [prompts])[0][0, 0]
            if not control.asked:  # it would be DDIM, under another name
                raise ValueError("the network's layers take no attention of one's own: load it with packed=False")
            source, null, target = x0.chunk(3)
            target = null + scale * (target - null)
            x0 = torch.cat([source, target, target])
            eps = (x - schedule.alpha[i] * x0) / schedule.sigma[i]
            x = schedule.alpha[i + 1] * x0 + schedule.sigma[i + 1] * eps
        return x[2 * b :], denoise.evaluations


@contextmanager
def _controlled(backbone: LatentUNet, x: Tensor, sources: Sequence[str], targets: Sequence[str]) -> Generator[_Control]:
    tokenizer = cast("ClipPrompts", backbone.prompts).tokenizer

    def tokens(text: str) -> list[int]:
        longest = tokenizer.model_max_length
        return tokenizer(text, padding="max_length", max_length=longest).input_ids

    pairs = zip(sources, targets, strict=True)
    stands = torch.tensor([correspondence(tokens(source), tokens(target)) for source, target in pairs])
    control = _Control(stands.to(x.device), int(SELF_CELLS * x[0, 0].numel()))
    processors = dict(backbone.unet.attn_processors)
    backbone.unet.set_attn_processor(control)
    try:
        yield control
    finally:
        backbone.unet.set_attn_processor(processors)
