"""What is loaded into a pipeline beside its networks: LoRAs of the text encoders, and IP-Adapters' pictures."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.embeddings import ImageProjection
from diffusers.utils.constants import USE_PEFT_BACKEND
from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers
from PIL import Image
from torch import Tensor

from ledits.backbones.lora import SCALING

ImagePrompts = tuple[Tensor, ...]  # one for each adapter, (1 d) or (1 tokens d)


@contextmanager
def lora_scaled(pipe: Any, attention: Mapping[str, Any] | None) -> Generator[None]:
    """Text encoders at the LoRA scale that the network is given as "scale" in `attention`, inside the block."""
    scale = None if attention is None or not USE_PEFT_BACKEND else attention.get("scale")
    encoders = [part for name, part in pipe.components.items() if name.startswith("text_encoder") and part]
    with SCALING:
        if scale is not None:
            for encoder in encoders:
                scale_lora_layers(encoder, scale)
        try:
            yield
        finally:
            if scale is not None:
                for encoder in encoders:
                    unscale_lora_layers(encoder, scale)


@torch.no_grad()
def image_prompts(pipe: Any, given: Any, device: torch.device) -> ImagePrompts | None:
    """What each loaded IP-Adapter is given of a picture, or of none; None where none is loaded.

    `given` is one picture for all adapters, or a list with one for each: PIL, array (H W 3) or tensor (3 H W).
    """
    projection = getattr(pipe.unet, "encoder_hid_proj", None)
    layers = list(getattr(projection, "image_projection_layers", []))
    if not layers:
        if given is not None:
            raise ValueError("ip_adapter_image was given and no adapter is loaded: call load_ip_adapter first")
        return None
    pictures = list(given) if isinstance(given, list | tuple) else [given] * len(layers)
    if len(pictures) != len(layers):
        raise ValueError(
            f"ip_adapter_image has {len(pictures)} pictures for {len(layers)} adapters: give one for each adapter"
        )
    dtype, found = pipe.unet.dtype, list[Tensor]()
    for layer, picture in zip(layers, pictures, strict=True):
        plain = isinstance(layer, ImageProjection)
        if plain and picture is None:
            found.append(torch.zeros(1, cast("Any", layer.image_embeds).in_features, device=device, dtype=dtype))
            continue
        blank = Image.new("RGB", (224, 224))
        pixels = _pixels(pipe.feature_extractor, blank if picture is None else picture)
        pixels = (torch.zeros_like(pixels) if picture is None else pixels).to(device, dtype)
        out = pipe.image_encoder(pixels, output_hidden_states=not plain)
        found.append(out.image_embeds if plain else out.hidden_states[-2])
    return tuple(found)


def _pixels(feature_extractor: Any, picture: Any) -> Tensor:
    if not isinstance(picture, Image.Image | np.ndarray | Tensor):
        raise ValueError(
            f"an ip_adapter_image of type {type(picture).__name__}: each adapter needs one PIL picture, array or tensor"
        )
    if not isinstance(picture, Image.Image) and picture.ndim != 3:
        raise ValueError(
            f"an ip_adapter_image of shape {tuple(picture.shape)}: one picture for each adapter is needed, (H W 3) as "
            "an array or (3 H W) as a tensor"
        )
    return feature_extractor(picture, return_tensors="pt").pixel_values
