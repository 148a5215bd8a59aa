"""What several commands take, checked as far as it can be before torch is loaded, and the loading of a model."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledits.asked.loading import Loading
from ledits.files import checkpoints, single

if TYPE_CHECKING:
    from ledits.editor import Editor


# The groups of the help pages.
PICTURE, INVERSION, MODEL, FILES, SAID = "The picture", "The inversion", "The model", "Files", "What is printed"

PictureArgument = Annotated[Path, typer.Argument(metavar="PICTURE", help="The picture; - reads standard input.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="LEDITS_MODEL",
        rich_help_panel=MODEL,
        help="A folder in diffusers' layout, a hub id, a .safetensors or .gguf file, or scenes, the bundled model. "
        "\\[default: scenes]",
    ),
]
AnywayOption = Annotated[
    bool,
    typer.Option(
        "--anyway", rich_help_panel=MODEL, help="Edit even if the model can't draw the picture or lacks a word."
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        envvar="LEDITS_DEVICE",
        rich_help_panel=MODEL,
        help="auto, cpu, mps, cuda or cuda:N. \\[default: auto]",
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        rich_help_panel=MODEL,
        help="auto, float32, float16 (fp16) or bfloat16 (bf16); auto is the fastest here. \\[default: auto]",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=SAID, help="Print one JSON object for each result or error, nothing else."),
]
ForceOption = Annotated[bool, typer.Option("--force", rich_help_panel=FILES, help="Replace files that exist.")]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", rich_help_panel=SAID, help="Print nothing but errors; no progress bar.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", rich_help_panel=SAID, help="Print each step, and the libraries' messages.")
]

_DTYPES = {
    "auto": "auto", "float32": "float32", "float16": "float16", "bfloat16": "bfloat16", "fp32": "float32",
    "fp16": "float16", "bf16": "bfloat16",
}  # fmt: skip


def dtype_of(said: str | None) -> str:
    """The number format in full; ValueError for one that is not known."""
    if said is not None and said not in _DTYPES:
        raise ValueError(f"--dtype {said!r}: {', '.join(_DTYPES)} are accepted")
    return _DTYPES[said or "auto"]


def check(model: str | None, device: str | None, dtype: str | None) -> Path | None:
    """The model's folder or file, None where it has to be downloaded; ValueError for values that no machine could
    use, and for a checkpoint that can't be edited with.
    """
    if device is not None and not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", device):
        raise ValueError(f"--device {device!r}: auto, cpu, mps, cuda and cuda:N are accepted")
    dtype_of(dtype)
    folder = checkpoints.find(checkpoints.BUNDLED if model is None else model)
    if folder is not None and folder.is_file():
        single.told(folder)
    elif folder is not None and not checkpoints.elsewhere(folder, model or checkpoints.BUNDLED):
        checkpoints.examine(folder, model or checkpoints.BUNDLED)
    return folder


def load(asked: Loading) -> "Editor":
    """An editor with the model, without the noise of the libraries that load it."""
    check(asked.model, None, None)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import diffusers
    import transformers

    from ledits.editor import Editor

    # What these libraries say while loading is for their developers; what matters comes as an error.
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return Editor.of(asked)
