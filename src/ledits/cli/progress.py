"""What a command prints while it works and when it is done: a bar on a terminal, one line or one JSON object after."""

import json
import logging
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import typer


class Progress:
    """Says which stage the work is in. Without a terminal and without -v it says nothing."""

    def __init__(self, verbose: bool, show: Callable[[str, int | None, int | None], None] | None) -> None:
        self._verbose, self._show, self._began, self._last = verbose, show, time.perf_counter(), ""

    def __call__(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        """The stage, and how much of it is done where that is known."""
        if self._show is not None:
            self._show(stage, done, total)
        if stage != self._last:
            self.note(stage)
        self._last = stage

    def note(self, text: str) -> None:
        """A line for those who asked for more to be said."""
        if self._verbose:
            typer.echo(f"{time.perf_counter() - self._began:6.1f} s  {text}", err=True)

    def of(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self(stage, done, total)


@contextmanager
def progress(*, quiet: bool = False, verbose: bool = False, as_json: bool = False) -> Generator[Progress]:
    """A bar on standard error where that is a terminal; it moves at once, before anything heavy is imported."""
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    if quiet or as_json or verbose or not sys.stderr.isatty():
        yield Progress(verbose and not quiet, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading", total=None)

        def show(stage: str, done: int | None, total: int | None) -> None:
            bar.update(task, description=stage, completed=done or 0, total=total)

        yield Progress(False, show)


def answer(values: Mapping[str, object], text: str, *, as_json: bool, quiet: bool = False, err: bool = False) -> None:
    """The result: one JSON object, or a line for people. `err`: on standard error, where the picture went to output."""
    if as_json or not quiet:
        typer.echo(json.dumps(values) if as_json else text, err=err)
