"""Which files a caller may name: those below the folders that the user named at the start."""

import os
from collections.abc import Sequence
from pathlib import Path

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


class Folders:
    """The folders, and what lies below them; links that lead out of them are followed before they are judged."""

    def __init__(self, folders: Sequence[Path]) -> None:
        if not folders:
            raise ValueError("no folder is named: name one that pictures may be read from and written to")
        for folder in folders:
            if not folder.is_dir():
                raise ValueError(f"{folder} is no folder: name one that pictures may be read from and written to")
        self.folders = tuple(folder.resolve() for folder in folders)

    def picture(self, name: str) -> Path:
        """A picture that is there; a relative name is looked up in each folder."""
        for path in self._paths(name):
            if path.is_file():
                return path
        raise ValueError(f"there is no file {name!r} in {self}: ask the user for the picture's path")

    def new(self, name: str) -> Path:
        """A file that is not there yet; a relative name lies in the first folder."""
        path = self._paths(name)[0]
        if path.suffix.lower() not in _ENDINGS:
            raise ValueError(f"output {name!r} must end in {', '.join(_ENDINGS)}: name it such as edited.png")
        if not path.parent.is_dir():
            raise ValueError(f"output {name!r} lies in a folder that is not there: leave the folder out")
        if path.exists():
            raise ValueError(f"output {name!r} is there already, and nothing is written over: choose another name")
        return path

    def beside(self, picture: Path, what: str) -> Path:
        """A new name beside a picture: photo-edited.png, photo-edited-2.png."""
        ending = picture.suffix if picture.suffix.lower() in _ENDINGS else ".png"
        number = 1
        while True:
            more = "" if number == 1 else f"-{number}"
            path = picture.with_name(f"{picture.stem}-{what}{more}{ending}")
            if not os.path.lexists(path):  # a link that leads nowhere takes the name too
                return path
            number += 1

    def _paths(self, name: str) -> list[Path]:
        if not name.strip() or "\0" in name or len(name) > 1000:
            raise ValueError("a picture is named by its path: name a file below " + str(self))
        try:
            given = Path(name).expanduser()
            found = [path.resolve() for path in ([given] if given.is_absolute() else [f / given for f in self.folders])]
        except RuntimeError:  # "~nobody", and links that lead in a circle
            raise ValueError(f"{name[:200]!r} leads to no file: name a file below {self}") from None
        inside = [path for path in found if any(path.is_relative_to(folder) for folder in self.folders)]
        if not inside:
            raise ValueError(f"{name[:200]!r} lies outside of {self}: only files below are open here")
        return inside

    def __str__(self) -> str:
        return " and ".join(map(str, self.folders))
