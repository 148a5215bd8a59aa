"""A file's tensors as parts: converted by diffusers where it knows the layout, every tensor accounted for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file
from torch import Tensor

from ledits.backbones import reading
from ledits.files import single
from ledits.files.checkpoints import Checkpoint

# How ComfyUI marks weights in 8 bits: a number beside each that they are to be multiplied with.
_SCALES = (".scale_weight", ".weight_scale")
_MARKS = ("scaled_fp8", ".scale_input", ".input_scale", ".comfy_quant")


def network(path: Path, checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The network of a file, with the configuration that the checkpoint has of it."""
    part = checkpoint.known.network
    cls = getattr(diffusers, checkpoint.known.parts[part][0])
    found = single.told(path)
    if found.kind not in ("network", "model") or found.family != checkpoint.family:
        what = found.kind if found.family is None else f"{found.kind} of {found.family}"
        raise ValueError(f"{path.name} is a {what}, and {checkpoint.name!r} is a {checkpoint.family}")
    with reading.complaints(checkpoint.name, part):
        if path.suffix == ".gguf":
            from diffusers.quantizers.quantization_config import GGUFQuantizationConfig

            made = cls.from_single_file(
                str(path), config=str(checkpoint.folder), subfolder=part, torch_dtype=dtype, local_files_only=True,
                quantization_config=GGUFQuantizationConfig(dtype),
            )  # fmt: skip
        else:
            tensors = plain(load_file(path))
            inside = {name.removeprefix(found.prefix): each for name, each in tensors.items() if name.startswith(found.prefix)}
            made = converted(cls, inside, checkpoint, part, dtype)
    return made.eval().requires_grad_(False)


def converted(
    cls: Any, tensors: dict[str, Tensor], checkpoint: Checkpoint, part: str, dtype: torch.dtype
) -> Any:  # fmt: skip
    """A part of diffusers, of tensors under its authors' names or diffusers' own."""
    held = sum(each.numel() for each in tensors.values())
    made = cls.from_single_file(
        tensors, config=str(checkpoint.folder), subfolder=part, torch_dtype=dtype, local_files_only=True
    )
    missing = [name for name, each in made.named_parameters() if each.is_meta]
    reading.account(checkpoint.name, part, missing, [])
    return made


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with those of ComfyUI's scaled 8 bits multiplied out, and without its marks."""
    found = dict[str, Tensor]()
    scales = {name: each for name, each in tensors.items() if name.endswith(_SCALES)}
    for name, each in tensors.items():
        if name in scales or name.endswith(_MARKS):
            continue
        stem = name.removesuffix(".weight")
        scale = next((scales[stem + end] for end in _SCALES if stem + end in scales), None)
        if scale is not None and name.endswith(".weight"):
            each = (each.float() * scale.float().view(-1, *[1] * (each.dim() - 1))).to(torch.bfloat16)
        elif each.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            each = each.to(torch.bfloat16)
        found[name] = each
    return found
