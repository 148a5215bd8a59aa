"""The command line. Each command is a file of this folder; it is imported when it runs, and torch later still."""

import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperGroup

import ledits

_HERE = ("edit", "invert", "info", "models", "demo", "batch", "studio", "serve")
_HELP = {"help_option_names": ["-h", "--help"]}


class Commands(TyperGroup):
    """The commands of this folder, and those that other packages bring by the entry points "ledits.commands"."""

    def list_commands(self, ctx: Any) -> list[str]:
        from importlib.util import find_spec

        return [name for name in _HERE if find_spec(f"ledits.cli.{name}")] + sorted(_others())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.list_commands(ctx):
            return _others()[cmd_name]() if cmd_name in _others() else _own(cmd_name)
        return None


def _own(name: str) -> Any:
    from importlib import import_module

    function = getattr(import_module(f"ledits.cli.{name}"), f"{name}_command")
    alone = typer.Typer(add_completion=False, context_settings=_HELP)
    alone.command(name, cls=getattr(function, "command_class", None))(function)
    return typer.main.get_command(alone)


def _others() -> dict[str, Any]:
    from importlib.metadata import entry_points

    def loader(entry: Any) -> Any:
        def load() -> Any:
            command = typer.main.get_command(entry.load())
            command.name = entry.name
            return command

        return load

    return {entry.name: loader(entry) for entry in entry_points(group="ledits.commands")}


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, context_settings=_HELP)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ledits {ledits.__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Change a real picture with words: exact inversion, several edits at once, each kept in its place (LEDITS++)."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: what the user can mend is one sentence and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    warnings.showwarning = _warn
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = typer.main.get_command(app).main(words, prog_name="ledits", standalone_mode=False)
    except typer.BadParameter.__mro__[2] as error:  # ClickException, which typer brings along or takes from click
        # Help that was printed because nothing was asked for is no error.
        code = 2 if (text := error.format_message()) == "" else _refuse(text, words)  # pyright: ignore[reportAttributeAccessIssue]
    except (typer.Abort, KeyboardInterrupt):
        code = _refuse("stopped", words, code=130)
    except MemoryError:
        code = _refuse("there is not enough memory: work at a smaller --size", words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except ValueError as error:
        code = _refuse(str(error), words)
    finally:
        signal.signal(signal.SIGTERM, previous)
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(text: str, words: Sequence[str], code: int = 2) -> int:
    text = " ".join(text.split())
    if "--json" in words:
        typer.echo(json.dumps({"error": text}))
    else:
        typer.echo(f"ledits: {text}", err=True)
    return code


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:  # fmt: skip
    # What other libraries warn of is for their developers.
    if f"{os.sep}ledits{os.sep}" in filename:
        typer.echo(f"ledits: {message}", err=True)
