"""The table of families: which pipeline's parts make which backbone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ledits.backbones import (
    chroma,
    deepfloyd_if,
    flux,
    flux_2,
    gemma,
    large,
    pixart,
    qwen_image,
    stable_diffusion_3,
    z_image,
    zeros,
)
from ledits.backbones.latent_unet import LatentUNet
from ledits.backbones.stable_diffusion import ClipPrompts
from ledits.backbones.stable_diffusion_xl import ClipPairPrompts
from ledits.backbones.transformer import LatentTransformer

# By the names of diffusers' pipelines, in model_index.json.
TRANSFORMERS = {
    "StableDiffusion3Pipeline": stable_diffusion_3.FAMILY,
    "FluxPipeline": flux.FAMILY,
    "ChromaPipeline": chroma.FAMILY,
    "ZImagePipeline": z_image.FAMILY,
    "QwenImagePipeline": qwen_image.FAMILY,
    "Flux2KleinPipeline": flux_2.KLEIN,
    "Flux2Pipeline": flux_2.DEV,
    "SanaPipeline": gemma.SANA,
    "PixArtSigmaPipeline": pixart.FAMILY,
    "Lumina2Pipeline": gemma.LUMINA,
}


def from_pipe(
    pipe: Any,
    *,
    name: str | None = None,
    fingerprint: str = "",
    settings: Mapping[str, Any] | None = None,
    max_batch: int | None = None,
) -> LatentUNet | LatentTransformer:
    """The backbone of a diffusers pipeline, whose parts stay as they are: offloaded, quantised, with adapters.

    Raises ValueError for a pipeline of no family that is known.
    """
    kind = type(pipe).__name__.replace("Img2Img", "").replace("Inpaint", "").replace("LEditsPPPipeline", "")
    kind = kind if kind.endswith("Pipeline") else f"{kind}Pipeline"
    parts: Mapping[str, Any] = pipe.components
    named: dict[str, Any] = {"name": name or type(pipe).__name__, "fingerprint": fingerprint, "settings": settings,
             "device": torch.device(pipe._execution_device), "max_batch": max_batch}  # fmt: skip
    if (family := TRANSFORMERS.get(kind)) is not None:
        return LatentTransformer(family, parts, pipe.scheduler.config, index=pipe.config, **named)
    if kind in ("StableDiffusionPipeline", "LatentConsistencyModelPipeline"):
        prompts = ClipPrompts(parts["tokenizer"], parts["text_encoder"], named["device"])
    elif kind == "StableDiffusionXLPipeline":
        pairs = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
        pairs = [(parts[a], parts[b]) for a, b in pairs if parts.get(b) is not None]
        prompts = ClipPairPrompts(
            [tokenizer for tokenizer, _ in pairs], [encoder for _, encoder in pairs], named["device"],
            bool(pipe.config.get("force_zeros_for_empty_prompt", True)),
            score=6.0 if pipe.config.get("requires_aesthetics_score") else None,
        )  # fmt: skip
    elif kind == "IFPipeline":
        given = {**deepfloyd_if.DEFAULTS, **(settings or {}).get("defaults", {})}
        named["settings"] = {**(settings or {}), "defaults": given}
        prompts = deepfloyd_if.Prompts(parts, named["device"])
    else:
        known = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "IFPipeline", *TRANSFORMERS)
        raise ValueError(f"a pipeline of {type(pipe).__name__} can't be edited with: {', '.join(known)} are accepted")
    return LatentUNet(parts["unet"], parts.get("vae"), prompts, pipe.scheduler.config, **named)


def read(
    folder: Path, index: Mapping[str, Any], *, name: str, fingerprint: str, device: torch.device, dtype: torch.dtype,
    offload: str | None = None, variant: str | None = None, quantize: str | None = None,
    transformer: Path | None = None,
) -> LatentTransformer | LatentUNet:  # fmt: skip
    """A checkpoint by way of its diffusers pipeline; `index` is the content of model_index.json."""
    import diffusers
    from diffusers.utils import logging as theirs
    from transformers.utils import logging as others

    # Bars that nobody asked for: whoever loads a model says so himself.
    theirs.disable_progress_bar()
    others.disable_progress_bar()
    # A part that is left out, as T5 may be, is said to be none: diffusers asks for it otherwise.
    absent: dict[str, Any] = {part: None for part, kind in index.items() if isinstance(kind, list) and kind[0] is None}  # pyright: ignore[reportUnknownVariableType]
    if index["_class_name"] == "IFPipeline":
        absent |= dict.fromkeys(("safety_checker", "feature_extractor", "watermarker"))
        absent |= {"requires_safety_checker": False}
    if index.get("tokenizer") == ["transformers", "PixtralProcessor"]:  # FLUX.2 dev's
        large.needs("torchvision", f"model {name!r}")
    how: dict[str, Any] = {}
    if quantize is not None:
        how["quantization_config"] = large.quantization(quantize, index, dtype)
    try:
        if transformer is not None:
            how["transformer"] = large.one_file(transformer, folder, index, dtype)
        pipe: Any = getattr(diffusers, index["_class_name"]).from_pretrained(
            folder,
            torch_dtype=dtype,
            use_safetensors=True,
            variant=variant,
            local_files_only=True,
            **absent,
            **how,
        )
        settings = json.loads(file.read_text()) if (file := folder / "ledits.json").exists() else None
    except Exception as error:
        # Whatever a broken file makes these libraries raise, it is the checkpoint that is broken.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"model {name!r} is broken: {reason}") from error
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if index["_class_name"] == "StableDiffusion3Pipeline" and pipe.text_encoder_3 is None:
        zeros.merge(pipe.transformer)
    large.place(pipe, offload, device)
    return from_pipe(pipe, name=name, fingerprint=fingerprint, settings=settings)
