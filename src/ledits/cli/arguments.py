"""Which words of `ledits edit` are pictures, which are edits, and where each result goes."""

import glob
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from typer.core import TyperCommand

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


class EditCommand(TyperCommand):
    """Takes "-hat" for a removal, not for the options -h -a -t."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        takes_value = {name for option in self.params if not getattr(option, "is_flag", True) for name in option.opts}
        words, before, options = list[str](), "", True
        for word in args:
            options = options and word != "--"
            word = word.replace("-o=", "-o", 1) if options and word.startswith("-o=") else word
            # Options are one letter or begin with two dashes; any other word after a dash is something to take away.
            # A space before it means nothing to the grammar of edits and keeps it from being read as options.
            removal = re.match("-(>|[^-].)", word) and not _is_output(word) and before not in takes_value
            words.append(f" {word}" if removal and options else word)
            before = word
        return super().parse_args(ctx, words)


def _is_output(word: str) -> bool:
    """Whether a word is the option -o with its value, such as -oout.png, and not the removal of an owl."""
    return word.startswith("-o") and (word.lower().endswith((*_ENDINGS, "/")) or word.startswith("-o="))


@dataclass(frozen=True)
class Source:
    """A picture to edit: a file, or what came by standard input."""

    name: str
    data: Path | bytes

    @classmethod
    def of(cls, text: str) -> "Source":
        if text != "-":
            return cls(text, Path(text))
        if not (data := _standard_input()):
            raise ValueError("standard input is empty: send a picture to it, such as ledits edit - +hat < photo.jpg")
        return cls("-", data)


@cache
def _standard_input() -> bytes:
    return sys.stdin.buffer.read()


def heard() -> bytes | None:
    """What standard input has said so far; None where nobody has listened."""
    return _standard_input() if _standard_input.cache_info().currsize else None


class Split(NamedTuple):
    sources: list[Source]
    edits: list[str]


def split(words: Sequence[str]) -> Split:
    """Pictures and edits; the first word is a picture always. An edit begins with + or -, holds ->, or is a sentence:
    words with spaces between them that name no file.
    """
    if not words:
        raise ValueError("no picture is given: write ledits edit PICTURE EDIT, such as ledits edit photo.jpg +hat")
    pictures, edits = [words[0]], list[str]()
    for word in words[1:]:
        sentence = " " in word.strip() and not os.path.exists(word) and not word.lower().endswith(_ENDINGS)
        is_edit = word == "" or word.strip()[:1] in ("+", "-") or "->" in word or sentence
        if is_edit and word != "-":
            edits.append(word.strip())
        else:
            pictures.append(word)
    check_quoted(pictures[1:])
    for word in pictures[1:]:
        if not os.path.exists(word) and not glob.has_magic(word) and word != "-":
            raise ValueError(
                f"{word!r} is neither a picture that exists nor an edit: write '+{word}' to add it, '-{word}' to "
                f"remove it, or 'OLD->{word}' to put it in the place of something"
            )
    if pictures.count("-") > 1:
        raise ValueError("standard input, -, can be read once: give it one time")
    return Split([Source.of(text) for word in pictures for text in _expanded(word)], edits)


def check_quoted(words: Iterable[str]) -> None:
    """Raise ValueError for what a shell left of an edit without quotes: of cat->dog it makes cat- and a file dog."""
    for word in words:
        if len(word) > 1 and word.endswith("-") and not os.path.exists(word):
            raise ValueError(
                f"{word!r} is what the shell left of {word}>..., for it took > and what follows as the name of a file, "
                f"which it made: write the edit in quotes, such as '{word}>dog', and remove that file"
            )


def _expanded(word: str) -> list[str]:
    """The files that a pattern names, for shells that leave patterns as they are."""
    if not glob.has_magic(word) or os.path.exists(word):
        return [word]
    found = sorted(glob.glob(word))
    if not found:
        raise ValueError(f"no file is named like {word!r}: check the pattern and the folder")
    return found


def outputs(sources: Sequence[Source], output: str | None, endings: Iterable[str]) -> list[Path | None]:
    """Where the results go: a file, a folder (with the pictures' own names), or None for standard output.

    A folder is made, as `ledits batch` does it.
    """
    if output is None:
        return [
            None if isinstance(source.data, bytes) else source.data.with_name(f"{source.data.stem}-edited{ending}")
            for source, ending in zip(sources, endings, strict=True)
        ]
    if not output:
        raise ValueError("-o is empty: name a file, a folder, or - for standard output")
    if output == "-":
        if len(sources) > 1:
            raise ValueError(f"{len(sources)} pictures can't go to standard output: name a folder with -o FOLDER/")
        return [None]
    if output.endswith("/") or os.path.isdir(output) or len(sources) > 1:
        folder = Path(output)
        if folder.suffix and not output.endswith("/") and not folder.is_dir():
            raise ValueError(f"{len(sources)} pictures don't go into one file, {output}: name a folder with -o FOLDER/")
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise ValueError(f"{output} can't be made a folder ({error.strerror}): name another one with -o") from None
        return [
            folder / f"{'picture' if isinstance(source.data, bytes) else source.data.stem}{ending}"
            for source, ending in zip(sources, endings, strict=True)
        ]
    return [Path(output)]
