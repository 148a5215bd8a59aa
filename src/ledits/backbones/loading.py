"""The one way from what is asked for to a backbone: find its files, choose formats, read every part, add, place."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from ledits.asked.loading import Loading
from ledits.backbones import hub, reading
from ledits.backbones.digest import fingerprint
from ledits.backbones.lora import Loaded
from ledits.errors import LeditsError
from ledits.files import checkpoints, families
from ledits.files.checkpoints import Checkpoint
from ledits.files.single import File, prediction, told, unusable, with_article


def backbone(asked: Loading, *, packed: bool) -> Any:
    where = device_named(asked.device)
    quantized = dict[str, Any]()
    if asked.offload or asked.quantize:
        from ledits.backbones import large

        large.check(where, asked.offload, asked.quantize)
    file = _file(asked)
    checkpoint = _checkpoint(asked, file, where)
    dtype = _dtype(asked, where, checkpoint)
    given, beside, additions = _given(asked, file, checkpoint, dtype)
    kinds = hub.kinds(
        checkpoint.places, [part for part in checkpoint.configs if part not in given],
        hub.preferred(dtype, asked.variant),
    )  # fmt: skip
    hub.check_variant(asked.variant, kinds, asked.model)
    if asked.quantize is not None:
        from ledits.backbones import large

        quantized = large.quantization(asked.quantize, checkpoint, dtype)
    parts = reading.parts(checkpoint, dtype, kinds, given=given, quantization=quantized)
    loras = list[Loaded]()
    if asked.loras or asked.embeddings:
        from ledits.backbones import additions as added

        words, loras = added.apply(parts, checkpoint, asked.loras, asked.embeddings)
        additions += words
    family = checkpoint.known.load()
    if settle := getattr(family, "settle", None):
        settle(parts)
    _place(parts, asked, where, dtype, packs=getattr(family, "packed", False), packed=packed)
    own_print = fingerprint(checkpoint.folder, kinds=kinds, beside=beside, apart=checkpoint.apart)
    try:
        made = family.backbone(
            parts, checkpoint.scheduler, name=asked.model, device=where, index=checkpoint.index, fingerprint=own_print,
            settings=checkpoint.own,
        )  # fmt: skip
        made.schedule(1, 0.15, made.multiple, made.multiple)  # a scheduler that means nothing is found now
    except ValueError:
        raise
    except Exception as error:
        raise reading.broken(asked.model, "configuration", error) from error
    made.made_of = checkpoint.family, parts, checkpoint.index
    made.added(tuple(additions), loras)
    if asked.tiny_vae is not None:
        from ledits.backbones import additions as added

        made.previews(added.tiny(asked.tiny_vae, dtype).to(where))
    return made


def _file(asked: Loading) -> File | None:
    """The file that the network is read from; None where it is read from a folder."""
    path = checkpoints.find(asked.model)
    if path is not None and path.is_file():
        file = told(path)
        if file.kind not in ("model", "network"):
            option = {"lora": "lora", "embedding": "embedding", "vae": "vae", "tiny vae": "tiny_vae",
                      "text encoder": "text_encoder"}[file.kind]  # fmt: skip
            raise ValueError(
                f"model {asked.model!r} is {with_article(file.kind)} and no model: give it as {option}, beside a model"
            )
    elif asked.transformer is None:
        return None
    else:
        file = told(Path(asked.transformer))
    if refused := unusable(file):
        raise ValueError(f"{file.path} can't be edited with: {refused}")
    return file


def _checkpoint(asked: Loading, file: File | None, where: torch.device) -> Checkpoint:
    """What the folder says that the parts are read from, or the configurations of a file."""
    folder = checkpoints.find(asked.model)
    name = asked.model
    if file is not None and folder is not None and folder.is_file():
        if asked.base is not None:
            name, folder = asked.base, checkpoints.find(asked.base)
        elif _is_whole(file):
            found = checkpoints.examine(checkpoints.layout(file), asked.model)
            return replace(found, scheduler={**found.scheduler, **prediction(file)})
        else:
            raise ValueError(
                f"model {asked.model!r} is the network of a {file.family} alone: give a folder or hub id that has its "
                "text encoders and autoencoder as the base"
            )
    without = [] if file is None else ["transformer", "unet"]

    def dtype(checkpoint: Checkpoint) -> torch.dtype:
        return _dtype(asked, where, checkpoint)

    if folder is None:
        folder = hub.download(name, asked.revision, asked.variant, dtype, without=without)
    elif folder.is_dir() and checkpoints.elsewhere(folder, asked.model):
        hub.complete(folder, asked.model, asked.variant, dtype, without=without)
    if folder.is_file():
        raise ValueError(f"{name!r} is a file, where a folder or a hub id that has the rest of the model is needed")
    found = checkpoints.examine(folder, asked.model)
    return found if file is None else replace(found, scheduler={**found.scheduler, **prediction(file)})


def _is_whole(file: File) -> bool:
    return file.kind == "model" and str(file.family) in ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def _given(
    asked: Loading, file: File | None, checkpoint: Checkpoint, dtype: torch.dtype
) -> tuple[dict[str, Any], list[Path], list[str]]:
    """The parts that come from files, those files as far as they are the checkpoint's own, and what was added."""
    given, beside, additions = dict[str, Any](), list[Path](), list[str]()
    if file is not None:
        from ledits.backbones import single

        beside.append(file.path)
        if _is_whole(file) and checkpoint.family == file.family:
            given |= single.whole(file, checkpoint, dtype)
            given |= _words(checkpoint)
        else:
            given[checkpoint.known.network] = single.network(file, checkpoint, dtype)
    taken = set[str]()
    for path in map(Path, asked.text_encoders):
        from ledits.backbones import single

        part, encoder = single.text_encoder(told(path), checkpoint, dtype, taken)
        given[part] = encoder
        taken.add(part)
        beside.append(path)
    if asked.vae is not None:
        from ledits.backbones import additions as added

        given["vae"], files, said = added.autoencoder(asked.vae, checkpoint, dtype)
        beside += files  # its latents are other pictures, so that inversions belong to it
        additions.append(said)
    return given, beside, additions


def _words(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """CLIP's tokenizers, for configurations that come without."""
    from ledits.backbones import clip_words

    return {
        # Padding of OpenCLIP's models is the word 0.
        part: clip_words.tokenizer("<|endoftext|>" if _pads_with_end(checkpoint, part) else "!")
        for part in checkpoint.parts
        if families.is_words(part) and not checkpoint.places[part].is_dir()
    }


def _pads_with_end(checkpoint: Checkpoint, part: str) -> bool:
    return checkpoint.configs[part.replace("tokenizer", "text_encoder")].get("hidden_act") == "quick_gelu"


def _place(
    parts: Mapping[str, Any], asked: Loading, where: torch.device, dtype: torch.dtype, *, packs: bool, packed: bool
) -> None:
    """Every part where it runs; a UNet and its autoencoder, where `packs`, in the layout that is fastest there."""
    if asked.offload is not None:
        from ledits.backbones import large

        large.place(parts, asked.offload, where)
        return
    for part in parts.values():
        if isinstance(part, torch.nn.Module) and not getattr(part, "is_loaded_in_4bit", False):
            part.to(where)
    if packs and not asked.quantize:
        _lay_out(parts["unet"], parts["vae"], where, dtype, packed=packed)


def _dtype(asked: Loading, where: torch.device, checkpoint: Checkpoint) -> torch.dtype:
    """What it runs in, by the device, and on a CPU by measurement: never by which files there are."""
    if asked.dtype != "auto":
        return getattr(torch, asked.dtype)
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


def device_named(name: str) -> torch.device:
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
        raise LeditsError(
            f"device {name!r} is not there, as this PyTorch sees no {device.type.upper()} device",
            "use device='cpu'", option="device", given=name, accepted="auto, cpu",
        )  # fmt: skip
    return device
