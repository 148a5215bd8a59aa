"""What of a hub's repository is downloaded: the parts that are used, in one kind of weights."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import torch

from ledits.files import checkpoints, families
from ledits.files.checkpoints import Checkpoint
from ledits.files.modular import Place
from ledits.files.weights import is_weights, variant_of

_PARTS = frozenset(("scheduler", *(part for known in families.FAMILIES.values() for part in known.parts)))
_SETTINGS = (".json", ".txt", ".model", ".jinja")
# Variants in the order in which they are taken where a network runs in a number format; "" are plain ones.
_ORDER = {torch.float16: ("fp16", "bf16", ""), torch.bfloat16: ("bf16", "fp16", "")}

_PATIENCE = 5.0  # seconds in which the hub has to answer

Format = Callable[[Checkpoint], torch.dtype]  # what a checkpoint will run in, by its configurations


def download(
    repository: str, revision: str | None, variant: str | None, dtype: Format, *, without: Iterable[str] = ()
) -> Path:
    """The folder of a repository in this machine's cache; ValueError, one sentence, where it can't be had.

    A repository that is there whole is taken as it is, and the hub is not asked. Else settings come first, which say
    what it will run in, and then weights: 16 bits for what runs in 16 bits, where they are there. Weights of the parts
    in `without` stay where they are. Of a modular repository the parts that lie in others come from there.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if (here := _cached(repository, revision, variant, without)) is not None:
        return here
    try:
        try:
            there = listed(repository, revision)
        except (RepositoryNotFoundError, HFValidationError):
            raise
        except Exception:
            # Out of reach, in the words of whichever HTTP library it uses. What the cache has was chosen when it came.
            return Path(snapshot_download(repository, revision=revision, local_files_only=True))
        settings = [file for file in there if _is_setting(file)]
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=settings))
        order = complete(folder, repository, variant, dtype, without=without)
        patterns = wanted(there, order, without=without)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except RepositoryNotFoundError:
        raise ValueError(f"model {repository!r}: the hub has no such repository, or it needs `hf auth login`") from None
    except HFValidationError as error:
        raise ValueError(f"model {repository!r} is no hub id: {error}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ValueError(
            f"model {repository!r} is neither a folder nor cached, and the hub can't be reached{offline}"
        ) from None


def complete(
    folder: Path, name: str, variant: str | None, dtype: Format, *, without: Iterable[str] = ()
) -> tuple[str, ...]:
    """Download what the index in `folder` says lies in other repositories, settings first and then weights, where it
    is not cached. Returns which variants of weights are preferred. ValueError where something can't be had.
    """
    settings_elsewhere(folder, name)
    checkpoint = checkpoints.examine(folder, name)
    order = preferred(dtype(checkpoint), variant)
    for part, place in checkpoints.elsewhere(folder, name).items():
        weightless = families.is_words(part) or part == "scheduler" or part in without
        if not weightless and not _has_weights(checkpoint.places[part]):
            _fetch(place, part, name, order)
    return order


def settings_elsewhere(folder: Path, name: str) -> None:
    """Download the settings of the parts that lie in other repositories, where they are not cached."""
    for part, place in checkpoints.elsewhere(folder, name).items():
        there = place.cached()
        if place.is_of_hub() and (there is None or not any(there.glob("*.json"))):
            _fetch(place, part, name, None)


def _fetch(place: Place, part: str, name: str, order: Sequence[str] | None) -> None:
    """The settings of a part that lies in another repository, or its weights, of the first kind of `order`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        there = [PurePosixPath(file) for file in listed(place.repository, place.revision)]
        inside = [path for path in there if path.parent == PurePosixPath(place.folder)]
        weights = [path for path in inside if is_weights(path.name) and "non_ema" not in path.name]
        if order is None:
            chosen = [path for path in inside if path.suffix in _SETTINGS and path not in weights]
        else:
            kind = _kind([variant_of(path.name) for path in weights], order) if weights else None
            chosen = [path for path in weights if variant_of(path.name) == kind]
        patterns = list(map(str, chosen))
        snapshot_download(place.repository, revision=place.revision, allow_patterns=patterns)
    except RepositoryNotFoundError:
        raise ValueError(
            f"model {name!r}: its {part} lies in {place}: the hub has no such repository, or it needs `hf auth login`"
        ) from None
    except Exception:  # in the words of whichever HTTP library it uses
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ValueError(
            f"model {name!r}: its {part} lies in {place}, which is not cached, and the hub can't be reached{offline}"
        ) from None


def _has_weights(folder: Path) -> bool:
    return any(is_weights(path.name) for path in folder.glob("*.safetensors*"))


def listed(repository: str, revision: str | None = None) -> list[str]:
    """The files of a repository. The hub is asked once: where it is out of reach, that is known within seconds."""
    from huggingface_hub import HfApi

    there = HfApi().model_info(repository, revision=revision, timeout=_PATIENCE).siblings
    return [file.rfilename for file in there or ()]


def one_file(repository: str, name: str | None) -> Path:
    """One file of a repository, its only .safetensors file where none is named; from the cache where it is there."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    def named(files: Iterable[str]) -> str:
        found = sorted(file for file in files if file.endswith(".safetensors"))
        if len(found) != 1:
            listed = ", ".join(found[:5]) or "none"
            raise ValueError(
                f"{repository!r} has {len(found)} .safetensors files ({listed}): name one, {repository}/FILE"
            )
        return found[0]

    try:
        try:
            if name is None:
                folder = Path(snapshot_download(repository, local_files_only=True))
                return folder / named(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))
            return Path(hf_hub_download(repository, name, local_files_only=True))
        except (OSError, EntryNotFoundError):
            there = listed(repository)  # once, before a download that would try again and again
            return Path(hf_hub_download(repository, name or named(there)))
    except RepositoryNotFoundError:
        raise ValueError(f"{repository!r}: the hub has no such repository, or it needs `hf auth login`") from None
    except EntryNotFoundError:
        raise ValueError(f"{repository!r} has no file {name!r}") from None
    except ValueError:
        raise
    except Exception:
        raise ValueError(f"{repository!r} is neither a file nor cached, and the hub can't be reached") from None


def settings(repository: str) -> Path:
    """A repository's folder in the cache: with its weights where they are there, else with its settings alone."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except OSError:
        folder = None
    try:
        if folder is None:
            there = [file for file in listed(repository) if _is_setting(file)]
            folder = Path(snapshot_download(repository, allow_patterns=there))
    except Exception:
        raise ValueError(
            f"model {repository!r} is neither a folder nor cached, and the hub has none or is out of reach"
        ) from None
    with suppress(ValueError):  # what is wrong with it, or not to be had, is said of the folder
        settings_elsewhere(folder, repository)
    return folder


def _cached(repository: str, revision: str | None, variant: str | None, without: Iterable[str]) -> Path | None:
    """The repository in this machine's cache, where every part of it is there."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
        checkpoint = checkpoints.examine(folder, repository)
    except (OSError, ValueError):
        return None
    for part in checkpoint.parts:
        if not checkpoint.places[part].is_dir():
            return None
        if not families.is_words(part) and part not in without:
            there = [variant_of(path.name) for path in checkpoint.places[part].glob("*.safetensors*")]
            if not there or (variant is not None and part == checkpoint.known.network and variant not in there):
                return None
    return folder


def preferred(dtype: torch.dtype, variant: str | None) -> tuple[str, ...]:
    """Variants of weights in the order in which they are taken, "" the plain ones; the user's own comes first."""
    usual = _ORDER.get(dtype, ("",))
    return usual if variant is None else (variant, *usual)


def kinds(places: Mapping[str, Path], parts: Iterable[str], order: Sequence[str]) -> dict[str, str | None]:
    """The variant of each part's weights that is read, of parts in these folders."""
    found = dict[str, str | None]()
    for part in parts:
        there = [variant_of(path.name) for path in places[part].glob("*.safetensors*")]
        if there:
            found[part] = _kind(there, order)
    return found


def wanted(files: Iterable[str], order: Sequence[str], *, without: Iterable[str] = ()) -> list[str]:
    """Of a repository's files those that a pipeline is read from; of each part's weights one kind."""
    chosen, by_part = list[str](), dict[str, list[str]]()
    for file in files:
        path = PurePosixPath(file)
        if _is_setting(file):
            chosen.append(file)
        elif _of_part(path) and is_weights(path.name):
            by_part.setdefault(path.parts[0], []).append(file)
    for part, weights in by_part.items():
        if part not in without:
            kind = _kind([variant_of(name) for name in weights], order)
            chosen += [name for name in weights if variant_of(name) == kind]
    return sorted(chosen)


def _of_part(path: PurePosixPath) -> bool:
    return len(path.parts) == 2 and path.parts[0] in _PARTS and "non_ema" not in path.name


def _is_setting(file: str) -> bool:
    path = PurePosixPath(file)
    if is_weights(path.name):
        return False
    return path.suffix == ".json" if len(path.parts) == 1 else _of_part(path) and path.suffix in _SETTINGS


def _kind(there: Sequence[str | None], order: Sequence[str]) -> str | None:
    """The first kind of `order` that is there; else the plain weights; else the first there is."""
    for kind in (*order, ""):
        if (kind or None) in there:
            return kind or None
    return sorted(filter(None, there))[0]


def check_variant(variant: str | None, found: Mapping[str, str | None], name: str) -> None:
    """Raise ValueError where no part has weights of a variant that was asked for."""
    if variant is not None and variant not in found.values():
        there = ", ".join(sorted({kind or "plain" for kind in found.values()}))
        raise ValueError(f"model {name!r} has no weights of variant {variant!r}: {there} are there")
