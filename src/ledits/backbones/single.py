"""A file's tensors as parts: converted by diffusers where it knows the layout, every tensor accounted for."""

import re
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor

from ledits.backbones import reading
from ledits.files import single
from ledits.files.checkpoints import Checkpoint
from ledits.files.single import PREFIXES, File

# How ComfyUI marks weights in 8 bits: a number beside each that they are to be multiplied with.
_SCALES = (".scale_weight", ".weight_scale")
_MARKS = ("scaled_fp8", ".scale_input", ".input_scale", ".comfy_quant")
_VAE = ("first_stage_model.", "vae.", "")
# Of late transformers leaves a part of the names of CLIP's tensors out, and so do files that are made of its folders.
_SHORTENED = re.compile(
    r"^(cond_stage_model|conditioner\.embedders\.0)\.transformer\.(?=(embeddings|encoder|final_layer_norm)\.)"
)
# What lies in such files beside the weights that are used.
_BESIDE = ("model_ema.", "loss.", "first_stage_model.loss.")


def whole(file: File, checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Any]:
    """Network, autoencoder and text encoders of a file of Stable Diffusion 1.x, 2.x or XL."""
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

    tensors = {
        _SHORTENED.sub(r"\1.transformer.text_model.", name): each
        for name, each in _plain(_read(file.path)).items()
        if not name.startswith(_BESIDE)
    }
    found = dict[str, Any]()
    with reading.complaints(checkpoint.name, "unet"):
        found["unet"] = _converted("UNet2DConditionModel", _under(tensors, file.prefix), checkpoint, "unet", dtype)
    with reading.complaints(checkpoint.name, "vae"):
        found["vae"] = _converted("AutoencoderKL", _under(tensors, _VAE[0]), checkpoint, "vae", dtype)
    for part in checkpoint.parts:
        if part.startswith("text_encoder"):
            with reading.complaints(checkpoint.name, part):
                cls = getattr(transformers, checkpoint.known.parts[part][0])
                made: Any = create_diffusers_clip_model_from_ldm(
                    cls, checkpoint=tensors, torch_dtype=dtype, local_files_only=True, **_settings(checkpoint, part),
                )  # fmt: skip
                reading.account(checkpoint.name, part, _missing(made), [])
                found[part] = made.to(dtype)
    return {part: each.eval().requires_grad_(False) for part, each in found.items()}


def network(file: File, checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The network of a file, with the configuration that the checkpoint has of it."""
    part = checkpoint.known.network
    if file.kind not in ("network", "model") or file.family != checkpoint.family:
        what = file.kind if file.family is None else f"{file.kind} of {file.family}"
        raise ValueError(f"{file.path.name} is a {what}, and {checkpoint.name!r} is a {checkpoint.family}")
    name = checkpoint.known.parts[part][0]
    with reading.complaints(file.path.name, part):
        if file.path.suffix == ".gguf":
            from diffusers.quantizers.quantization_config import GGUFQuantizationConfig

            made = getattr(diffusers, name).from_single_file(
                str(file.path), torch_dtype=dtype, local_files_only=True,
                quantization_config=GGUFQuantizationConfig(dtype), **_settings(checkpoint, part),
            )  # fmt: skip
            reading.account(file.path.name, part, _missing(made), [])
        else:
            made = _converted(name, _under(_plain(_read(file.path)), file.prefix), checkpoint, part, dtype)
    return made.eval().requires_grad_(False)


def vae(file: File, checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The autoencoder of a file, with the configuration that the checkpoint has of its own."""
    if file.kind != "vae" or file.path.suffix == ".gguf":
        raise ValueError(
            f"{file.path.name} is {single.with_article(file.kind)}, where an autoencoder is needed: a .safetensors "
            "file of one"
        )
    with reading.complaints(file.path.name, "vae"):
        tensors = {name: each for name, each in _plain(_read(file.path)).items() if not name.startswith(_BESIDE)}
        for prefix in _VAE:
            if any(name.startswith(prefix) for name in tensors):
                tensors = _under(tensors, prefix)
                break
        name = checkpoint.known.parts["vae"][0]
        return _converted(name, tensors, checkpoint, "vae", dtype).eval().requires_grad_(False)


def tiny_vae(file: File, dtype: torch.dtype) -> Any:
    """A small autoencoder of a file; it has one configuration, but for how many channels its latents have."""
    if file.kind != "tiny vae":
        raise ValueError(
            f"{file.path.name} is {single.with_article(file.kind)}, where a tiny autoencoder (TAESD) is needed"
        )
    with reading.complaints(file.path.name, "tiny vae"):
        tensors = _plain(_read(file.path))
        channels = {each.shape[1] for name, each in tensors.items() if name.startswith("decoder.") and each.dim() == 4}
        made: Any = AutoencoderTiny(latent_channels=min(channels, default=4))
        missing, unexpected = made.load_state_dict(tensors, strict=False)
        reading.account(file.path.name, "tiny vae", missing, unexpected)
        return made.to(dtype).eval().requires_grad_(False)


def text_encoder(file: File, checkpoint: Checkpoint, dtype: torch.dtype, taken: Iterable[str]) -> tuple[str, Any]:
    """Which of the checkpoint's text encoders a file is, and that part; one of `taken` is another file's."""
    if file.kind != "text encoder" or file.path.suffix == ".gguf" or file.note == "OpenCLIP":
        what = f"{file.note} {file.kind}".strip()
        raise ValueError(
            f"{file.path.name} is a {what}{file.path.suffix}, where a text encoder as transformers saves it is needed"
        )
    with reading.complaints(file.path.name, "text encoder"):
        tensors = _plain(_read(file.path))
        for part in checkpoint.parts:
            if not part.startswith("text_encoder") or part in taken:
                continue
            cls = getattr(transformers, checkpoint.known.parts[part][0])
            folder = checkpoint.places[part]
            config = cls.config_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            with torch.device("meta"):
                asked = sorted(prod(each.shape) for each in cls._from_config(config).parameters())
            # Told by its sizes: the two of SDXL and the three of SD3 differ in theirs, whatever they call their layers.
            held = sorted(each.numel() for each in tensors.values())
            if asked[-1] not in held[-2:] or abs(sum(asked) - sum(held)) > asked[-1]:
                continue
            loaded, said = cls.from_pretrained(
                None, config=config, state_dict=tensors, dtype=dtype, trust_remote_code=False, output_loading_info=True
            )
            reading.check_text(file.path.name, part, said)
            return part, loaded.to(dtype).eval().requires_grad_(False)
    raise ValueError(f"{file.path.name} is none of the text encoders of {checkpoint.name!r}: its sizes are others")


def _settings(checkpoint: Checkpoint, part: str) -> dict[str, Any]:
    """Where diffusers finds a part's configuration, in its arguments."""
    there = checkpoint.places[part]
    return {"config": str(there.parent), "subfolder": there.name}


def _read(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}


def _converted(cls: str, tensors: dict[str, Tensor], checkpoint: Checkpoint, part: str, dtype: torch.dtype) -> Any:
    """A part of diffusers, of tensors under its authors' names or diffusers' own."""
    held, names = sum(each.numel() for each in tensors.values()), list(tensors)
    if "input_blocks.0.0.weight" in tensors:  # diffusers knows these under their prefix alone
        tensors = {PREFIXES[0] + name: each for name, each in tensors.items()}
    made = getattr(diffusers, cls).from_single_file(
        tensors, torch_dtype=dtype, local_files_only=True, **_settings(checkpoint, part)
    )
    reading.account(checkpoint.name, part, _missing(made), [])
    used = sum(each.numel() for each in made.state_dict().values())
    if held != used:
        own = set(made.state_dict())
        odd = [name for name in names if name not in own][:3] if own & set(names) else names[:3]
        raise reading.Refused(
            f"model {checkpoint.name!r} is broken: its {part} has {held} numbers and its network takes {used}; some of "
            f"its tensors are {', '.join(odd)}"
        )
    return made


def _missing(made: Any) -> list[str]:
    return [name for name, each in made.named_parameters() if each.is_meta]


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with those of ComfyUI's scaled 8 bits multiplied out, and without its marks and settings."""
    found = dict[str, Tensor]()
    for name, each in tensors.items():
        if name.endswith((*_SCALES, *_MARKS)) or name in single.SETTINGS:
            continue
        stem = name.removesuffix(".weight")
        scale = next((tensors[stem + end] for end in _SCALES if stem + end in tensors), None)
        if scale is not None and name.endswith(".weight"):
            each = (each.float() * scale.float().view(-1, *[1] * (each.dim() - 1))).to(torch.bfloat16)
        elif each.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            each = each.to(torch.bfloat16)
        found[name] = each
    return found
