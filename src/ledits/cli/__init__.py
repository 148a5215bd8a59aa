"""The command line. Each command is a file of this folder; it is imported when it runs, and torch later still."""

import ast
import errno
import gc
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

import ledits
from ledits.cli import lean
from ledits.cli.arguments import heard
from ledits.cli.openmp import wait_politely
from ledits.errors import LeditsError

_HERE = ("edit", "invert", "keep", "info", "models", "doctor", "demo", "batch", "studio", "serve", "mcp")
_HELP = {"help_option_names": ["-h", "--help"]}
# What settles an error, by the argument that Python has for it.
_REMEDIES = {
    "overwrite": "pass --force to replace it, or choose another name.",
    "anyway": "name another model with --model, or go on with this one by --anyway",
    "source": "give it with --source, such as --source 'a cat on a beach'",
    "mask": "leave --mask out",
    "device": "use --device cpu",
    "size": "work at a smaller --size, such as 512, or in a smaller --dtype",
}


class Commands(TyperGroup):
    """The commands of this folder, and those that other packages bring by the entry points "ledits.commands"."""

    def list_commands(self, ctx: Any) -> list[str]:
        from importlib.util import find_spec

        return [name for name in _HERE if find_spec(f"ledits.cli.{name}")] + sorted(_others())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command as the list of them has it: its own file is not imported for one line of help."""
        if cmd_name in self.list_commands(ctx):
            return _others()[cmd_name]() if cmd_name in _others() else _listed(cmd_name)
        return None


class _Listed(TyperCommand):
    """A command of this folder by its help alone; its file is imported when the command runs."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        return _own(str(self.name)).make_context(info_name, args, parent=parent, **extra)


def _listed(name: str) -> Any:
    """A command with its help alone, from the docstring in its file."""
    tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text("utf-8"))
    own = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == f"{name}_command")
    return _Listed(name, help=ast.get_docstring(own))


def _own(name: str) -> Any:
    from importlib import import_module

    function = getattr(import_module(f"ledits.cli.{name}"), f"{name}_command")
    alone = typer.Typer(add_completion=False, context_settings=_HELP)
    alone.command(name, cls=getattr(function, "command_class", None))(function)
    return plain(typer.main.get_command(alone))


def plain(command: Any) -> Any:
    """The command with a help page that says what to type: after a switch, which typer calls <bool>, nothing."""
    context = typer.Context(command, **command.context_settings)
    switches = [each for each in command.params if getattr(each, "is_flag", False)]
    for each in [*switches, *filter(None, [command.get_help_option(context)])]:
        each.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        plain(inner)
    return command


@cache
def _others() -> dict[str, Any]:
    """The commands of other packages. Every package that is installed is asked, which takes as long as all the rest."""
    from importlib.metadata import entry_points

    def loader(entry: Any) -> Any:
        def load() -> Any:
            command = plain(typer.main.get_command(entry.load()))
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
    if arguments is None:  # a process of its own
        if words[:1] in (["edit"], ["invert"], ["demo"]):
            lean.install()
        wait_politely()
    warnings.showwarning = _warn
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        code = plain(typer.main.get_command(app)).main(words, prog_name="ledits", standalone_mode=False)
    except _USAGE as error:
        # Where nothing was asked for, the help is the message.
        text = _plain(str(error.format_message()))
        code = _refuse(text, words) if text else 2
    except (typer.Abort, KeyboardInterrupt):
        code = _refuse("stopped", words, code=130)
    except MemoryError:
        code = _refuse("there is not enough memory: work at a smaller --size", words)
    except LeditsError as error:
        code = _refuse(error.said(_REMEDIES), words)
    except OSError as error:
        if error.errno != errno.EPIPE:
            code = _refuse(f"{error.filename or 'standard output'} can't be used: {error.strerror or error}", words)
        else:
            code = 1
        # What is still in the buffer can't go anywhere, and Python would try once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if lean.installed() and lean.blamed(error):
            code = lean.without(heard())
        elif isinstance(error, ValueError):
            code = _refuse(str(error), words)
        else:
            raise
    finally:
        signal.signal(signal.SIGTERM, previous)
    if arguments is None:
        # Python's last collection would go through all that torch has made: a second of an idle core, ten beside other
        # load, and a server that was asked to end would be killed over it.
        gc.freeze()
    sys.exit(code if isinstance(code, int) else 0)


# ClickException: of click, or of the copy that newer typers bring along.
_USAGE: Any = typer.BadParameter.__mro__[2]


def _plain(text: str) -> str:
    """A usage error in the words of the other sentences."""
    text = text.replace(
        "Input should be a valid integer, unable to parse string as an integer", "a whole number is needed"
    )
    text = text.replace("Input should be a valid number, unable to parse string as a number", "a number is needed")
    return re.sub(r"^Invalid value for '(?:-\w / )?([^']*)'", r"\1", text.replace("Value error, ", ""))


def _stop(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)  # so that what is half written is removed


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
