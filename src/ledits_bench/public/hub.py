"""Where a suite lies: a folder, or a data set of the Hugging Face hub that is downloaded once."""

from pathlib import Path


def folder(data: str) -> Path:
    """The folder that `data` names, or that holds the hub's data set `data`, owner/name."""
    path = Path(data).expanduser()
    if path.is_dir():
        return path
    if path.exists() or data.count("/") != 1 or data.startswith((".", "/", "~")):
        raise ValueError(f"--data {data!r}: there is no such folder, and a data set of the hub has the form owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(data, repo_type="dataset"))
    except HFValidationError as error:
        raise ValueError(f"--data {data!r} is no hub id: {error}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ValueError(
            f"--data {data!r} is neither a folder nor cached, and the hub has no such data set or can't be reached: "
            f"{type(error).__name__}"
        ) from None
