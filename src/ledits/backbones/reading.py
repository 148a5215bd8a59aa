"""A folder's parts as modules: each of a class that our own table names, every one of its tensors accounted for."""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from ledits.files import configs, families, weights
from ledits.files.checkpoints import Checkpoint

# Of a text encoder's file what its network doesn't read: heads for other tasks, and positions that are counted.
_HEADS = ("lm_head.", "text_projection.", "visual_projection.", "logit_scale", "decoder.", "proj_out.")
_COUNTED = ("position_ids", "inv_freq", "rotary_emb")
_NAMED = 5  # tensors in a sentence
_SLACK = 10**5  # numbers
_OLDER = transformers.__version__.startswith("4.")
# Of late transformers leaves out the first part of the names of a CLIP text encoder's tensors, and reads both. Versions
# before that, some of version 5 among them, know the long names alone.
_CLIP_NAMES = {r"^(embeddings|encoder|final_layer_norm)\.": r"text_model.\1."}


def parts(
    checkpoint: Checkpoint, dtype: torch.dtype, kinds: Mapping[str, str | None], *,
    given: Mapping[str, Any], quantization: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """All parts of a checkpoint by their names, None for those that it leaves out.

    `kinds` are the variants of the weights that are read, `given` parts that are there already, `quantization` the
    configuration for each part that is quantised while it is read. ValueError, one sentence, for a broken part.
    """
    found: dict[str, Any] = dict.fromkeys(checkpoint.known.parts) | dict(given)
    for part in checkpoint.parts:
        if part in given:
            continue
        with complaints(checkpoint.name, part):
            if families.is_words(part):
                found[part] = tokenizer(checkpoint.places[part], checkpoint.known.parts[part], checkpoint.name)
            else:
                found[part] = model(checkpoint, part, dtype, kinds.get(part), quantization.get(part))
    return found


class Refused(ValueError):
    """A sentence that says all there is to say."""


@contextmanager
def complaints(name: str, part: str) -> Generator[None]:
    """Whatever a broken file makes these libraries raise or say, it is the checkpoint that is broken."""
    # One that stops half way leaves the process's own number format as it was for its weights.
    usual = torch.get_default_dtype()
    try:
        with quiet():
            yield
    except Refused:
        raise
    except Exception as error:
        raise broken(name, part, error) from error
    finally:
        torch.set_default_dtype(usual)


@contextmanager
def quiet() -> Generator[None]:
    """Neither warnings nor bars of the libraries that models are made with."""
    libraries = (diffusers_logging, transformers_logging)
    loud = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity_error()
            library.disable_progress_bar()
        yield
    finally:
        for library, level, bar in zip(libraries, loud, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()


def broken(name: str, part: str, error: Exception) -> Refused:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return Refused(f"model {name!r} is broken: its {part} can't be read: {reason}")


def tokenizer(folder: Path, accepted: tuple[str, ...], name: str) -> Any:
    """A tokenizer's words and pieces. What else lies beside them, as for pictures, is not read."""
    if not folder.is_dir():
        raise Refused(f"model {name!r} is incomplete: there is no {folder.name}/")
    kind = "PreTrainedTokenizerFast" if accepted[0].endswith("Processor") else accepted[0]
    if _OLDER and (folder / "tokenizer.json").is_file():
        # There the classes without this word read other files, which transformers 5 doesn't write.
        kind = next((each for each in accepted if each.endswith("Fast")), kind)
    return getattr(transformers, kind).from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def model(checkpoint: Checkpoint, part: str, dtype: torch.dtype, kind: str | None, quantization: Any) -> Any:
    """A network, an autoencoder or a text encoder, on the CPU."""
    folder, name = checkpoint.places[part], checkpoint.name
    files = weight_files(folder, kind, name)
    headers = [weights.header(file) for file in files]
    cls = checkpoint.known.parts[part][0]
    of_text = part.startswith("text_encoder")
    if not of_text and checkpoint.index[part][1] != cls:
        cls = checkpoint.index[part][1]  # of those that the table has
    how: dict[str, Any] = {
        "use_safetensors": True,
        "local_files_only": True,
        "variant": kind,
        "output_loading_info": True,
    }
    if quantization is not None:
        how["quantization_config"] = quantization
    if of_text:
        loader = _known(transformers, cls, name)
        wanted = check_size(loader, checkpoint, part, headers)
        if cls.startswith("CLIPTextModel") and lengthened(wanted, [key for each in headers for key in each.tensors]):
            how["key_mapping"] = _CLIP_NAMES
        loaded, said = loader.from_pretrained(folder, dtype=dtype, trust_remote_code=False, **how)
    else:
        loaded, said = _known(diffusers, cls, name).from_pretrained(folder, torch_dtype=dtype, **how)
    if of_text:
        check_text(name, part, said)
    else:
        account(name, part, said["missing_keys"], said["unexpected_keys"])
    return loaded.eval().requires_grad_(False)


def _known(library: Any, cls: str, name: str) -> Any:
    """A class of diffusers or transformers; refused where the installed version is older than it."""
    if not hasattr(library, cls):
        library_name, version = library.__name__, library.__version__
        raise Refused(
            f"model {name!r} has a {cls}, which {library_name} {version} does not know: pip install -U {library_name}"
        )
    return getattr(library, cls)


def check_text(name: str, part: str, said: Mapping[str, Any]) -> None:
    """`account` of what transformers says about a text encoder."""
    missing = [key for key in said["missing_keys"] if not key.endswith(_COUNTED)]
    unexpected = [key for key in said["unexpected_keys"] if not key.endswith(_COUNTED)]
    account(name, part, missing, [key for key in unexpected if not key.startswith(_HEADS)])


def account(name: str, part: str, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Raise ValueError where tensors are missing, which would be drawn at random, or are more than the network has."""
    for what, keys in (("lacks", sorted(missing)), ("has more than its network, ", sorted(unexpected))):
        if keys:
            more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
            listed = ", ".join(keys[:_NAMED])
            raise Refused(f"model {name!r} is broken: its {part} {what} {listed}{more}: get its weights again")


def weight_files(folder: Path, kind: str | None, name: str) -> list[Path]:
    """The files of a part's weights of one kind, those that an index names; ValueError where there are none."""
    there = [path for path in folder.glob("*.safetensors*") if path.is_file() and weights.variant_of(path.name) == kind]
    for path in there:
        if path.suffix == ".json":
            return [folder / file for file in configs.shards(path, name)]
    files = sorted(path for path in there if weights.is_whole(path.name))
    if files:
        return files[:1]
    if pickles := sorted([*folder.glob("*.bin"), *folder.glob("*.ckpt"), *folder.glob("*.pt")]):
        raise Refused(
            f"model {name!r} has its {folder.name} only as a pickle, {pickles[0].name}, which can run code when it is "
            "opened: convert it with save_pretrained(..., safe_serialization=True)"
        )
    raise Refused(f"model {name!r} is incomplete: {folder.name}/ has no .safetensors file")


def lengthened(wanted: Iterable[str], held: Iterable[str]) -> bool:
    """Whether a CLIP text encoder wants the long names of tensors, and its file has the short ones."""
    return any(name.startswith("text_model.") for name in wanted) and any(key.startswith("encoder.") for key in held)


def check_size(cls: Any, checkpoint: Checkpoint, part: str, headers: Iterable[weights.Header]) -> list[str]:
    """The names of a text encoder's tensors. Raises ValueError where its configuration asks for far more numbers than
    its weights hold: transformers makes what is missing before it says so, and a configuration may ask for any amount.
    """
    folder = checkpoint.places[part]
    with torch.device("meta"):
        config = cls.config_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tensors = dict(cls._from_config(config).named_parameters())
    asked = sum(prod(tensor.shape) for tensor in tensors.values())
    held = sum(each.numel for header in headers for each in header.tensors.values())
    quantized = checkpoint.configs[part].get("quantization_config")
    if asked > 2 * held + _SLACK and not quantized:  # what lacks less is told by name
        raise Refused(
            f"model {checkpoint.name!r} is broken: {part}/config.json asks for {asked} numbers and its weights "
            f"hold {held}"
        )
    return list(tensors)
