"""An inversion where the pipeline runs by now, and whether two calls give the network the same."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ledits.backbones.texts import Text as PromptEmbedding
from ledits.method.core import Inversion, Prompt
from ledits.pipelines.outputs import Conditioning


def moved(inversion: Inversion, device: torch.device, dtype: torch.dtype) -> Inversion:
    """The inversion on `device`, its embeddings in `dtype`: `pipe.to(...)` may have been called since it was made."""
    x, denoised = inversion.x.to(device), inversion.denoised.to(device)
    shared = inversion.base_denoised is inversion.denoised
    return replace(
        inversion,
        x=x,
        denoised=denoised,
        base_denoised=denoised if shared else inversion.base_denoised.to(device),
        base_prompt=_prompt(inversion.base_prompt, device, dtype),
        source=_prompt(inversion.source, device, dtype),
    )


def embedding(text: PromptEmbedding, device: torch.device, dtype: torch.dtype) -> PromptEmbedding:
    """The same prompt on `device` in `dtype`, an object of its own."""
    return replace(
        text,
        states=text.states.to(device, dtype),
        pooled=None if text.pooled is None else text.pooled.to(device, dtype),
        image=None if text.image is None else tuple(each.to(device, dtype) for each in text.image),
    )


def equal(a: Conditioning, b: Conditioning) -> bool:
    """Whether the network is given the same; tensors, as those of IP-Adapter masks, are compared by content."""
    return all(_same(getattr(a, field.name), getattr(b, field.name)) for field in fields(Conditioning))


def _prompt(prompt: Prompt, device: torch.device, dtype: torch.dtype) -> Prompt:
    if not isinstance(prompt, tuple):
        return prompt
    return tuple(embedding(text, device, dtype) for text in cast("tuple[PromptEmbedding, ...]", prompt))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.equal(a.to(b), b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b)
