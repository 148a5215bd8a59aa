"""What a model, a part or an addition is, and whether pictures can be edited with it, without loading any of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ledits.files import checkpoints, configs, families, single, weights

_EDITS = "by words, and with a caption"


def folder(path: Path, name: str) -> dict[str, Any]:
    """A folder in diffusers' layout: "edits" says how one can edit with it, or "no" and why not.

    Raises ValueError for a folder that is no model's.
    """
    index_file = checkpoints.index_file(path)
    if index_file is None:
        checkpoints.index(path, name)
    said: dict[str, Any] = {"kind": "model"}
    why, read = "", dict[str, Any]()
    try:
        index = configs.read_json(index_file or path, name)
        said["family"] = families.named(str(index.get("_class_name")))
        found = checkpoints.examine(path, name)
        read, problems = _parts(found)
        why = "; ".join(problems)
    except ValueError as error:
        why = str(error)
        found = None
    said |= {"works": not why, "edits": f"no: {why}" if why else _EDITS}
    if found is not None:
        numbers = sum(part["numbers"] for part in read.values() if "numbers" in part)
        world = checkpoints.world(path)
        said |= {
            "parts": read, "memory": _memory(numbers),
            "predicts": found.scheduler.get("prediction_type") or _usual(found.scheduler),
            "words": "any" if world is None else sorted(world.words),
        }  # fmt: skip
    return said


def _usual(scheduler: Mapping[str, Any]) -> str:
    return "epsilon" if "beta_schedule" in scheduler or "beta_start" in scheduler else "flow"


def _parts(found: checkpoints.Checkpoint) -> tuple[dict[str, Any], list[str]]:
    """What lies there of each part, by variant, and what is wrong with it."""
    read, problems = dict[str, Any](), list[str]()
    for part in found.configs:
        here = found.places[part]
        kinds = dict[str, list[Path]]()
        for path in sorted(here.glob("*.safetensors")):
            kinds.setdefault(weights.variant_of(path.name) or "plain", []).append(path)
        kinds.pop("non_ema", None)
        if not kinds:
            pickles = [*here.glob("*.bin"), *here.glob("*.ckpt")]
            problems.append(
                f"its {part} is a pickle only, which is never opened" if pickles else f"{part}/ has no weights"
            )
            continue
        quantised = _quantised(found.configs[part])
        read[part] = {"files": {}}
        for kind, paths in kinds.items():
            try:
                headers = [weights.header(path) for path in paths]
            except ValueError as error:
                problems.append(str(error))
                continue
            formats = dict[str, int]()
            for header in headers:
                for dtype, count in header.dtypes.items():
                    formats[dtype] = formats.get(dtype, 0) + count
            read[part]["files"][kind] = {
                "MB": round(sum(path.stat().st_size for path in paths) / 1e6, 1),
                "format": quantised or max(formats, key=lambda dtype: formats[dtype], default="none"),
            }
            read[part]["numbers"] = sum(formats.values())
        if quantised:
            read[part]["needs"] = "a CUDA device and bitsandbytes"
    return read, problems


def _quantised(config: Mapping[str, Any]) -> str:
    """How a part's weights are quantised by its configuration; empty where they are not."""
    how = config.get("quantization_config")
    if not isinstance(how, dict):
        return ""
    return str(how.get("bnb_4bit_quant_type") or "int8") if how.get("load_in_4bit") else "int8"  # pyright: ignore[reportUnknownMemberType]


def _memory(numbers: int) -> str:
    return (
        f"{numbers * 4 / 2**30:.1f} GiB in float32, {numbers * 2 / 2**30:.1f} GiB in 16 bits, and the picture's beside"
    )


def file(path: Path) -> dict[str, Any]:
    """A file of weights: a model, a part of one, or an addition to one."""
    found = single.told(path)
    numbers = sum(each.numel for each in found.header.tensors.values())
    said: dict[str, Any] = {
        "kind": found.kind, "family": found.family or "not told by its names", "tensors": len(found.header.tensors),
        "MB": round(found.size / 1e6, 1), "format": next(iter(found.header.dtypes), "none"),
    }  # fmt: skip
    if found.kind == "lora":
        said |= {"rank": single.lora_rank(found.header), "layout": found.note or _layout(found)}
        said["use"] = f"no: diffusers reads no {found.note}" if found.note else f"--lora {path}:WEIGHT beside a model"
        trained = found.header.metadata.get("ss_tag_frequency") or found.header.metadata.get("modelspec.trigger_phrase")
        if trained:
            said["trained on"] = trained[:200]
    elif found.kind == "embedding":
        said |= {"vectors": found.note, "use": f"--embedding {path}:WORD beside a model"}
    elif found.kind in ("vae", "tiny vae"):
        said["use"] = f"--{found.kind.replace(' ', '-')} {path} beside a model"
    elif found.kind == "text encoder":
        said |= {"encoder": found.note, "use": f"--text-encoder {path} beside a model"}
    else:
        said |= _model(found) | {"memory": _memory(numbers)}
    return said


def _layout(found: single.File) -> str:
    return "kohya" if any("lora_down" in name for name in found.header.tensors) else "diffusers"


def _model(found: single.File) -> dict[str, Any]:
    if refused := single.unusable(found):
        return {"works": False, "edits": f"no: {refused}"}
    if found.kind == "network":
        return {"works": True, "edits": f"{_EDITS}, with --base FOLDER for its text encoders and autoencoder"}
    try:
        folder = checkpoints.layout(found)
        scheduler = checkpoints.examine(folder, found.path.name).scheduler
    except (ValueError, KeyError) as error:
        needed = isinstance(error, KeyError)
        return {"works": needed, "edits": f"{_EDITS}, with --base FOLDER" if needed else f"no: {error}"}
    predicts = {**scheduler, **single.prediction(found)}.get("prediction_type", "epsilon")
    return {"works": True, "edits": _EDITS, "predicts": predicts}
