"""Folders of what can be computed or fetched again: the user's own, which nobody else may write to, and the hub's."""

import os
import stat
from contextlib import suppress
from pathlib import Path


def folder() -> Path:
    """`ledits` in XDG_CACHE_HOME, or in ~/.cache; made with mode 0700 where it is not there.

    Raises OSError where there is no home, where the path is relative (it would depend on the working directory), or
    where another user owns the folder or may write to it: what lies in it is trusted.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(given) if given and Path(given).is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise OSError(f"no cache folder: {error}") from None
    path = base / "ledits"
    base.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(f"{path} is no folder")
    # Windows has neither owners nor modes of this kind; its user folders are private.
    if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise OSError(f"{path} belongs to another user, or others may write to it")
    return path


def hub() -> Path:
    """Where the hub's own library keeps what it has downloaded."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def repository(folder: Path) -> str | None:
    """The id of the repository of which a folder is a snapshot in the hub's cache; None for other folders."""
    name = folder.parent.parent.name
    is_snapshot = folder.parent.name == "snapshots" and name.startswith("models--")
    return name.removeprefix("models--").replace("--", "/", 1) if is_snapshot else None
