"""Models that are larger than a GPU's memory: quantised while they are read, one part from a file, parts offloaded."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.quantizers.pipe_quant_config import PipelineQuantizationConfig
from diffusers.quantizers.quantization_config import GGUFQuantizationConfig

OFFLOADS = ("model", "group", "sequential")
# Which package does it.
_QUANTIZERS = {"int8": "torchao", "fp8": "torchao", "nf4": "bitsandbytes"}


def check(device: torch.device, offload: str | None, quantize: str | None, transformer: str | Path | None) -> None:
    """Raise ValueError for options that are not known, and for what is not there to do them with."""
    if offload not in (None, *OFFLOADS):
        raise ValueError(f"offload {offload!r}: {', '.join(OFFLOADS)} are accepted")
    if offload == "sequential" and device.type == "cpu":
        raise ValueError(
            "offload 'sequential' moves weights to an accelerator, and the device is the CPU: leave it out"
        )
    if quantize is not None:
        if quantize not in _QUANTIZERS:
            raise ValueError(f"quantize {quantize!r}: {', '.join(_QUANTIZERS)} are accepted")
        if quantize == "nf4" and not torch.cuda.is_available():
            raise ValueError("quantize 'nf4' needs a CUDA device, and this PyTorch sees none: use int8")
        needs(_QUANTIZERS[quantize], f"quantize {quantize!r}")
        if transformer is not None:
            raise ValueError(
                "quantize is for weights as they are read from a folder: a file of a transformer has its own"
            )
    if transformer is not None:
        path = Path(transformer)
        if path.suffix not in (".gguf", ".safetensors") or not path.is_file():
            raise ValueError(f"transformer {str(transformer)!r}: a .gguf or .safetensors file is needed")
        if path.suffix == ".gguf":
            needs("gguf", f"transformer {path.name!r}")


def needs(package: str, what: str) -> None:
    """Raise ValueError, one sentence, where `package` is not installed, which `what` needs."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{what} needs the package {package}: pip install {package}")


def quantization(kind: str, index: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """How to read the network and its language models; CLIP is small, and stays as it is."""
    libraries = {"diffusers": diffusers, "transformers": transformers}
    mapping = dict[str, Any]()
    for part, (library, name) in ((part, found) for part, found in index.items() if isinstance(found, list)):
        if part in ("transformer", "unet") or (part.startswith("text_encoder") and name and "CLIP" not in name):
            mapping[part] = _config(libraries[library], kind, dtype)
    return PipelineQuantizationConfig(quant_mapping=mapping)


def _config(library: Any, kind: str, dtype: torch.dtype) -> Any:
    """Both libraries have classes of these names, and take their own alone."""
    if kind == "nf4":
        return library.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    from torchao import quantization as ao  # pyright: ignore[reportMissingImports]

    return library.TorchAoConfig(ao.Int8WeightOnlyConfig() if kind == "int8" else ao.Float8WeightOnlyConfig())


def one_file(path: Path, folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """The transformer of a file, with the configuration that the folder has of it."""
    if "transformer" not in index:
        raise ValueError(f"transformer {path.name!r}: a {index['_class_name']} has no transformer")
    kind = getattr(diffusers, index["transformer"][1])
    how = {"quantization_config": GGUFQuantizationConfig(dtype)} if path.suffix == ".gguf" else {}
    return kind.from_single_file(
        str(path), config=str(folder), subfolder="transformer", torch_dtype=dtype, local_files_only=True, **how
    )


def place(pipe: Any, offload: str | None, device: torch.device) -> None:
    """Parts on the device, or where `offload` keeps them until they run."""
    ways: dict[str | None, Callable[[], Any]] = {
        "model": lambda: _by_part(pipe, device),
        "sequential": lambda: pipe.enable_sequential_cpu_offload(device=device),
        "group": lambda: _by_group(pipe, device),
    }
    ways.get(offload, lambda: pipe.to(device))()


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
