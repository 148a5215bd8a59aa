"""`ledits doctor`: whether a checkpoint works, found out in minutes, with a page for a bug report."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ledits.cli.grouped import grouped
from ledits.cli.more_options import More
from ledits.cli.options import (
    FILES,
    PICTURE,
    DeviceOption,
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    VerboseOption,
    check,
    load,
)  # fmt: skip
from ledits.cli.progress import progress
from ledits.files import atomic

Output = Annotated[
    Path, typer.Option("-o", "--output", rich_help_panel=FILES, help="The page with all of it, an .html file.")
]
Prompt = Annotated[
    str | None, typer.Option("--prompt", rich_help_panel=PICTURE, help="What it draws. \\[default: a small scene]")
]
EditOption = Annotated[
    str | None,
    typer.Option("--edit", rich_help_panel=PICTURE, help="What is changed in what it drew, such as 'fox->owl'."),
]


@grouped
def doctor_command(
    model: ModelOption = None, output: Output = Path("doctor.html"), prompt: Prompt = None, edit: EditOption = None,
    device: DeviceOption = None, dtype: DtypeOption = None, force: ForceOption = False, as_json: JsonOption = False,
    quiet: QuietOption = False, verbose: VerboseOption = False, *, more: More,
) -> None:  # fmt: skip
    """Find out whether a checkpoint works: ledits doctor --model FOLDER -o doctor.html

    It is loaded, draws a picture, gives it back, and edits it. Its scheduler, autoencoder and text encoders are put to
    the test on a small scene whose caption is known. The exit code is 1 where something is wrong.
    """
    loading = more.loading(model, device, dtype)
    check(model, device, dtype)
    atomic.check_writable(output, (".html",), overwrite=force)
    with progress(quiet=quiet, verbose=verbose, as_json=as_json) as report:
        report("loading the model")
        editor = load(loading)
        from ledits.doctor import examine
        from ledits.doctor.page import page

        found = examine(editor, prompt=prompt, edit=edit, told=report)
    with atomic.written(output, overwrite=force) as temporary:
        temporary.write_text(page(found), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps({"output": str(output), **found.to_json()}))
    elif not quiet:
        for one in found.checks:
            typer.echo(f"{one.verdict:10}  {one.name}: {one.says}")
        typer.echo(str(output))
    if not found.healthy:
        raise typer.Exit(1)
