"""What several commands of the command line take, and the loading of a model without its noise."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ledits.editor import Editor


class Mask(StrEnum):
    intersect = "intersect"
    attention = "attention"
    noise = "noise"
    none = "none"


PictureArgument = Annotated[Path, typer.Argument(metavar="PICTURE", help="The picture: PNG, JPEG, WebP, TIFF, ...")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help='A folder in diffusers\' layout, a hub id, or "scenes", the bundled model.'),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", help="Noise levels to invert and replay. [default: the model's]")
]
SkipOption = Annotated[
    float | None, typer.Option("--skip", help="Share of the noisiest levels left out, 0 to 1. [default: the model's]")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Of the noise; the same seed gives the same bytes. [default: 0]")
]
SourceOption = Annotated[
    str | None,
    typer.Option("--source", help="What the picture shows; edits change what makes the difference."),
]
SourceScaleOption = Annotated[
    float | None,
    typer.Option("--source-scale", help="Guide inversion and replay by the source prompt; 3.5 is usual. [default: 0]"),
]
NegativeOption = Annotated[str | None, typer.Option("--negative", help="A negative prompt, for inversion and replay.")]
SizeOption = Annotated[
    int | None,
    typer.Option(
        "--size", help="Work at no more than SIZE x SIZE pixels in area. [default: what the model was trained at]"
    ),
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu, mps, cuda or cuda:N.")]
DtypeOption = Annotated[
    str | None, typer.Option("--dtype", help="auto, float32, float16 or bfloat16; auto is the fastest here.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


def load(model: str | None, device: str | None, dtype: str | None) -> "Editor":
    import diffusers
    import transformers

    from ledits.editor import BUNDLED, Editor

    # What these libraries say while loading is for their developers; what matters comes as an error.
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return Editor(model or BUNDLED, device=device or "auto", dtype=dtype or "auto")
