"""`ledits invert`: a picture's inversion in a file, for any number of edits."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ledits.asked.settings import InvertOptions, Settings
from ledits.cli.arguments import Source
from ledits.cli.grouped import grouped
from ledits.cli.looking import described
from ledits.cli.more_options import More
from ledits.cli.options import (
    FILES,
    INVERSION,
    AnywayOption,
    DeviceOption,
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    PictureArgument,
    QuietOption,
    VerboseOption,
    check,
    load,
)  # fmt: skip
from ledits.cli.progress import answer, progress
from ledits.cli.request import UNKNOWN
from ledits.files import atomic
from ledits.picture import header, image

Output = Annotated[
    Path,
    typer.Option("-o", "--output", rich_help_panel=FILES, help="Where to keep the inversion, a .safetensors file."),
]
Check = Annotated[
    bool,
    typer.Option("--check", rich_help_panel=INVERSION, help="Replay it and print the error of the reconstruction."),
]


@grouped
def invert_command(
    picture: PictureArgument, output: Output, check_it: Check = False, model: ModelOption = None,
    device: DeviceOption = None, dtype: DtypeOption = None, anyway: AnywayOption = False, force: ForceOption = False,
    as_json: JsonOption = False, quiet: QuietOption = False, verbose: VerboseOption = False, *, how: InvertOptions,
    more: More,
) -> None:  # fmt: skip
    """Invert a picture once, for any number of edits: ledits invert cat.png -o cat.safetensors --check"""
    began = time.perf_counter()
    given = Source.of(str(picture)).data
    if how.source == "auto":
        how = replace(how, source=described(given, device))
        if not quiet and not as_json:
            typer.echo(f"the caption: {how.source}", err=True)
    Settings.resolve(UNKNOWN, 64**2, how)
    loading = more.loading(model, device, dtype)
    check(model, device, dtype)
    shown = image.read(given)
    atomic.check_writable(output, (header.ENDING,), overwrite=force)
    with progress(quiet=quiet, verbose=verbose, as_json=as_json) as report:
        report("loading the model")
        editor = load(loading)
        settings = editor.settings(**asdict(how))
        made = editor.invert(shown, settings, progress=report.of("inverting"), anyway=anyway)
        report("checking")
        error = made.latent_error() if check_it else None
        made.save(output, overwrite=force)
    seconds, evaluations, origin = time.perf_counter() - began, made.network_evaluations, made.provenance
    values = {
        "output": str(output), "seconds": round(seconds, 3), "network_evaluations": evaluations,
        "steps": settings.steps, "seed": settings.seed, "model": origin.model,
        "device": str(editor.backbone.device), "dtype": origin.dtype,
    }  # fmt: skip
    text = f"{output}  {seconds:.1f} s, {evaluations} network evaluations"
    if error is not None:
        values["relative_latent_error"] = error
        text += f", relative latent error {error:.1e}"
    answer(values, text, as_json=as_json, quiet=quiet)
