"""What of a hub's repository is downloaded: the parts that are used, in one kind of weights."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

_PARTS = (
    "unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2",
    "tokenizer_3", "scheduler",
)  # fmt: skip
_SETTINGS = (".json", ".txt", ".model", ".jinja")
# model.safetensors, model.fp16.safetensors, model-00001-of-00002.safetensors, model.fp16-00001-of-00002.safetensors,
# and the indices of those in several files. Weights that are not a moving average are for training.
_WEIGHTS = re.compile(
    r"[\w-]+?(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?\.safetensors(?:\.index(?:\.(?P<other>\w+))?\.json)?"
)


def download(repository: str, revision: str | None, variant: str | None, *, without_transformer: bool = False) -> Path:
    """The folder of a repository in this machine's cache; ValueError, one sentence, where it can't be had.

    `without_transformer` leaves the weights of that part where they are.
    """
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        try:
            there = list_repo_files(repository, revision=revision)
        except (RepositoryNotFoundError, HFValidationError):
            raise
        except Exception:
            # Out of reach, in the words of whichever HTTP library it uses. What the cache has was chosen when it came.
            return Path(snapshot_download(repository, revision=revision, local_files_only=True))
        patterns = wanted(there, variant, without_transformer=without_transformer)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except RepositoryNotFoundError:
        raise ValueError(f"model {repository!r}: the hub has no such repository, or it needs `hf auth login`") from None
    except HFValidationError as error:
        raise ValueError(f"model {repository!r} is no hub id: {error}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        reason = type(error).__name__
        raise ValueError(
            f"model {repository!r} is neither a folder nor cached, and the hub can't be reached{offline}: {reason}"
        ) from None


def wanted(files: Iterable[str], variant: str | None, *, without_transformer: bool = False) -> list[str]:
    """Of a repository's files those that a pipeline is read from; of each part's weights one kind."""
    chosen, by_part = list[str](), dict[str, list[str]]()
    for file in files:
        path = PurePosixPath(file)
        weights = _WEIGHTS.fullmatch(path.name)
        if len(path.parts) == 1:
            if path.suffix == ".json" and not weights:
                chosen.append(file)
        elif len(path.parts) == 2 and path.parts[0] in _PARTS and "non_ema" not in path.name:
            if weights:
                by_part.setdefault(path.parts[0], []).append(file)
            elif path.suffix in _SETTINGS:
                chosen.append(file)
    for part, weights in by_part.items():
        if not (without_transformer and part == "transformer"):
            kind = _kind([variant_of(name) for name in weights], variant)
            chosen += [name for name in weights if variant_of(name) == kind]
    return sorted(chosen)


def only_variant(folder: Path) -> str | None:
    """The variant of the first part whose weights a folder has in one alone, as some repositories do; None: plain."""
    for part in _PARTS:
        there = [variant_of(path.name) for path in (folder / part).glob("*.safetensors*")]
        if there and (kind := _kind(there, None)):
            return kind
    return None


def variant_of(file: str) -> str | None:
    """The variant in a name of weights; None where there is none, or it is no such name."""
    found = _WEIGHTS.fullmatch(PurePosixPath(file).name)
    return None if found is None else found["variant"] or found["other"]


def _kind(there: Sequence[str | None], asked: str | None) -> str | None:
    """The variant that was asked for, where it is there; else the plain weights; else the first there is."""
    return asked if asked in there else None if None in there else sorted(filter(None, there))[0]
