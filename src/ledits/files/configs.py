"""A checkpoint's JSON files as what they are, a stranger's: read within limits, and refused where they ask for code or
for more than any checkpoint needs, before anything is built from them.
"""

import json
import re
import stat
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, cast

_BYTES = 64 * 2**20  # tokenizers of language models have 30 MB
_DEPTH = 16
_LENGTH = 4096  # of a list
# The most that a number may be, by the end of its name; the first that fits. Layers and levels are made one by one, and
# tables of positions are made whole, so that these may not be as large as a layer's width.
_MOST: tuple[tuple[str, int], ...] = (
    (r"(num|n)_(\w*_)?(layers|blocks)|depth|(num|n)_(\w*_)?heads|(\w+_)?layers_per_block|num_res_blocks", 512),
    (r"pos_embed_max_size|sample_size|patch_size|image_size", 8192),
    (r"axes_lens|axes_lens_\w+", 2**16),
    (r"num_train_timesteps|original_inference_steps", 10**5),
    (r"vocab_size|max_position_embeddings|max_window_layers|sliding_window|rope_theta|\w*token_id|bos|eos", 2**24),
    (r"num_embeds_ada_norm|norm_num_groups|groups", 2**14),
)
_MOST_ELSE = 2**20
# Settings by which the libraries that read a config would fetch or run code that it names.
_CODE = ("auto_map", "custom_pipeline", "custom_pipelines", "kernel_config", "use_kernels", "hub_kernels")
_NAMES_KERNELS = re.compile(r"_?(attn|experts|mlp)_implementation\w*")
_QUANTISED = ("bitsandbytes",)  # quantised weights that lie in safetensors files and are plain tensors


def read_json(path: Path, model: str) -> dict[str, Any]:
    """One of a checkpoint's JSON files, which must hold an object; ValueError, one sentence, where it can't be used."""
    what = f"model {model!r}: {path.parent.name}/{path.name}"
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{what} is no file")
        if found.st_size > _BYTES:
            raise ValueError(f"{what} has {found.st_size} bytes, and {_BYTES} are accepted")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"model {model!r} is incomplete: there is no {path.parent.name}/{path.name}") from None
    except RecursionError:
        raise ValueError(f"{what} can't be read: it is nested too deep") from None
    except OSError as error:
        raise ValueError(f"{what} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(what) else f"{what} can't be read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what} holds no object")
    return cast("dict[str, Any]", value)


def config(path: Path, model: str, *, sizes: bool = True) -> dict[str, Any]:
    """A part's configuration, checked by `check`."""
    value = read_json(path, model)
    check(value, f"model {model!r}: {path.parent.name}/{path.name}", sizes=sizes)
    return value


def check(value: Mapping[str, Any], what: str, *, sizes: bool = True) -> None:
    """Raise ValueError where a configuration names code, or asks for more than any network of this kind has.

    Without `sizes` numbers are not looked at: a tokenizer's longest text is 10^30 where nobody has said it.
    """
    for name, each in _settings(value, what):
        if name in _CODE and each:
            raise ValueError(f"{what} names code of its own ({name}), which is never run: use a checkpoint without it")
        if _NAMES_KERNELS.fullmatch(name) and isinstance(each, str) and re.search(r"[/:@|\\]", each):
            raise ValueError(f"{what} names a kernel to fetch and run ({name} {each[:80]!r}): take that line out")
        if name == "quantization_config" and each is not None:
            method = cast("dict[str, Any]", each).get("quant_method") if isinstance(each, dict) else each
            if method not in _QUANTISED:
                raise ValueError(
                    f"{what} says that its weights are quantised by {str(method)[:80]!r}: {', '.join(_QUANTISED)} and "
                    "plain weights are accepted"
                )
        if isinstance(each, list) and len(cast("list[Any]", each)) > _LENGTH:
            raise ValueError(f"{what} has a list of {len(cast('list[Any]', each))} values ({name}): {_LENGTH} at most")
        if not sizes:
            continue
        if isinstance(each, int) and abs(each) > (most := _most(name)):
            raise ValueError(f"{what} asks for a {name} of {each}: {most} is the most that is accepted")


def _most(name: str) -> int:
    return next((most for pattern, most in _MOST if re.fullmatch(pattern, name)), _MOST_ELSE)


def _settings(value: object, what: str, name: str = "", depth: int = 0) -> Generator[tuple[str, Any]]:
    """Every value in a configuration with the name that it has, those in lists with the list's."""
    if depth > _DEPTH:
        raise ValueError(f"{what} is nested too deep: {_DEPTH} levels at most")
    yield name, value
    if isinstance(value, dict):
        for key, each in cast("dict[str, Any]", value).items():
            yield from _settings(each, what, str(key), depth + 1)
    elif isinstance(value, list):
        for each in cast("list[Any]", value)[: _LENGTH + 1]:
            yield from _settings(each, what, name, depth + 1)


def shards(path: Path, model: str) -> list[str]:
    """The files that an index of weights in several names: safetensors files beside it, and nothing else."""
    named = read_json(path, model).get("weight_map")
    what = f"model {model!r}: {path.parent.name}/{path.name}"
    if not isinstance(named, dict) or not named:
        raise ValueError(f"{what} has no weight_map")
    files = sorted({str(file) for file in cast("dict[str, Any]", named).values()})
    for file in files:
        if not re.fullmatch(r"[\w.-]+\.safetensors", file):
            raise ValueError(f"{what} names {file[:80]!r}: safetensors files beside it are accepted")
        if not (path.parent / file).is_file():
            raise ValueError(f"model {model!r} is incomplete: there is no {path.parent.name}/{file}")
    return files
