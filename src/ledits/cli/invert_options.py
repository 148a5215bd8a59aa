"""What every command takes that inverts pictures: an option for each field of `InvertOptions`."""

from typing import Annotated, Any

import typer

from ledits.cli.options import INVERSION, PICTURE

SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        rich_help_panel=PICTURE,
        help="Caption of the picture: edits get far better with it. auto lets Florence-2 write it.",
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps",
        rich_help_panel=INVERSION,
        help="How many noise levels are inverted and replayed. \\[default: the model's; 25 for scenes]",
    ),
]
SkipOption = Annotated[
    float | None,
    typer.Option(
        "--skip",
        rich_help_panel=INVERSION,
        help="Share of the noisiest levels to leave out, from 0 to below 1. More keeps more of the picture. "
        "\\[default: the model's]",
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed",
        rich_help_panel=INVERSION,
        help="Seed of the noise; the same seed gives the same bytes. \\[default: 0]",
    ),
]
SizeOption = Annotated[
    int | None,
    typer.Option(
        "--size",
        rich_help_panel=INVERSION,
        help="Work at up to SIZE x SIZE pixels. The result has the picture's own size. "
        "\\[default: what the model was trained at]",
    ),
]
SourceScaleOption = Annotated[
    float | None,
    typer.Option(
        "--source-scale",
        rich_help_panel=INVERSION,
        help="How strongly the caption guides inversion and replay, as in diffusers; 3.5 is usual. \\[default: 0]",
    ),
]
NegativeOption = Annotated[
    str | None,
    typer.Option("--negative", rich_help_panel=INVERSION, help="A negative prompt, for inversion and replay."),
]
UseLoraOption = Annotated[
    str | None,
    typer.Option(
        "--use-lora",
        rich_help_panel=INVERSION,
        help="Which of the LoRAs that are loaded, and how strongly: NAME[:WEIGHT] with commas between, or none. "
        "\\[default: all, as loaded]",
    ),
]

OPTIONS: dict[str, Any] = {
    "source": SourceOption, "steps": StepsOption, "skip": SkipOption, "seed": SeedOption, "size": SizeOption,
    "source_scale": SourceScaleOption, "negative": NegativeOption, "use_lora": UseLoraOption,
}  # fmt: skip
