"""The one way from what is asked for to a backbone: find its files, choose formats, read every part, add, place."""

from pathlib import Path
from typing import Any, cast

import torch

from ledits.asked.loading import Loading
from ledits.backbones import hub, reading
from ledits.backbones.digest import fingerprint
from ledits.files import checkpoints
from ledits.files.checkpoints import Checkpoint

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def backbone(asked: Loading, *, packed: bool) -> Any:
    where = _device(asked.device)
    if asked.offload or asked.quantize:
        from ledits.backbones import large

        large.check(where, asked.offload, asked.quantize)
    checkpoint = _found(asked, where)
    dtype = _dtype(asked, where, checkpoint)
    kinds = hub.kinds(checkpoint.folder, checkpoint.configs, hub.preferred(dtype, asked.variant))
    hub.check_variant(asked.variant, kinds, asked.model)
    given, quantized = dict[str, Any](), dict[str, Any]()
    if asked.transformer is not None:
        from ledits.backbones import single

        network = checkpoint.known.network
        given[network] = single.network(Path(asked.transformer), checkpoint, dtype)
        kinds.pop(network, None)
    if asked.quantize is not None:
        from ledits.backbones import large

        quantized = large.quantization(asked.quantize, checkpoint, dtype)
    parts = reading.parts(checkpoint, dtype, kinds, given=given, quantization=quantized)
    family = checkpoint.known.load()
    if settle := getattr(family, "settle", None):
        settle(parts)
    if asked.offload is not None:
        from ledits.backbones import large

        large.place(parts, asked.offload, where)
    else:
        for part in parts.values():
            if isinstance(part, torch.nn.Module) and not getattr(part, "is_loaded_in_4bit", False):
                part.to(where)
        if getattr(family, "packed", False) and not asked.quantize:
            _lay_out(parts["unet"], parts["vae"], where, dtype, packed=packed)
    beside = () if asked.transformer is None else (Path(asked.transformer),)
    print_of = fingerprint(checkpoint.folder, kinds=kinds, beside=beside)
    try:
        made = family.backbone(
            parts, checkpoint.scheduler, name=asked.model, fingerprint=print_of, device=where, index=checkpoint.index,
            settings=checkpoint.own,
        )  # fmt: skip
        made.schedule(1, 0.15, made.multiple, made.multiple)  # a scheduler that means nothing is found now
        return made
    except ValueError:
        raise
    except Exception as error:
        raise reading.broken(asked.model, "configuration", error) from error


def _found(asked: Loading, where: torch.device) -> Checkpoint:
    folder = checkpoints.find(asked.model)
    if folder is None:
        def dtype(checkpoint: Checkpoint) -> torch.dtype:
            return _dtype(asked, where, checkpoint)

        without = ("transformer",) if asked.transformer else ()
        folder = hub.download(asked.model, asked.revision, asked.variant, dtype, without=without)
    return checkpoints.examine(folder, asked.model)


def _dtype(asked: Loading, where: torch.device, checkpoint: Checkpoint) -> torch.dtype:
    """What it runs in, by the device, and on a CPU by measurement: never by which files there are."""
    if asked.dtype != "auto":
        return _DTYPES[asked.dtype]
    if checkpoint.known.network == "transformer" or checkpoint.family == "IFPipeline":
        return torch.bfloat16 if where.type == "cuda" else torch.float32
    from ledits.cpu import precision

    levels = checkpoint.configs["unet"].get("block_out_channels")
    width = cast("list[Any]", levels)[-1] if isinstance(levels, list) and levels else 0
    return precision.best(where, width if isinstance(width, int) else 0)


def _lay_out(unet: Any, vae: Any, where: torch.device, dtype: torch.dtype, *, packed: bool) -> None:
    """Weights as the device reads them fastest."""
    from ledits.cpu.packed import available, pack

    if packed and available(where, dtype):
        pack(unet)
        pack(vae)
    else:
        unet.to(memory_format=torch.channels_last)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "mps", "cuda"):
            raise RuntimeError
    except RuntimeError:
        raise ValueError(f"device {name!r}: auto, cpu, mps, cuda and cuda:N are accepted") from None
    if (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    ):
        raise ValueError(
            f"device {name!r} is not there: this PyTorch sees no {device.type.upper()} device; the device cpu is "
            "always there"
        )
    return device
