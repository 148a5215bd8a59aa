"""`ledits edit`: pictures in, edited pictures out."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import typer

from ledits.asked.recipe import Edit
from ledits.asked.settings import InvertOptions
from ledits.cli import arguments
from ledits.cli.edit_options import (
    AssistantOption,
    Composite,
    Keep,
    Kept,
    MaskOption,
    Metadata,
    NoRecipe,
    Output,
    Quality,
    RecipeOption,
    Region,
    ShowMasks,
    Thrifty,
    Where,
    Words,
)  # fmt: skip
from ledits.cli.grouped import grouped
from ledits.cli.looking import described, found_by
from ledits.cli.more_options import More
from ledits.cli.options import (
    AnywayOption,
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
from ledits.cli.progress import answer, progress
from ledits.cli.request import Request
from ledits.cli.results import Results
from ledits.files.checkpoints import BUNDLED
from ledits.language import sentences
from ledits.picture import image
from ledits.scenes import suits
from ledits.seeing import assistant as assistants


@grouped
def edit_command(
    words: Words = None, region: Region = None, composite: Composite = False, mask: MaskOption = None,
    output: Output = None, model: ModelOption = None, device: DeviceOption = None, dtype: DtypeOption = None,
    anyway: AnywayOption = False, thrifty: Thrifty = False, recipe: RecipeOption = None, no_recipe: NoRecipe = False,
    inversion: Kept = None, save_inversion: Keep = None, show_masks: ShowMasks = None, quality: Quality = None,
    keep_metadata: Metadata = False, force: ForceOption = False, as_json: JsonOption = False,
    assistant: AssistantOption = None, where: Where = None, quiet: QuietOption = False, verbose: VerboseOption = False,
    *, how: InvertOptions, more: More,
) -> None:  # fmt: skip
    """Edit pictures with words: ledits edit cat.png 'cat->dog' -o dog.png

    \b
    +hat               adds a hat
    -hat               removes it
    'cat->dog'         puts a dog in the cat's place
    '->a dog at night' makes this the whole caption; needs --source
    'make the cat a dog, add a hat'   the same, said in a sentence
    +hat:8             with scale 8: how strong
    +hat@0.9           with threshold 0.9: the share of the picture left alone
    '+hat\\[2..40]'      acting from step 2 until before step 40
    '+hat|9,4,20,16'   inside a box: left, top, width, height in pixels

    Several edits go in one command. Quote what the shell would read: > | \\[. Edits get far better with --source, the
    picture's caption.
    """
    began = time.perf_counter()
    split = arguments.split(words or [])
    edits: Sequence[Edit | str] = split.edits
    source = how.source
    if (source == "auto" or where is not None) and len(split.sources) > 1:
        raise ValueError("--source auto and --where are for one picture at a time: give one picture")
    for fixes, file in (("--recipe", recipe), ("--inversion", inversion)):
        if file is not None and source == "auto":
            raise ValueError(f"{fixes} fixes --source: leave it out")
    if where is not None and (region is not None or recipe is not None):
        other = "--region gives it" if region is not None else "--recipe fixes it"
        raise ValueError(f"--where finds the region, and {other}: leave one out")
    picture = split.sources[0].data
    if source == "auto":
        source = described(picture, device)
        if not quiet and not as_json:
            typer.echo(f"the caption: {source}", err=True)
    found: Any = region if where is None else found_by(picture, where, device)
    if assistant is not None and recipe is None and inversion is None:
        if len(split.sources) > 1:
            raise ValueError("--assistant reads a sentence for one picture at a time: give one picture")
        edits, source, asked = assistants.read(edits, source or "", assistant, picture)
        if asked and not quiet and not as_json:
            typer.echo(f"the assistant's caption: {source}", err=True)
    request = Request.of(
        edits,
        replace(how, source=source),
        {"region": found, "mask": mask, "composite": composite, "thrifty": thrifty},
        {"model": model, "device": device, "dtype": dtype},
        recipe=recipe, inversion=inversion,
    )  # fmt: skip
    loading = more.loading(request.model, request.device, request.dtype)
    if any(map(sentences.is_sentence, split.edits)) and not quiet and not as_json:
        typer.echo(f"read as {', '.join(map(str, request.edits))}", err=True)
    folder = check(request.model, request.device, request.dtype)
    files = [(each, image.read(each.data), image.ending(each.data)) for each in split.sources]
    results = Results(
        inversion=save_inversion, masks=show_masks, recipe=not no_recipe, metadata=keep_metadata, quality=quality,
        force=force,
    )  # fmt: skip
    plans = [request.plan(shown) for _, shown, _ in files]
    if not anyway and request.recipe is None:
        suits.check_words(request.model or BUNDLED, folder, request.edits, plans[0].settings.source)
    targets = arguments.outputs(split.sources, output, [ending for *_, ending in files])
    results.check(targets, files, plans, one=inversion is not None)
    with progress(quiet=quiet, verbose=verbose, as_json=as_json) as report:
        report("loading the model")
        editor = load(loading)
        for (source_file, shown, ending), target in zip(files, targets, strict=True):
            result = request.edit(editor, shown, report, anyway=anyway)
            results.write(result, target, source_file, ending)
            said = results.said(result, target, time.perf_counter() - began)
            answer(*said, as_json=as_json, quiet=quiet, err=target is None)
            began = time.perf_counter()


edit_command.command_class = arguments.EditCommand  # pyright: ignore[reportFunctionMemberAccess]
