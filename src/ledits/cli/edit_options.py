"""The options of `ledits edit` alone."""

from pathlib import Path
from typing import Annotated

import typer

from ledits.asked.recipe import MaskRule
from ledits.cli.options import FILES, INVERSION, PICTURE

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PICTURE... EDIT...",
        show_default=False,
        help="The pictures (- reads standard input), and after them the edits.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        rich_help_panel=FILES,
        help="A file, a folder for several pictures, or - for standard output. \\[default: PICTURE-edited, in the "
        "picture's format]",
    ),
]
RecipeOption = Annotated[
    Path | None,
    typer.Option("--recipe", rich_help_panel=FILES, help="Repeat what made this picture, bit for bit."),
]
NoRecipe = Annotated[
    bool, typer.Option("--no-recipe", rich_help_panel=FILES, help="Don't write edits, caption and model into the file.")
]
Metadata = Annotated[
    bool,
    typer.Option("--keep-metadata", rich_help_panel=FILES, help="Keep the picture's EXIF: camera, date, place."),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality", rich_help_panel=FILES, help="Quality of JPEG and WebP, 1 to 100. \\[default: 95; WebP: lossless]"
    ),
]
Region = Annotated[
    Path | None,
    typer.Option(
        "--region",
        rich_help_panel=PICTURE,
        help="Where edits may act: a picture of the same size. White is open, black and what is transparent is closed.",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where", rich_help_panel=PICTURE,
        help="Where edits may act, in words, such as 'the left cat'. Needs Florence-2.",
    ),
]  # fmt: skip
AssistantOption = Annotated[
    str | None,
    typer.Option(
        "--assistant", envvar="LEDITS_ASSISTANT", metavar="URL#MODEL|MODEL", rich_help_panel=PICTURE,
        help="A model that sees the picture reads sentences that the rules don't, and writes the caption: the address "
        "of OpenAI's chat completions, or a model of this machine (Qwen/Qwen3.5-0.8B). Nothing is sent without it.",
    ),
]  # fmt: skip
MaskOption = Annotated[
    MaskRule | None,
    typer.Option(
        "--mask",
        rich_help_panel=PICTURE,
        help="Without --source: how an edit is kept in place. located finds the region before editing; the others are "
        "the paper's implicit masks. \\[default: the model's; located for scenes, intersect elsewhere]",
    ),
]
Composite = Annotated[
    bool,
    typer.Option(
        "--composite",
        rich_help_panel=PICTURE,
        help="Keep the picture's own pixels away from the edits. Outside a region that is given not one bit changes.",
    ),
]
Thrifty = Annotated[
    bool,
    typer.Option(
        "--thrifty", "--drop-source-late", rich_help_panel=INVERSION,
        help="With --source: leave the caption out of later steps. Faster, and not quite the same.",
    ),
]  # fmt: skip
Kept = Annotated[
    Path | None,
    typer.Option("--inversion", rich_help_panel=FILES, help="Start from this inversion of the picture."),
]
Keep = Annotated[
    Path | None,
    typer.Option("--save-inversion", rich_help_panel=FILES, help="Keep the inversion for later edits."),
]
ShowMasks = Annotated[
    Path | None,
    typer.Option("--show-masks", rich_help_panel=FILES, help="Write a picture of where the edits acted."),
]
