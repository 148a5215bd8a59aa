"""What the caller can mend, as errors with fields: what is wrong, what was given, what is accepted, what settles it.

The text of an error is one sentence in Python's words. A surface whose words are others (an option, a button, a field
of JSON) says `what`, and its own remedy for the `option`: `said` puts the two together.
"""

import errno
from collections.abc import Mapping
from pathlib import Path


class LeditsError(ValueError):
    """Something that was asked for and can't be."""

    def __init__(
        self, what: str, remedy: str = "", *, option: str = "", given: object = None, accepted: str = ""
    ) -> None:  # fmt: skip
        """`what`: what is wrong, without what to do. `remedy`: what to do, in Python's words. `option`: the argument
        that settles it, as Python names it, such as "overwrite".
        """
        super().__init__(what, remedy)
        self.what, self.remedy, self.option, self.given, self.accepted = what, remedy, option, given, accepted

    def __str__(self) -> str:
        return self._sentence(self.remedy)

    def said(self, remedies: Mapping[str, str]) -> str:
        """The sentence with a surface's own remedy for the option, and Python's where the surface has none."""
        return self._sentence(remedies.get(self.option, self.remedy))

    def _sentence(self, remedy: str) -> str:
        return f"{self.what}: {remedy}" if remedy else self.what


class Unsuited(LeditsError):
    """A word or a picture that a model of a small world does not know."""


class FileMissing(LeditsError, FileNotFoundError):
    """A file that is not there."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(f"There is no file {path}", "check the name and the folder.", given=str(path))
        self.errno, self.filename = errno.ENOENT, str(path)

    def __reduce__(self) -> tuple[type["FileMissing"], tuple[str]]:
        return FileMissing, (self.filename,)


class FileThere(LeditsError, FileExistsError):
    """A file that would be written over."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            f"{path} exists", "pass overwrite=True to replace it, or choose another name.", option="overwrite",
            given=str(path), accepted="a name that no file has",
        )  # fmt: skip
        self.errno, self.filename = errno.EEXIST, str(path)

    def __reduce__(self) -> tuple[type["FileThere"], tuple[str]]:
        return FileThere, (self.filename,)
