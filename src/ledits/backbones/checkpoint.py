"""Checkpoints in diffusers' layout, from a folder to a backbone; each part is read from safetensors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
import transformers
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from ledits.backbones.latent_unet import LatentUNet
from ledits.backbones.stable_diffusion import ClipPrompts
from ledits.backbones.stable_diffusion_xl import ClipPairPrompts
from ledits.cpu.packed import available, pack


def stable_diffusion(
    folder: Path, index: Mapping[str, Any], *, name: str, fingerprint: str, device: torch.device, dtype: torch.dtype,
    packed: bool,
) -> LatentUNet:  # fmt: skip
    """Stable Diffusion 1.x and 2.x; `index` is the content of model_index.json."""
    parts = _parts(folder, index, ("text_encoder",), name, device, dtype, packed)
    prompts = ClipPrompts(parts["tokenizer"], parts["text_encoder"], device)
    return _backbone(parts, prompts, name, fingerprint)


def stable_diffusion_xl(
    folder: Path, index: Mapping[str, Any], *, name: str, fingerprint: str, device: torch.device, dtype: torch.dtype,
    packed: bool,
) -> LatentUNet:  # fmt: skip
    """Stable Diffusion XL, and its refiner, which has the second text encoder only."""
    names = [part for part in ("text_encoder", "text_encoder_2") if (index.get(part) or [None])[0]]
    parts = _parts(folder, index, names, name, device, dtype, packed)
    prompts = ClipPairPrompts(
        [parts[part.replace("text_encoder", "tokenizer")] for part in names],
        [parts[part] for part in names],
        device,
        bool(index.get("force_zeros_for_empty_prompt", True)),
        score=6.0 if index.get("requires_aesthetics_score") else None,
    )
    return _backbone(parts, prompts, name, fingerprint)


def width(folder: Path) -> int:
    """Channels of the UNet's widest level; 0 where its configuration can't be read, which loading it will say."""
    try:
        return int(json.loads((folder / "unet" / "config.json").read_text())["block_out_channels"][-1])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return 0


def _parts(
    folder: Path, index: Mapping[str, Any], encoders: Sequence[str], name: str, device: torch.device,
    dtype: torch.dtype, packed: bool,
) -> dict[str, Any]:  # fmt: skip
    for part in ("unet", "vae", *encoders):
        if any((folder / part).glob("*.safetensors")):
            continue
        if any((folder / part).glob("*.bin")):
            raise ValueError(
                f"model {name!r} has its {part} only as a pickle, which can run code when it is opened: "
                "convert it with save_pretrained(..., safe_serialization=True)"
            )
        raise ValueError(f"model {name!r} is incomplete: {part}/ has no .safetensors file")
    parts = dict[str, Any]()
    try:
        parts["unet"] = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype, use_safetensors=True)
        kind = getattr(diffusers, index["vae"][1])
        parts["vae"] = kind.from_pretrained(folder / "vae", torch_dtype=dtype, use_safetensors=True)
        for part in encoders:
            kind = getattr(transformers, index[part][1])
            parts[part] = kind.from_pretrained(folder / part, dtype=dtype, use_safetensors=True)
            tokenizer = part.replace("text_encoder", "tokenizer")
            parts[tokenizer] = transformers.CLIPTokenizer.from_pretrained(folder / tokenizer)
        parts["scheduler"] = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        parts["settings"] = json.loads(file.read_text()) if (file := folder / "ledits.json").exists() else None
    except Exception as error:
        # Whatever a broken file makes these libraries raise, it is the checkpoint that is broken.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"model {name!r} is broken: {reason}") from error
    for part in ("unet", "vae", *encoders):
        parts[part].to(device).eval().requires_grad_(False)
    if packed and available(device, dtype):
        pack(parts["unet"])
        pack(parts["vae"])
    else:
        cast("Any", parts["unet"]).to(memory_format=torch.channels_last)
    return parts


def _backbone(
    parts: Mapping[str, Any], prompts: ClipPrompts | ClipPairPrompts, name: str, fingerprint: str
) -> LatentUNet:
    return LatentUNet(
        parts["unet"], parts["vae"], prompts, parts["scheduler"],
        name=name, fingerprint=fingerprint, settings=parts["settings"],
    )  # fmt: skip
