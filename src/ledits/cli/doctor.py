"""`ledits doctor`: whether a checkpoint works, found out in minutes, with a page for a bug report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledits.doctor import Check
    from ledits.editor import Editor

Output = Annotated[
    Path, typer.Option("-o", "--output", rich_help_panel=FILES, help="Where the report goes, an .html file.")
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", rich_help_panel=PICTURE, help="What the model draws. \\[default: a small scene]"),
]
EditOption = Annotated[
    str | None,
    typer.Option("--edit", rich_help_panel=PICTURE, help="An edit of what it drew, such as 'fox->owl'."),
]
Size = Annotated[
    int | None,
    typer.Option(
        "--size", rich_help_panel=PICTURE,
        help="Work at SIZE x SIZE pixels; fewer take less time. \\[default: what the model was trained at, on a CPU "
        "512 at most]",
    ),
]  # fmt: skip
Published = Annotated[
    Path | None,
    typer.Option(
        "--published", rich_help_panel=PICTURE,
        help="The picture of diffusers' own tests of LEDITS++, pix2pix/cat_6.png of the hub's "
        "hf-internal-testing/diffusers-images: says how far their published numbers lie off. For SD 1.5 and SDXL.",
    ),
]  # fmt: skip


@grouped
def doctor_command(
    model: ModelOption = None, output: Output = Path("doctor.html"), prompt: Prompt = None, edit: EditOption = None,
    size: Size = None, published: Published = None,
    device: DeviceOption = None, dtype: DtypeOption = None, force: ForceOption = False, as_json: JsonOption = False,
    quiet: QuietOption = False, verbose: VerboseOption = False, *, more: More,
) -> None:  # fmt: skip
    """Find out whether a checkpoint works: ledits doctor --model FOLDER -o doctor.html

    It is loaded, draws a picture, gives it back, and edits it. Its scheduler, autoencoder and text encoders are put to
    the test on twelve small scenes whose captions are known. The exit code is 1 where something is wrong.
    """
    loading = more.loading(model, device, dtype)
    check(model, device, dtype)
    atomic.check_writable(output, (".html",), overwrite=force)
    with progress(quiet=quiet, verbose=verbose, as_json=as_json) as report:
        report("loading the model")
        editor = load(loading)
        from ledits.doctor import examine
        from ledits.doctor.page import page

        test = None if published is None else _test(editor, published)
        found = examine(editor, prompt=prompt, edit=edit, size=size, told=report)
        if test is not None:
            report("published tests")
            found.checks.append(test())
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


def _test(editor: "Editor", picture: Path) -> "Callable[[], Check]":
    """diffusers' published test of the model's family, to be made; ValueError where there is none."""
    from ledits.doctor import Check
    from ledits.picture import image
    from ledits.pipelines import published

    backbone: Any = editor.backbone
    family, parts, _ = backbone.made_of
    test = published.test_of(family)
    image.read(picture)

    def made() -> Check:
        here = published.numbers(test, parts, backbone.scheduler, picture)
        off = max(abs(a - b) for a, b in zip(here, test.numbers, strict=True))
        figures = {"here": [round(each, 4) for each in here], "published": list(test.numbers), "allowed": test.allowed}
        said = (
            f"nine numbers of an edit lie {off:.4f} off those that diffusers publishes for {test.model}, which allows"
        )
        return Check(
            "published tests", "ok" if off <= test.allowed else "can't tell", f"{said} {test.allowed}", figures
        )

    return made
