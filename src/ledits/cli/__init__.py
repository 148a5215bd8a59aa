"""The command line: `ledits edit`, `ledits invert`, `ledits info`. Everything heavy is imported when a command runs."""

import json
import re
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperCommand

from ledits.cli.options import (
    DeviceOption,
    DtypeOption,
    ForceOption,
    JsonOption,
    Mask,
    ModelOption,
    NegativeOption,
    PictureArgument,
    SeedOption,
    SizeOption,
    SkipOption,
    SourceOption,
    SourceScaleOption,
    StepsOption,
    load,
)
from ledits_bench import cli as bench

if TYPE_CHECKING:
    from ledits.recipe import Recipe


class EditCommand(TyperCommand):
    """Takes "-hat" for a removal, not for the options -h -a -t."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        takes_value = {name for option in self.params if not getattr(option, "is_flag", True) for name in option.opts}
        # Options are one letter or begin with two dashes; any other word after a dash is something to take away. A
        # space before it means nothing to the grammar of edits and keeps it from being read as options.
        words = [
            f" {word}" if re.match("-[^-].", word) and before not in takes_value else word
            for before, word in zip(["", *args], args, strict=False)
        ]
        return super().parse_args(ctx, words)


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bench.app, name="bench")


@app.callback()
def about() -> None:
    """Change a real picture with words: exact inversion, several edits at once, each kept in its place (LEDITS++)."""


@app.command("edit", cls=EditCommand)
def edit_command(
    picture: PictureArgument,
    edits: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EDIT...",
            help="'+sunglasses', '-hat', 'cat->dog', '->a whole caption'; also :SCALE @THRESHOLD [FIRST..END].",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="[default: PICTURE-edited.png]")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="Repeat what made this picture.")] = None,
    model: ModelOption = None,
    steps: StepsOption = None,
    skip: SkipOption = None,
    seed: SeedOption = None,
    mask: Annotated[
        Mask | None,
        typer.Option("--mask", help="Which implicit mask keeps an edit by words in place. [default: intersect]"),
    ] = None,
    composite: Annotated[
        bool, typer.Option("--composite", help="Change nothing outside the used masks, not by one bit.")
    ] = False,
    thrifty: Annotated[
        bool,
        typer.Option("--thrifty", help="With --source: ask less of the network in later steps; not quite the same."),
    ] = False,
    source: SourceOption = None,
    source_scale: SourceScaleOption = None,
    negative: NegativeOption = None,
    size: SizeOption = None,
    inversion: Annotated[
        Path | None, typer.Option("--inversion", help="Start from this inversion of the picture.")
    ] = None,
    save_inversion: Annotated[
        Path | None, typer.Option("--save-inversion", help="Keep the inversion for later edits.")
    ] = None,
    show_masks: Annotated[
        Path | None, typer.Option("--show-masks", help="Write a picture of where the edits acted.")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Edit a picture: ledits edit cat.png 'cat->dog' -o dog.png"""
    from ledits.files import image
    from ledits.recipe import parse

    began = time.perf_counter()
    options: dict[str, Any] = {
        "steps": steps, "skip": skip, "seed": seed, "source": source, "source_scale": source_scale,
        "negative": negative, "size": size,
    }  # fmt: skip
    how: dict[str, Any] = {
        "mask": mask and mask.value, "composite": composite or None, "thrifty": thrifty or None, "model": model
    }  # fmt: skip
    old = None if recipe is None else _recipe(recipe, {**options, **how, "edits": edits})
    if inversion is not None:
        _fixed("--inversion", {**options, "recipe": recipe})
    asked = [parse(text) for text in (old.edits if old else edits or ())]
    if not asked:
        raise ValueError("no edit is given: add one, such as '+sunglasses', '-hat' or 'cat->dog'")
    output = output or picture.with_name(f"{picture.stem}-edited.png")
    outputs = [path.absolute() for path in (output, save_inversion, show_masks) if path is not None]
    if len(set(outputs)) < len(outputs):
        raise ValueError(f"two outputs have the same name, {output}: give each its own")
    shown = image.read(picture)
    image.check_writable(output, overwrite=force, alpha=shown.alpha is not None)
    if show_masks is not None:
        image.check_writable(show_masks, overwrite=force)

    import numpy as np

    from ledits.files import artifact
    from ledits.plan import Plan

    if save_inversion is not None:
        artifact.check_writable(save_inversion, overwrite=force)
    if inversion is not None:
        model = model or artifact.header(inversion).get("model")
    editor = load(
        old.model if old else model, device or (old.device if old else None), dtype or (old.dtype if old else None)
    )
    height, width, _ = shown.rgb.shape
    kept = None if inversion is None else editor.open_inversion(inversion, shown)
    settings = old.settings if old else kept.settings if kept else editor.settings(**options)
    if old is not None and old.fingerprint != editor.backbone.fingerprint:
        raise ValueError(f"{recipe} was made with another version of model {old.model!r}: its result can't be repeated")
    plan = Plan.of(
        asked, settings, region=old.masks() if old else None, mask=old.mask if old else how["mask"],
        composite=old.composite if old else composite, drop_source_late=old.drop_source_late if old else thrifty,
        width=width, height=height,
    )  # fmt: skip
    plan.check(editor.backbone.defaults)
    with _progress(as_json) as report:
        made = kept or editor.invert(shown, settings, progress=partial(report, "inverting"))
        replay = made.replay(plan)
        for step in replay:
            report("editing", step.index + 1, step.total)
        result = replay.result()
    result.save(output, overwrite=force)
    if save_inversion is not None:
        made.save(save_inversion, overwrite=force)
    if show_masks is not None:
        image.write(show_masks, np.asarray(result.overlay), overwrite=force)
    evaluations = made.network_evaluations + result.network_evaluations
    seconds, written = round(time.perf_counter() - began, 3), result.recipe
    answer = {
        "output": str(output), "seconds": seconds, "network_evaluations": evaluations, "steps": settings.steps,
        "seed": settings.seed, "edits": list(written.edits), "model": written.model,
        "device": str(editor.backbone.device), "dtype": written.dtype,
    }  # fmt: skip
    _answer(answer, as_json, f"{output}  {seconds:.1f} s, {evaluations} network evaluations")


def _recipe(path: Path, given: Mapping[str, Any]) -> "Recipe":
    """The recipe in a picture; nothing else may be given with it."""
    from ledits.files import image
    from ledits.recipe import Recipe

    _fixed("--recipe", given)
    found = image.read_recipe(path)
    if found is None:
        raise ValueError(f"{path} holds no recipe of ledits: pass a picture that `ledits edit` wrote")
    return Recipe.from_json(found, str(path))


def _fixed(what: str, given: Mapping[str, Any]) -> None:
    names = [name if name == "edits" else f"--{name.replace('_', '-')}" for name, v in given.items() if v]
    if names:
        raise ValueError(f"{what} fixes {', '.join(names)}: leave {'them' if len(names) > 1 else 'it'} out")


@app.command("invert")
def invert_command(
    picture: PictureArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to keep the inversion, a .safetensors file.")],
    check: Annotated[
        bool, typer.Option("--check", help="Replay it and print the error of the reconstruction.")
    ] = False,
    model: ModelOption = None,
    steps: StepsOption = None,
    skip: SkipOption = None,
    seed: SeedOption = None,
    source: SourceOption = None,
    source_scale: SourceScaleOption = None,
    negative: NegativeOption = None,
    size: SizeOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Invert a picture once, for any number of edits: ledits invert cat.png -o cat.safetensors --check"""
    from ledits.files import artifact, image

    began = time.perf_counter()
    shown = image.read(picture)
    artifact.check_writable(output, overwrite=force)
    editor = load(model, device, dtype)
    with _progress(as_json) as report:
        inversion = editor.invert(
            shown, steps=steps, skip=skip, seed=seed, source=source, source_scale=source_scale, negative=negative,
            size=size, progress=partial(report, "inverting"),
        )  # fmt: skip
        error = inversion.latent_error() if check else None
    inversion.save(output, overwrite=force)
    seconds, settings, origin = round(time.perf_counter() - began, 3), inversion.settings, inversion.provenance
    evaluations = inversion.network_evaluations
    answer = {
        "output": str(output), "seconds": seconds, "network_evaluations": evaluations, "steps": settings.steps,
        "seed": settings.seed, "model": origin.model, "device": str(editor.backbone.device), "dtype": origin.dtype,
    }  # fmt: skip
    text = f"{output}  {seconds:.1f} s, {evaluations} network evaluations"
    if error is not None:
        answer["relative_latent_error"] = error
        text += f", relative latent error {error:.1e}"
    _answer(answer, as_json, text)


@app.command("info")
def info_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture or an inversion.")],
    as_json: JsonOption = False,
) -> None:
    """Say what a picture or an inversion holds: its size, and the recipe that made it."""
    from ledits.files import image

    answer: dict[str, object]
    if file.suffix == ".safetensors":
        from ledits.files import artifact

        header = artifact.header(file)
        answer = {"file": str(file), "kind": "inversion", "steps": len(header["t"])}
        answer |= {k: v for k, v in header.items() if k not in ("t", "alpha", "sigma")}
    else:
        shown = image.read(file)
        height, width, _ = shown.rgb.shape
        answer = {
            "file": str(file),
            "kind": "picture",
            "width": width,
            "height": height,
            "alpha": shown.alpha is not None,
        }
        answer |= {"sha256": shown.sha256, "recipe": image.read_recipe(file)}
    _answer(answer, as_json, "\n".join(f"{key}: {value}" for key, value in answer.items()))


@contextmanager
def _progress(quiet: bool) -> Generator[Any]:
    """A bar on a terminal, nothing elsewhere; yields report(what, done, total)."""
    if quiet or not sys.stderr.isatty():
        yield lambda what, done, total: None  # noqa: ARG005  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)  # pyright: ignore[reportUnknownLambdaType]


def _answer(answer: Mapping[str, object], as_json: bool, text: str) -> None:
    typer.echo(json.dumps(answer) if as_json else text)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: every ValueError is the user's to mend, so it is one sentence and exit code 2."""
    try:
        app(arguments)
    except ValueError as error:
        typer.echo(f"ledits: {error}", err=True)
        sys.exit(2)
    sys.exit(0)
