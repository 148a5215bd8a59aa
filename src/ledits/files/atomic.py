"""Files that appear whole or not at all, and never over another one unasked."""

import os
import re
import secrets
import socket
import time
import zlib
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from ledits.errors import FileThere

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


def check_writable(path: Path, endings: Collection[str], *, overwrite: bool) -> None:
    """Raise the ValueError that `written` would raise for this path, before any long computation.

    endings: the lower-case suffixes that are accepted, such as ".png".
    """
    if path.suffix.lower() not in endings:
        ending = f"ends in {path.suffix!r}" if path.suffix else "has no ending"
        raise ValueError(f"{path} {ending}; ledits writes {', '.join(endings)} here: choose such a name.")
    folder = path.parent
    if not folder.exists():
        raise ValueError(f"The folder {folder} for {path.name} does not exist: create it or choose another one.")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file, so {path.name} cannot be put in it: choose a folder.")
    try:
        # Not Path.exists, which overlooks a dangling link: that is a file of the user's too.
        path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}): choose another name or folder.") from error
    else:
        if path.is_dir():
            raise ValueError(f"{path} is a folder; ledits writes one file: choose a file name.")
        if not overwrite:
            raise FileThere(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"The folder {folder} cannot be written to: change its permissions or choose another one.")


@contextmanager
def written(path: Path, *, overwrite: bool) -> Generator[Path]:
    """A temporary name in the same folder to write to; when the block ends well, the file gets its own name."""
    _sweep(path.absolute().parent)
    # The user's own name may be near the length limit, so the temporary one does not build on it.
    temporary = path.with_name(f".ledits-{_host()}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield temporary
        if overwrite:
            os.replace(temporary, path)
        else:
            _publish(temporary, path)
    except FileExistsError:
        raise FileThere(path) from None
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}): choose another name or folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path, what: str) -> Generator[None]:
    """Makes a folder that only one process at a time writes to; ValueError where another one does.

    The lock goes with its process, however that ends.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        raise ValueError(f"{folder} can't be made a folder ({error.strerror}): choose another one") from None
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(f"another {what} writes to {folder}: wait for it, or choose another folder") from None
        yield


@cache
def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left half written; once for each folder and process."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = re.fullmatch(rf"\.ledits-{_host()}-(\d+)-[0-9a-f]{{8}}", entry.name)
            # Nobody has written to it for a while either: the same number may be another process in a container.
            if match and not _alive(int(match[1])) and time.time() - entry.stat().st_mtime > 10:
                os.unlink(entry.path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is there and another user's
        return True
    return True


def _publish(temporary: Path, path: Path) -> None:
    """Give the temporary file its name, or raise FileExistsError where another file has it by now."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # The file system has no hard links: claiming the name first keeps anyone else's file safe all the same.
        path.open("xb").close()
        try:
            os.replace(temporary, path)
        except OSError:
            path.unlink()
            raise
