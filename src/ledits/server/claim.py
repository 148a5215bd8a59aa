"""One server a folder: two that keep inversions in the same one would remove each other's."""

from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def claim(folder: Path) -> IO[bytes] | None:
    """The folder's lock, held until it is closed or the process ends, however it ends; None where another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("ab")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
    return file


def first_free(folder: Path) -> Path:
    """The folder, or the next of the same name with a number that no server has: for who has not chosen one."""
    number = 1
    while True:
        path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        if claimed := claim(path):
            claimed.close()
            return path
        number += 1
