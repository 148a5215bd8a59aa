"""diffusers' `callback_on_step_end`: what it is handed, and what it changed, whether returned or changed in place."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ledits.backbones.latent_unet import UNetPrompts
from ledits.backbones.network import NetworkBackbone
from ledits.backbones.texts import Text as PromptEmbedding
from ledits.method.core import Schedule
from ledits.pipelines.inputs import Callback

Prompts = Sequence[tuple[PromptEmbedding, ...]]  # of the base prompt, then of each edit; one text a picture


def check(names: Sequence[str], accepted: Sequence[str]) -> None:
    """Raise ValueError for a tensor that the pipeline does not hand to callbacks."""
    if unknown := [name for name in names if name not in accepted]:
        raise ValueError(f"callback_on_step_end_tensor_inputs has {unknown}: {list(accepted)} are accepted")


def call(
    callback: Callback, names: Sequence[str], pipe: Any, backbone: NetworkBackbone, s: Schedule, i: int, x: Tensor,
    prompts: Prompts,
) -> Tensor | None:  # fmt: skip
    """Call the user's callback after step i, at state x; the state to go on from where it changed anything, else None.

    Changed embeddings are written into `prompts` and hold from the next step on. Where the base prompt's are changed, x
    itself is returned: the network is asked about it again, even where its answer along the path was known.
    """
    handed = _handed(names, backbone, x, prompts)
    before = {name: value.clone() for name, value in handed.items()}
    returned = callback(pipe, i, torch.tensor(s.t[i]), dict(handed)) or {}
    changed = {name: v for name, v in {**handed, **returned}.items() if _differ(v, before.get(name))}
    if "add_time_ids" in changed:
        raise ValueError("the callback returned other add_time_ids: sizes can't change between two steps")
    base = [(text.states, text.pooled) for text in prompts[0]]
    for name in _FIELDS.keys() & changed.keys():
        for text, row in zip(_texts(prompts, name), changed[name], strict=True):
            field = _FIELDS[name][0]
            setattr(text, field, row[: len(getattr(text, field))])
    if "latents" in changed:
        return changed["latents"]
    told = zip(prompts[0], base, strict=True)
    return x if any(_differ(t.states, states) or _differ(t.pooled, pooled) for t, (states, pooled) in told) else None


# The embeddings handed out: their field, and whether they are of all prompts or of the base prompt alone.
_FIELDS = {
    "negative_prompt_embeds": ("states", False), "prompt_embeds": ("states", True),
    "negative_pooled_prompt_embeds": ("pooled", False), "pooled_prompt_embeds": ("pooled", True),
    "add_text_embeds": ("pooled", True),  # SDXL's name for these
}  # fmt: skip


def _handed(names: Sequence[str], backbone: NetworkBackbone, x: Tensor, prompts: Prompts) -> dict[str, Tensor]:
    handed: dict[str, Tensor] = {}
    for name in names:
        if name == "latents":
            handed[name] = x.clone()  # a change in place must not reach the inversion
        elif name == "add_time_ids":
            height, width = (backbone.factor * side for side in x.shape[-2:])
            every = [text for prompt in prompts for text in prompt]
            handed[name] = cast("UNetPrompts", backbone.prompts).conditions(every, height, width)["time_ids"].clone()
        else:
            # Texts of unequal length are filled up with zeros, which are cut off again.
            given = [getattr(text, _FIELDS[name][0]) for text in _texts(prompts, name)]
            handed[name] = pad_sequence(given, batch_first=True)
    return handed


def _texts(prompts: Prompts, name: str) -> list[PromptEmbedding]:
    every = _FIELDS[name][1]
    return [text for prompt in (prompts if every else prompts[:1]) for text in prompt]


def _differ(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is not b
    return a.shape != b.shape or not torch.equal(a.to(b), b)
