"""Files of weights by their headers alone, without torch: names, shapes and formats of tensors, and metadata."""

import importlib.util
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, cast

# model.safetensors, model.fp16.safetensors, model-00001-of-00002.safetensors, model.fp16-00001-of-00002.safetensors,
# and the indices of those in several files. Weights that are not a moving average are for training.
_WEIGHTS = re.compile(
    r"[\w-]+?(?:\.(?P<variant>\w+))?(?P<part>-\d+-of-\d+)?\.safetensors(?P<index>\.index(?:\.(?P<other>\w+))?\.json)?"
)
_HEADER = 100 * 2**20  # bytes that safetensors allows


@dataclass(frozen=True)
class Stored:
    """One tensor of a file."""

    shape: tuple[int, ...]
    dtype: str  # "F16", "BF16", "F8_E4M3", ...; of a GGUF file "Q8_0", ...

    @property
    def numel(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Header:
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]

    @property
    def dtypes(self) -> dict[str, int]:
        """How many numbers are in each format, the most first."""
        found = dict[str, int]()
        for each in self.tensors.values():
            found[each.dtype] = found.get(each.dtype, 0) + each.numel
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def header(path: Path) -> Header:
    """The header of a .safetensors or .gguf file; ValueError, one sentence, where it has none."""
    found = path.stat()
    return _header(path, found.st_size, found.st_mtime_ns)


@cache
def _header(path: Path, size: int, time: int) -> Header:
    try:
        return _gguf(path) if path.suffix == ".gguf" else _safetensors(path, size)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None


def _safetensors(path: Path, size: int) -> Header:
    with path.open("rb") as file:
        begun = file.read(8)
        length = struct.unpack("<Q", begun)[0] if len(begun) == 8 else 0
        if _is_pointer(path, size):
            raise ValueError(f"{path} is a pointer of git-lfs and no weights: fetch them with `git lfs pull`")
        if not 2 <= length <= min(_HEADER, size - 8):
            raise ValueError(f"{path} is no safetensors file, or was cut off: get it again")
        file.seek(8)
        try:
            value = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise ValueError(f"{path} is no safetensors file: its header can't be read") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no safetensors file: its header holds no object")
    entries = cast("dict[str, Any]", value)
    metadata = entries.pop("__metadata__", None) or {}
    tensors, end = dict[str, Stored](), 0
    try:
        for name, each in entries.items():
            tensors[name] = Stored(tuple(int(side) for side in each["shape"]), str(each["dtype"]))
            end = max(end, int(each["data_offsets"][1]))
    except (KeyError, TypeError, ValueError, IndexError):
        raise ValueError(f"{path} is no safetensors file: its header is damaged") from None
    if 8 + length + end > size:
        raise ValueError(f"{path} was cut off: it has {size} bytes of {8 + length + end}, get it again")
    return Header(tensors, {str(key): str(text) for key, text in metadata.items()})


def _is_pointer(path: Path, size: int) -> bool:
    return size < 1024 and path.read_bytes().startswith(b"version https://git-lfs")


def _gguf(path: Path) -> Header:
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"{path.name} needs the package gguf: pip install gguf")
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except Exception as error:  # it raises whatever a damaged file makes it stumble over
        raise ValueError(f"{path} is no GGUF file, or was cut off: {error}") from None
    field = reader.get_field("general.architecture")
    metadata = {} if field is None else {"general.architecture": str(field.contents())}
    # Its shapes are those of torch turned round.
    return Header(
        {
            each.name: Stored(tuple(int(side) for side in reversed(each.shape.tolist())), each.tensor_type.name)
            for each in reader.tensors
        },
        metadata,
    )


def variant_of(file: str) -> str | None:
    """The variant in a name of weights; None where there is none, or it is no such name."""
    found = _WEIGHTS.fullmatch(PurePosixPath(file).name)
    return None if found is None else found["variant"] or found["other"]


def is_weights(file: str) -> bool:
    return _WEIGHTS.fullmatch(PurePosixPath(file).name) is not None


def is_whole(file: str) -> bool:
    """Whether a file's name is of all weights of a part, and not of a share of them or an index."""
    found = _WEIGHTS.fullmatch(file)
    return found is not None and not found["part"] and not found["index"] and "non_ema" not in file
