"""Models that are larger than a GPU's memory: quantised while they are read, one part from a file, parts offloaded."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ledits.files.checkpoints import Checkpoint

# Which package does it.
_QUANTIZERS = {"int8": "torchao", "fp8": "torchao", "nf4": "bitsandbytes"}


def check(device: torch.device, offload: str | None, quantize: str | None) -> None:
    """Raise ValueError for what is not there to do these with."""
    if offload == "sequential" and device.type == "cpu":
        raise ValueError(
            "offload 'sequential' moves weights to an accelerator, and the device is the CPU: leave it out"
        )
    if quantize is not None:
        if quantize == "nf4" and not torch.cuda.is_available():
            raise ValueError("quantize 'nf4' needs a CUDA device, and this PyTorch sees none: use int8")
        needs(_QUANTIZERS[quantize], f"quantize {quantize!r}")


def needs(package: str, what: str) -> None:
    """Raise ValueError, one sentence, where `package` is not installed, which `what` needs."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{what} needs the package {package}: pip install {package}")


def quantization(kind: str, checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Any]:
    """How to read the network and its language models, by part; CLIP is small, and stays as it is."""
    found = dict[str, Any]()
    for part in checkpoint.parts:
        if part == checkpoint.known.network:
            found[part] = _config(diffusers, kind, dtype)
        elif part.startswith("text_encoder") and "CLIP" not in checkpoint.known.parts[part][0]:
            found[part] = _config(transformers, kind, dtype)
    return found


def _config(library: Any, kind: str, dtype: torch.dtype) -> Any:
    """Both libraries have classes of these names, and take their own alone."""
    if kind == "nf4":
        return library.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    from torchao import quantization as ao  # pyright: ignore[reportMissingImports]

    return library.TorchAoConfig(ao.Int8WeightOnlyConfig() if kind == "int8" else ao.Float8WeightOnlyConfig())


class _Parts(DiffusionPipeline):
    """Any family's parts, for diffusers' offloading; each sends away the one before it in this order."""

    model_cpu_offload_seq = "text_encoder->text_encoder_2->text_encoder_3->text_conditioner->unet->transformer->vae"

    def __init__(self) -> None:
        super().__init__()
        self.parts = dict[str, Any]()

    @property
    def components(self) -> dict[str, Any]:
        return self.parts


def place(parts: Mapping[str, Any], offload: str, device: torch.device) -> None:
    """Parts where `offload` keeps them until they run."""
    pipe: Any = _Parts()
    pipe.parts.update({name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)})
    pipe.register_modules(**pipe.parts)
    {"model": _by_part, "sequential": _sequential, "group": _by_group}[offload](pipe, device)


def _sequential(pipe: Any, device: torch.device) -> None:
    pipe.enable_sequential_cpu_offload(device=device)


def _by_part(pipe: Any, device: torch.device) -> None:
    pipe.enable_model_cpu_offload(device=device)
    if device.type == "cpu":
        # Its "cpu:0" is another device than "cpu": each part's weights would be copied every time before it runs.
        for part in pipe._all_hooks:
            part.hook.execution_device = device


def _by_group(pipe: Any, device: torch.device) -> None:
    # An autoencoder is called by its parts, which its hooks don't know.
    pipe.enable_group_offload(
        onload_device=device, offload_device=torch.device("cpu"), offload_type="leaf_level", exclude_modules=["vae"]
    )
    if pipe.components.get("vae") is not None:
        pipe.vae.to(device)
