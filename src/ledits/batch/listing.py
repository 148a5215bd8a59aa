"""The pictures that files, folders, globs and URLs name: regular files, no hidden ones, and no results of a batch.

A folder may hold the output of a batch, this one's or another's. What lies there and bears the id of a job in its name
is a result. It is listed only where it is named itself, or its folder is.
"""

import glob
import os
import stat
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import PurePosixPath
from typing import NamedTuple

from ledits.batch.jobs import ENDINGS, finished_id

PICTURES = (*ENDINGS, ".bmp", ".gif", ".ppm", ".pgm", ".psd", ".avif", ".heic", ".jp2")
_MARK = ".ledits"  # what every place of outputs has


class Listed(NamedTuple):
    """A picture, or what is wrong with the folder or the file of this name."""

    path: str
    problem: str = ""


def listed(given: str, output: str, urls: Callable[[str], Iterator[str]] | None) -> Iterator[Listed]:
    """The pictures that `given` names, where results go to `output`; `urls` lists what lies under a URL.

    ValueError, at the end, for a folder or a pattern that names none: beside others nobody would miss it.
    """
    home, nothing = "" if "://" in output or not output else os.path.realpath(output), ""
    if "://" in given:
        found = (
            iter([Listed(given)])
            if urls is None or given.lower().endswith(PICTURES)
            else _under(given, output, urls(given))
        )
    elif os.path.isdir(given):
        found = _in_folder(given, home)
    elif os.path.exists(given) or not glob.has_magic(given):
        found = iter([Listed(given)])  # one that is not there is a row with its error
    else:
        found, nothing = _matching(given, home), f"named like {given!r}: check the pattern, and name folders themselves"
    empty = True
    for each in found:
        empty = False
        yield each
    if empty:
        nothing = (
            nothing or f"in {given}: name one that has some (a batch's results count where their own folder is named)"
        )
        raise ValueError(f"no pictures {nothing}")


def is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURES) and not name.startswith(".")


def _in_folder(top: str, home: str) -> Iterator[Listed]:
    """Pictures of a folder, then those of its folders, in the order of their names."""
    real = os.path.realpath(top)
    # Folders, their real paths, and whether each is a place of outputs or lies in one. Below the first no link is
    # followed: a real path is its folder's and a name, where asking for it would cost a look at each folder above.
    left = [(top, real, _within(real, home))]
    while left:
        folder, real, results = left.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            yield Listed(folder, f"the folder can't be read: {error.strerror}")
            continue
        below = list[tuple[str, str, bool]]()
        for entry in entries:
            if _is_folder(entry):
                if not entry.name.startswith(".") and not entry.is_symlink():
                    inside = os.path.join(real, entry.name)
                    below.append((entry.path, inside, results or _has_mark(entry.path) or _within(inside, home)))
            elif is_picture(entry.name) and not (results and finished_id(entry.name)) and not _is_special(entry):
                yield Listed(entry.path)
        left += reversed(below)


def _matching(pattern: str, home: str) -> Iterator[Listed]:
    """Files that a glob matches; the folders that it names in full are named themselves."""
    fixed = "/".join(takewhile(lambda part: not glob.has_magic(part), pattern.split("/")[:-1]))
    root, known = os.path.realpath(fixed or ("/" if pattern.startswith("/") else ".")), dict[str, bool]()

    def results(folder: str) -> bool:
        if folder not in known:
            real = os.path.realpath(folder or ".")
            above = list(takewhile(lambda each: each != root, _and_above(real)))
            known[folder] = _within(real, home) or any(map(_has_mark, above))
        return known[folder]

    for path in sorted(glob.glob(pattern, recursive=True)):
        folder, name = os.path.split(path)
        if os.path.isfile(path) and not (finished_id(name) and results(folder)):
            yield Listed(path)


def _under(given: str, output: str, urls: Iterator[str]) -> Iterator[Listed]:
    start, names = given.rstrip("/") + "/", list(urls)
    homes = {name.partition(f"/{_MARK}/")[0] + "/" for name in names if f"/{_MARK}/" in name[len(start) :]}
    homes.add(output.rstrip("/") + "/")
    for name in names:
        parts = PurePosixPath(name[len(start) :]).parts
        hidden = any(part.startswith(".") for part in parts)
        if is_picture(name) and not hidden and not (finished_id(name) and name.startswith(tuple(homes))):
            yield Listed(name)


def _within(real: str, home: str) -> bool:
    return bool(home) and (real == home or real.startswith(home.rstrip(os.sep) + os.sep))


def _and_above(folder: str) -> Iterator[str]:
    while folder != os.path.dirname(folder):
        yield folder
        folder = os.path.dirname(folder)


def _has_mark(folder: str) -> bool:
    return os.path.isdir(os.path.join(folder, _MARK))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_special(entry: "os.DirEntry[str]") -> bool:
    """Whether this is a pipe, a socket or a device; a link that leads nowhere is a picture that is missing."""
    try:
        return not entry.is_file() and not stat.S_ISREG(os.stat(entry.path).st_mode)
    except OSError:
        return False
