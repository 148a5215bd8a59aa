"""What is added to a checkpoint: LoRAs, words that were learned, other autoencoders. Read by diffusers and peft."""

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file

from ledits.asked.loading import Embedding, Lora, names
from ledits.backbones import reading, single
from ledits.backbones.digest import of_file
from ledits.backbones.lora import Loaded
from ledits.backbones.own_pipeline import pipeline
from ledits.files import configs
from ledits.files import single as files
from ledits.files.checkpoints import Checkpoint


def autoencoder(where: str, checkpoint: Checkpoint, dtype: torch.dtype) -> tuple[Any, list[Path], str]:
    """An autoencoder in place of the checkpoint's, of a file or a folder, its files and its hash."""
    path = Path(where).expanduser()
    if path.is_file():
        return single.vae(files.told(path), checkpoint, dtype), [path], f"vae {of_file(path)[:32]}"
    folder = path / "vae" if (path / "vae").is_dir() else path
    if not (folder / "config.json").is_file():
        raise ValueError(f"vae {where!r}: a .safetensors file or a folder with a config.json is needed")
    made = _of_folder(folder, checkpoint.known.parts["vae"], dtype)
    weights = sorted(folder.glob("*.safetensors"))
    return made, weights, f"vae {' '.join(of_file(each)[:32] for each in weights)}"


def tiny(where: str, dtype: torch.dtype) -> Any:
    """A small autoencoder for previews, of a file or a folder."""
    path = Path(where).expanduser()
    if path.is_file():
        return single.tiny_vae(files.told(path), dtype)
    if not (path / "config.json").is_file():
        raise ValueError(f"tiny vae {where!r}: a .safetensors file or a folder with a config.json is needed")
    return _of_folder(path, ("AutoencoderTiny",), dtype)


def _of_folder(folder: Path, accepted: Sequence[str], dtype: torch.dtype) -> Any:
    said = configs.config(folder / "config.json", str(folder)).get("_class_name")
    if said not in accepted:
        raise ValueError(f"vae {str(folder)!r} is a {str(said)[:80]}, where a {' or '.join(accepted)} is needed")
    with reading.complaints(str(folder), "vae"):
        made, about = getattr(diffusers, str(said)).from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        reading.account(str(folder), "vae", about["missing_keys"], about["unexpected_keys"])
    return made.eval().requires_grad_(False)


def apply(
    parts: Mapping[str, Any], checkpoint: Checkpoint, loras: Sequence[Lora], embeddings: Sequence[Embedding]
) -> tuple[list[str], list[Loaded]]:
    """Put LoRAs on the parts and learned words into them: the words, each by its hash, and the LoRAs."""
    pipe = pipeline(checkpoint.family, parts, checkpoint.index)
    said = [_learn(pipe, each, checkpoint) for each in embeddings]
    loaded = [
        Loaded(name, f"lora_{k}", each.weight, _adapt(pipe, f"lora_{k}", each, checkpoint))
        for k, (name, each) in enumerate(zip(names(loras), loras, strict=True))
    ]
    if loaded:
        pipe.set_adapters([each.adapter for each in loaded], [each.weight for each in loaded])
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    return said, loaded


def _adapt(pipe: Any, name: str, asked: Lora, checkpoint: Checkpoint) -> str:
    """Put a LoRA on a pipeline's parts; its hash."""
    path = _local(asked.where)
    if importlib.util.find_spec("peft") is None:
        raise ValueError("a LoRA needs the package peft: pip install peft")
    file = files.told(path)
    if file.kind != "lora":
        raise ValueError(f"{path.name} is {files.with_article(file.kind)} and no LoRA")
    if file.note:
        raise ValueError(f"{path.name} is a LyCORIS of kind {file.note}, which diffusers does not read: use a LoRA")
    if file.family is not None and file.family != checkpoint.family:
        raise ValueError(f"LoRA {path.name} is for {file.family}, and {checkpoint.name!r} is a {checkpoint.family}")
    if not hasattr(pipe, "load_lora_weights"):
        raise ValueError(f"LoRA {path.name}: diffusers reads none for a {checkpoint.family}")
    try:
        with reading.complaints(path.name, "LoRA"), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # peft warns of a second adapter, which is what was asked for
            pipe.load_lora_weights(load_file(path), adapter_name=name)
    except ValueError as error:
        reason = str(error).rpartition("read: ")[2]
        if isinstance(error.__cause__, AssertionError):  # what diffusers says of a layer that it can't take apart
            reason = "its sizes are not those that diffusers knows of such a LoRA"
        raise ValueError(f"LoRA {path.name} can't be put on {checkpoint.name!r}: {reason}") from None
    held = sum(_is_down(key) for key in file.header.tensors)
    used = sum(
        name in getattr(module, "lora_A", {}) or name in getattr(module, "lora_embedding_A", {})
        for part in pipe.components.values() if isinstance(part, torch.nn.Module) for module in part.modules()
    )  # fmt: skip
    if used < held:
        raise ValueError(
            f"LoRA {path.name} can't be put on {checkpoint.name!r}: {held - used} of its {held} layers are none of the "
            "model's, so that it is for another one"
        )
    return of_file(path)


def _is_down(key: str) -> bool:
    return any(sign in key for sign in ("lora_A", "lora_down", "lora.down", "lora_linear_layer.down"))


def _learn(pipe: Any, asked: Embedding, checkpoint: Checkpoint) -> str:
    path = _local(asked.where)
    file = files.told(path)
    vectors = files.embedding(file.header)
    if file.kind != "embedding":
        raise ValueError(f"{path.name} is {files.with_article(file.kind)} and no embedding")
    if not hasattr(pipe, "load_textual_inversion"):
        raise ValueError(f"embedding {path.name}: a {checkpoint.family} takes none")
    pairs = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
    there = [(pipe.components[a], pipe.components[b]) for a, b in pairs if pipe.components.get(b) is not None]
    tensors = load_file(path)
    for key, (_, width) in vectors.items():
        into = [(a, b) for a, b in there if b.get_input_embeddings().weight.shape[1] == width]
        if not into:
            widths = " and ".join(str(b.get_input_embeddings().weight.shape[1]) for _, b in there)
            raise ValueError(
                f"embedding {path.name} has vectors of {width} numbers, and {checkpoint.name!r} takes {widths}: it was "
                "learned for another model"
            )
        for tokenizer, encoder in into:
            if asked.token in tokenizer.get_vocab():
                raise ValueError(f"embedding {path.name}: {asked.token!r} is a word already, FILE:WORD says another")
            with reading.complaints(path.name, "embedding"):
                learned = tensors[key].to(encoder.dtype)
                pipe.load_textual_inversion(
                    {asked.token: learned}, token=asked.token, tokenizer=tokenizer, text_encoder=encoder
                )
            if key in ("clip_l", "clip_g") and len(vectors) > 1:
                break
    return f"embedding {asked.token} {of_file(path)[:32]}"


def _local(where: str) -> Path:
    """The file of an addition; one of the hub is taken from this machine's cache, or downloaded."""
    path = Path(where).expanduser()
    if path.is_file():
        return path
    if path.suffix in files.PICKLES:
        raise ValueError(f"{where!r} is a pickle, or is not there: a .safetensors file is needed")
    parts = where.split("/")
    if len(parts) < 2 or where.startswith((".", "/", "~")) or path.suffix not in ("", ".safetensors"):
        raise ValueError(f"{where!r}: there is no such file, and a hub id has the form owner/name")
    from ledits.backbones import hub

    return hub.one_file("/".join(parts[:2]), "/".join(parts[2:]) or None)
