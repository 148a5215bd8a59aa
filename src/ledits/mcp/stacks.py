"""The inversions that are open, each with its results in the order in which they were made."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ledits.editor import Inversion


@dataclass(frozen=True)
class Made:
    """A result on the stack."""

    edits: tuple[str, ...]
    path: Path
    shown: Image.Image  # small


@dataclass
class Stack:
    """An inversion and what was made of it; `at` of the results are in force, 0 is the picture itself."""

    inversion: Inversion
    picture: Path
    shown: Image.Image
    anyway: bool
    made: list[Made] = field(default_factory=list[Made])
    at: int = 0

    def add(self, made: Made) -> None:
        """A new result in the place of those that were undone."""
        self.made[self.at :] = [made]
        self.at += 1

    def now(self) -> Made:
        """The result in force."""
        return self.made[self.at - 1] if self.at else Made((), self.picture, self.shown)


class Stacks:
    """As many as memory allows: the one that was used longest ago is closed for a new one."""

    def __init__(self, most: int = 8) -> None:
        self._most, self._open = most, OrderedDict[str, Stack]()

    def open(self, stack: Stack) -> str:
        """Keep it; its id."""
        id = secrets.token_hex(4)
        self._open[id] = stack
        while len(self._open) > self._most:
            self._open.popitem(last=False)
        return id

    def find(self, id: str) -> Stack:
        """The stack of that id; ValueError for none."""
        if id not in self._open:
            raise ValueError(
                f"there is no inversion {id[:40]!r}, or it was closed for newer ones: invert the picture again"
            )
        self._open.move_to_end(id)
        return self._open[id]
