"""`ledits keep`: what another editor changed by accident goes back."""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ledits.cli.options import FILES, PICTURE, ForceOption, JsonOption, QuietOption
from ledits.cli.progress import answer
from ledits.picture import image
from ledits.picture.keeping import keep


def keep_command(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="The original picture.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="What another editor made of it, of any size.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", rich_help_panel=FILES,
            help="Where the result goes. \\[default: BEFORE-kept, in the picture's format]",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask", rich_help_panel=PICTURE,
            help="Where it may change: a picture of BEFORE's size, white is open. \\[default: found]",
        ),
    ] = None,
    show_mask: Annotated[
        Path | None, typer.Option("--show-mask", rich_help_panel=FILES, help="Write a picture of what changed: white.")
    ] = None,
    force: ForceOption = False, as_json: JsonOption = False, quiet: QuietOption = False,
) -> None:  # fmt: skip
    """Lay what changed on purpose onto the original: ledits keep photo.jpg edited.png -o kept.png

    Aligns shift, scale and colours of AFTER with BEFORE, finds the change, and copies only the change. Outside it every
    pixel is BEFORE's. No model is needed.
    """
    began = time.perf_counter()
    original = image.read(before)
    target = output or before.with_name(f"{before.stem}-kept{image.ending(before)}")
    image.check_writable(target, overwrite=force, alpha=original.alpha is not None)
    if show_mask is not None:
        if show_mask.absolute() == target.absolute():
            raise ValueError(f"two outputs have the same name, {target}: give each its own")
        image.check_writable(show_mask, overwrite=force)
    kept = keep(original, image.read(after), mask)
    kept.save(target, overwrite=force)
    if show_mask is not None:
        image.write(show_mask, np.asarray(kept.mask.convert("RGB")), overwrite=force)
    seconds = time.perf_counter() - began
    values = {
        "output": str(target), "seconds": round(seconds, 3), "changed": round(kept.share, 4),
        "shift": [round(v, 2) + 0.0 for v in kept.shift], "scale": [round(v, 4) for v in kept.scale],
    }  # fmt: skip
    right, down = (round(v, 1) + 0.0 for v in kept.shift)  # no "-0.0"
    moved = f"; it had moved by {right:+.1f},{down:+.1f} pixels" if right or down else ""
    found = f"{kept.share:.1%} changed{moved}" if kept.share else "no change"
    answer(values, f"{target}  {seconds:.1f} s, {found}", as_json=as_json, quiet=quiet)
