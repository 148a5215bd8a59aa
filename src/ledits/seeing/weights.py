"""Where the models' weights lie, and for how long they stay in memory. Nothing is downloaded here."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
import torch

SHORT = 2 * 2**30  # bytes: with less memory free, a model leaves once it has answered


def found(name: str, *kinds: str) -> Path:
    """The folder of a checkpoint of one of these kinds ("florence2", "sam2"): a path, or a hub id fetched before.

    ValueError with the command that fetches it, where it is not there.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    folder = Path(name).expanduser()
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(name, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError, OSError):
            raise ValueError(
                f"the weights of {name} are not on this machine: fetch them with `hf download {name}`"
            ) from None
    # The checkpoint's own word for its class is not followed: each kind has one class here.
    if kind(folder).removesuffix("_video") not in kinds:
        raise ValueError(f"{name} holds no model of the kind {' or '.join(kinds)}: name a checkpoint in its layout")
    return folder


def kind(folder: Path) -> str:
    """What a checkpoint says it is; "" where it says nothing."""
    try:
        return str(json.loads((folder / "config.json").read_text())["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@lru_cache(maxsize=2)
def kept(load: Callable[[Path, torch.device], Any], folder: Path, device: torch.device) -> Any:
    """A loaded model, which stays for the next question; ValueError where its files are not whole."""
    try:
        return load(folder, device)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # what reads the files has an error of its own for each kind of damage
        raise ValueError(
            f"the model in {folder} can't be loaded: its files are damaged, or not all there; fetch it again"
        ) from error


def freed_if_short(device: torch.device) -> None:
    """Let the models go where memory is short: the editor needs it more."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if free < SHORT:
        free_all()


def free_all() -> None:
    """Let the models go."""
    kept.cache_clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
