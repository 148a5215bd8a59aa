"""What a network is at this moment: a cheap token of all that its predictions depend on, and an exact one of weights.

A path is exact for the network that predicted along it. Weights, adapters and their scales, words that were learned and
number formats may change afterwards, in place, by whoever has the pipeline; a replay compares tokens to find that out.
"""

import hashlib
import re
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

_WHOLE, _SOME = 2**16, 2**12  # numbers of a tensor: up to the first all are looked at, of more the second
_COMPARED = 256  # numbers of an autoencoder
_CLOSE = 0.02  # of rounding: bfloat16 is off by 0.002
# Of modules and of attention processors, what changes the result and is no tensor: adapters, and FreeU.
_PLAIN = (
    "scaling", "_active_adapter", "_disable_adapters", "merged_adapters", "scale", "s1", "s2", "b1", "b2",
)  # fmt: skip
_ADAPTER = re.compile(r"\.(lora_\w+|hada_\w+|lokr_\w+|oft_\w+)\.")


@dataclass(frozen=True, eq=False)
class State:
    """Of a network and all that it is told by."""

    predicts: str  # equal where predictions are
    encodes: Tensor  # (n) numbers of the autoencoder

    def same_pictures(self, other: "State") -> bool:
        """Whether latents mean the same pictures, whatever number format the autoencoder is in."""
        if self.encodes.shape != other.encodes.shape:
            return False
        return bool((self.encodes - other.encodes).norm() <= _CLOSE * self.encodes.norm())


def of(backbone: Any) -> State:
    """The state of any backbone; of one that keeps none its checkpoint, number format and device are all there is."""
    if (own := getattr(backbone, "state", None)) is not None:
        return own()
    return State(f"{backbone.fingerprint} {backbone.dtype} {backbone.device.type}", torch.empty(0))


def additions(backbone: Any) -> tuple[str, ...]:
    """What was added to a backbone's checkpoint, each by its hash."""
    return getattr(backbone, "additions", ())


def predicts(modules: Iterable[nn.Module], words: Iterable[Any], said: object) -> str:
    """A token of these modules, of the words that tokenizers were given beside their own, and of what is `said`."""
    whole = hashlib.sha256(repr((said, [sorted(_added(each).items()) for each in words])).encode())
    for module in modules:
        parts = list(_tensors(module))
        whole.update(repr([(name, str(each.dtype), tuple(each.shape)) for name, each in parts]).encode())
        whole.update(repr(list(_plain(module))).encode())
        for numbers in _gathered(_some(each, _WHOLE, _SOME) for _, each in parts):
            whole.update(numbers)
    return whole.hexdigest()[:32]


def encodes(vae: nn.Module | None) -> Tensor:
    """A few numbers of an autoencoder, in fp32; none where there is none."""
    if vae is None:
        return torch.empty(0)
    weights = [each for _, each in _tensors(vae) if each.is_floating_point() and not each.is_meta]
    step = max(1, len(weights) * 4 // _COMPARED)
    some = [_some(each, 0, 4)[:4].float().cpu() for each in weights[::step]]
    return torch.cat(some)[:_COMPARED] if some else torch.empty(0)


def content(modules: Mapping[str, nn.Module]) -> str:
    """The first 32 digits of the SHA-256 of every number in these modules, without those of adapters."""
    listed = [
        (f"{part}.{name.replace('.base_layer.', '.')}", each)
        for part, module in modules.items()
        for name, each in _tensors(module)
        if not _ADAPTER.search(name)
    ]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_digest, [each for _, each in listed]))
    whole = hashlib.sha256()
    for (name, each), digest in sorted(zip(listed, digests, strict=True), key=lambda pair: pair[0][0]):
        whole.update(f"{name} {each.dtype} {tuple(each.shape)} {digest}\n".encode())
    return whole.hexdigest()[:32]


def adapters(modules: Iterable[nn.Module]) -> str:
    """A token of the adapters on these modules and their scales; empty where there are none."""
    whole, found = hashlib.sha256(), False
    for module in modules:
        for name, each in _tensors(module):
            if _ADAPTER.search(name):
                found = True
                whole.update(f"{name} {_digest(each)}\n".encode())
        whole.update(repr([item for item in _plain(module) if item[1] != "scale"]).encode())
    return whole.hexdigest()[:32] if found else ""


def within(value: object) -> Generator[Any]:
    """Modules and tokenizers in an object's own attributes, and in lists and tuples of them."""
    if isinstance(value, nn.Module) or hasattr(value, "get_added_vocab"):
        yield value
    elif isinstance(value, list | tuple):
        for each in cast("list[object]", value):
            yield from within(each)


def _added(tokenizer: Any) -> dict[str, int]:
    return dict(tokenizer.get_added_vocab())


def _tensors(module: nn.Module) -> Generator[tuple[str, Tensor]]:
    """Parameters and buffers with their names; where they are offloaded, those that come when they are needed.

    Layers that are packed (`ledits.cpu`) can't be changed any more, and lay their weights out anew when they first run.
    """
    for prefix, each in _unpacked(module):
        for name, tensor in (*each.named_parameters(recurse=False), *each.named_buffers(recurse=False)):
            if tensor.is_meta and (kept := getattr(getattr(each, "_hf_hook", None), "weights_map", None)) is not None:
                tensor = cast("Tensor", kept[name])
            yield f"{prefix}.{name}", tensor.detach()


def _unpacked(module: nn.Module, prefix: str = "") -> Generator[tuple[str, nn.Module]]:
    if type(module).__module__.startswith("ledits.cpu"):
        return
    yield prefix, module
    for name, child in module.named_children():
        yield from _unpacked(child, f"{prefix}.{name}" if prefix else name)


def _plain(module: nn.Module) -> Generator[tuple[str, str, str]]:
    for prefix, each in module.named_modules():
        processor = getattr(each, "processor", None)
        for holder in (each, processor):
            for name in _PLAIN:
                value = getattr(holder, "__dict__", {}).get(name)
                if value is not None and not isinstance(value, Tensor | nn.Module):
                    yield prefix, name, repr(value)


def _some(tensor: Tensor, whole: int, some: int) -> Tensor:
    """Numbers of a tensor as they lie in memory, all of them or evenly spaced ones."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_meta or not tensor.numel():
        return torch.empty(0)
    count = tensor.numel()
    taken = count if count <= whole else min(count, some)
    # A convolution's weights may lie with the channels last: whatever their order, they fill one piece of memory.
    filled = tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last)
    flat = tensor.as_strided((count,), (1,)) if filled else tensor.reshape(-1)
    return flat[:: count // taken][:taken]


def _gathered(parts: Iterable[Tensor]) -> Generator[bytes]:
    """The bytes of many small tensors; one transfer for all of one kind that follow each other."""
    kept: list[Tensor] = []
    for part in parts:
        if kept and (part.dtype, part.device) != (kept[0].dtype, kept[0].device):
            yield _bytes(torch.cat(kept))
            kept = []
        kept.append(part)
    if kept:
        yield _bytes(torch.cat(kept))


def _digest(tensor: Tensor) -> str:
    names = getattr(tensor, "__tensor_flatten__", None)
    if names is not None:  # made of several, as quantised weights are
        return " ".join(_digest(getattr(tensor, name)) for name in names()[0])
    return hashlib.sha256(b"" if tensor.is_meta else _bytes(tensor.as_subclass(Tensor))).hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
