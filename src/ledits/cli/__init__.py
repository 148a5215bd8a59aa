"""The command line: `ledits edit`, `ledits invert`, `ledits info`. Everything heavy is imported when a command runs."""

import json
import re
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
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
    from ledits.backbones import Backbone


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
    from ledits.recipe import Recipe, parse

    began = time.perf_counter()
    old: Recipe | None = None
    settings = {
        "--steps": steps,
        "--skip": skip,
        "--seed": seed,
        "--source": source,
        "--source-scale": source_scale,
        "--negative": negative,
        "--size": size,
    }
    if recipe is not None:
        given = ["edits"] * bool(edits) + [
            k
            for k, v in {
                **settings,
                "--model": model,
                "--mask": mask,
                "--composite": composite or None,
                "--thrifty": thrifty or None,
            }.items()
            if v is not None
        ]
        if given:
            raise ValueError(f"--recipe fixes {', '.join(given)}: leave {'them' if len(given) > 1 else 'it'} out")
        found = image.read_recipe(recipe)
        if found is None:
            raise ValueError(f"{recipe} holds no recipe of ledits: pass a picture that `ledits edit` wrote")
        old = Recipe.from_json(found, str(recipe))
    asked = [parse(text) for text in (old.edits if old else edits or ())]
    if not asked:
        raise ValueError("no edit is given: add one, such as '+sunglasses', '-hat' or 'cat->dog'")
    if inversion is not None and (
        given := [k for k, v in settings.items() if v is not None] + ["--recipe"] * (old is not None)
    ):
        raise ValueError(f"--inversion fixes {', '.join(given)}: leave {'them' if len(given) > 1 else 'it'} out")
    output = output or picture.with_name(f"{picture.stem}-edited.png")
    outputs = [path.absolute() for path in (output, save_inversion, show_masks) if path is not None]
    if len(set(outputs)) < len(outputs):
        raise ValueError(f"two outputs have the same name, {output}: give each its own")
    shown = image.read(picture)
    image.check_writable(output, overwrite=force, alpha=shown.alpha is not None)
    if show_masks is not None:
        image.check_writable(show_masks, overwrite=force)

    from ledits import lean

    lean.install()
    from ledits import editing
    from ledits.files import artifact
    from ledits.files import composite as compositing
    from ledits.method import core

    if save_inversion is not None:
        artifact.check_writable(save_inversion, overwrite=force)
    kept = None if inversion is None else artifact.load(inversion)
    if kept is not None and model is None:
        model = kept[1].model
    backbone = load(
        old.model if old else model, device or (old.device if old else None), dtype or (old.dtype if old else None)
    )
    if old and old.fingerprint != backbone.fingerprint:
        raise ValueError(f"{recipe} was made with another version of model {old.model!r}: its result can't be repeated")
    d, composite, thrifty = backbone.defaults, *((old.composite, old.thrifty) if old else (composite, thrifty))
    made = kept[1] if kept else _settings(backbone, old, steps, skip, seed, source, source_scale, negative, size)
    if made.described and mask is not None:
        raise ValueError("--mask is for edits by words: what a described picture's edits change is found without it")
    if thrifty and not made.described:
        raise ValueError(
            "--thrifty is for edits of a described picture: say what it shows with --source, or leave it out"
        )
    rule = cast("core.MaskRule", old.mask if old else (mask or Mask.intersect).value)
    concepts = editing.concepts(asked, d, made.source if made.described else "")

    with _progress(as_json) as report:
        if kept is not None:
            assert inversion is not None
            path, origin = editing.on(backbone, kept[0]), kept[1]
            artifact.check(
                origin, inversion, fingerprint=backbone.fingerprint, model=backbone.name, picture=shown.sha256
            )
            core.check_windows(concepts, len(path.schedule))
            evaluations = 0
        else:
            assert isinstance(made, editing.Settings)
            core.check_windows(concepts, made.steps)
            report("inverting", 0, made.steps)
            path, origin, evaluations = editing.invert(backbone, shown, made)
        masks = list[Any]()
        last, replayed = path.x[-1], 0
        by = None if made.described else rule
        for step, so_far in editing.replay(backbone, path, concepts, by, thrifty=thrifty):
            report("editing", step.i + 1, len(path.schedule))
            last, replayed = step.x, so_far
            if any(concept.active(step.i) for concept in concepts):
                masks.append(step.masks[:, 0])
        evaluations += replayed
        result = editing.to_picture(backbone, last, origin)
        if composite:
            rebuilt = editing.to_picture(backbone, path.x[-1], origin)
            result = compositing.onto(shown.rgb, result, rebuilt, compositing.weights(masks, origin))

    written = Recipe(
        tuple(map(str, asked)), origin.model, origin.fingerprint, len(path.schedule), origin.skip, origin.seed, rule,
        origin.source, origin.source_scale, origin.negative, origin.area, origin.dtype, origin.device,
        composite, thrifty,
    )  # fmt: skip
    image.write(output, result, shown.alpha, written.to_json(), overwrite=force)
    if save_inversion is not None:
        artifact.save(save_inversion, path, origin, overwrite=force)
    if show_masks is not None:
        image.write(
            show_masks, editing.overlay(shown.rgb, cast("Any", sum(masks)) / len(masks), origin), overwrite=force
        )
    seconds = round(time.perf_counter() - began, 3)
    answer = {
        "output": str(output), "seconds": seconds, "network_evaluations": evaluations, "steps": written.steps,
        "seed": written.seed, "edits": list(written.edits), "model": written.model, "device": str(backbone.device),
        "dtype": written.dtype,
    }  # fmt: skip
    _answer(answer, as_json, f"{output}  {seconds:.1f} s, {evaluations} network evaluations")


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
    from ledits.files import image

    began = time.perf_counter()
    shown = image.read(picture)

    from ledits import lean

    lean.install()
    from ledits import editing
    from ledits.files import artifact

    artifact.check_writable(output, overwrite=force)
    backbone = load(model, device, dtype)
    settings = _settings(backbone, None, steps, skip, seed, source, source_scale, negative, size)
    with _progress(as_json) as report:
        report("inverting", 0, settings.steps)
        path, origin, evaluations = editing.invert(backbone, shown, settings)
        error = editing.latent_error(backbone, path) if check else None
    artifact.save(output, path, origin, overwrite=force)
    seconds = round(time.perf_counter() - began, 3)
    answer = {
        "output": str(output), "seconds": seconds, "network_evaluations": evaluations, "steps": settings.steps,
        "seed": settings.seed, "model": origin.model, "device": str(backbone.device), "dtype": origin.dtype,
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


def _settings(
    backbone: "Backbone",
    old: Any,
    steps: int | None,
    skip: float | None,
    seed: int | None,
    source: str | None,
    source_scale: float | None,
    negative: str | None,
    size: int | None,
) -> Any:
    from ledits.editing import Settings

    if old is not None:
        return Settings(old.steps, old.skip, old.seed, old.source, old.source_scale, old.negative, old.area)
    if size is not None and size < 8:
        raise ValueError(f"--size {size}: at least 8 pixels are needed, 512 is usual")
    if source_scale is not None and (not source or not 0 <= source_scale < float("inf")):
        raise ValueError(f"--source-scale {source_scale}: a number from 0 is needed, and --source with it")
    d = backbone.defaults
    return Settings(
        int(d["steps"]) if steps is None else steps,
        d["described_skip" if source and not source_scale else "skip"] if skip is None else skip,
        seed or 0,
        source or "",
        source_scale or 0.0,
        negative or "",
        backbone.area if size is None else size**2,
    )


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
