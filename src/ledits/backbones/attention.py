"""Where a prompt's words are: attention to text, recorded while the network runs as it always does.

PyTorch tells a `TorchFunctionMode` of every call of its attention function, after norms, positions and projections,
whatever network makes it: cross-attention, joint attention of text and picture, keys added to the picture's own. The
layer's output is left as it is; the map of the few wanted words is one more attention beside it, whose values are 1 at
these words and 0 elsewhere. That gives the softmax over all keys without ever holding it. Heads are averaged and words
summed on the spot: what is kept is one number a cell and prompt.
"""

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ledits.cpu import kernels

_ATTENTION = (F.scaled_dot_product_attention, kernels.attention, torch.Tensor.softmax)


@dataclass(frozen=True)
class Layout:
    """Which queries of a layer are the picture's, which of its keys are the text's."""

    cells: int  # of the picture, row by row
    queries: int  # in all, of the layers that count
    image_at: int = 0
    text_at: int = 0
    # Where the picture alone asks, in a call of its own, and not about the text alone: tokens that it is told of.
    whole: int | None = None

    @property
    def to_text_alone(self) -> bool:
        return self.queries == self.cells and self.whole is None


class TokenMaps(TorchFunctionMode):
    """Attention of one pass of a network, summed over the wanted words, averaged over heads and layers.

    words (rows, tokens), on the CPU, are true for the tokens to sum.
    """

    def __init__(self, words: Tensor, layout: Layout, device: torch.device) -> None:
        super().__init__()
        self._layout, self._count, self._device = layout, len(words), device
        told = words.any(1).nonzero().flatten()
        self.empty = not len(told)
        # Both are copied to the device once: in every layer a GPU would have to wait for it.
        self._told, self._words = told.to(device), words[told].to(device, torch.float32)
        self._inside: Any = None  # the layer that is running, until its attention to text was heard
        self._listening = False
        self._parts: list[Tensor] = []  # of its probabilities, where it computes them itself
        self._sum: Tensor | None = None
        self._layers = 0

    def read(self) -> Tensor:
        """The maps (rows, cells), fp32; ValueError where no layer was heard."""
        cells = self._layout.cells
        if self._sum is None and not self.empty:
            raise ValueError(
                f"the network attends to text in no layer of {cells} cells that can be recorded, so it has no "
                "attention maps: use the mask rule 'noise' or 'none'; or, if you replaced its attention (by xFormers, "
                "flash or sage), put PyTorch's own back"
            )
        maps = torch.zeros(self._count, cells, device=self._device, dtype=torch.float32)
        if self._sum is not None:
            maps[self._told] = self._sum / self._layers
        return maps

    def enter(self, layer: nn.Module, picture: Any) -> None:
        """Listen inside `layer`, which is given `picture`, unless it works at another size.

        Hearing every call of a pass cost a third of a small network's edit.
        """
        layout = self._layout
        if isinstance(picture, Tensor) and picture.ndim == 3 and picture.shape[1] not in (
            layout.whole or layout.cells, layout.queries,
        ):  # fmt: skip
            return
        self._inside, self._parts = layer, []
        self._listen(True)

    def leave(self) -> None:
        self._inside = None
        self._listen(False)

    def _listen(self, on: bool) -> None:
        if on != self._listening:
            self._listening = on
            if on:
                self.__enter__()
            else:
                self.__exit__(None, None, None)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        # The first attention of a layer is to its text: an IP-adapter's pictures come after it.
        if func in _ATTENTION and self._inside is not None:
            with torch.autocast(self._device.type, enabled=False):
                if func is F.scaled_dot_product_attention:
                    self._fused(*args, **kwargs)
                elif func is kernels.attention:
                    self._packed(*args, **kwargs)
                else:
                    self._explicit(out)
        return out

    def _fused(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> None:  # fmt: skip
        """The arguments are those of PyTorch's function: q (rows, heads, queries, d), k (rows, heads', keys, d)."""
        if query.shape[2] != self._layout.queries or key.shape[2] != (self._layout.whole or key.shape[2]):
            return
        start, stop = self._layout.image_at, self._layout.image_at + self._layout.cells
        q, k = query[self._told, :, start:stop].float(), key[self._told].float()
        mask = attn_mask
        if mask is not None:
            mask = mask[self._told] if mask.shape[0] == len(query) else mask
            mask = mask[..., start:stop, :] if mask.shape[-2] == query.shape[2] else mask
            mask = mask if mask.dtype == torch.bool else mask.float()
        # As wide as q, for the kernels that never hold the probabilities need that.
        values = self._indicator(k.shape[2])[:, None, :, None].expand(*k.shape).contiguous()
        seen = F.scaled_dot_product_attention(q, k, values, mask, scale=scale, enable_gqa=enable_gqa)
        self._add(seen[..., 0].mean(1))

    def _packed(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> None:
        query, key = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k))
        self._fused(query, key, key)

    def _explicit(self, probabilities: Tensor) -> None:
        """Of processors that compute (rows * heads, queries, keys) themselves, at once or in slices of the first axis.

        Only layers with `heads` are known to do so.
        """
        whole = self._count * getattr(self._inside, "heads", 0)
        if probabilities.ndim != 3 or probabilities.shape[1] != self._layout.queries or not whole:
            return
        start, stop = self._layout.image_at, self._layout.image_at + self._layout.cells
        self._parts.append(probabilities[:, start:stop].float())
        if sum(map(len, self._parts)) == whole:
            each = torch.cat(self._parts).unflatten(0, (self._count, -1)).mean(1)[self._told]
            self._add(torch.einsum("rct,rt->rc", each, self._indicator(each.shape[2])))

    def _indicator(self, keys: int) -> Tensor:
        """1 at the keys (rows, keys) that are wanted words."""
        before = self._layout.text_at
        return F.pad(self._words, (before, keys - before - self._words.shape[1]))

    def _add(self, layer: Tensor) -> None:
        self._sum = layer if self._sum is None else self._sum + layer
        self._layers += 1
        self._inside = None


@contextmanager
def token_maps(
    net: nn.Module, layers: Sequence[str], words: Tensor, layout: Layout, device: torch.device
) -> Generator[TokenMaps]:
    """Record one pass of `net` inside the block, in `layers`, the names of attention modules; no trace stays after it.

    Passes of other threads are not recorded.
    """
    maps, owner = TokenMaps(words, layout, device), threading.get_ident()
    handles: list[torch.utils.hooks.RemovableHandle] = []

    def enter(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if threading.get_ident() == owner:
            maps.enter(layer, inputs[0] if inputs else named.get("hidden_states"))

    def leave(*_: object) -> None:
        if threading.get_ident() == owner:
            maps.leave()

    whole = getattr(net, "_orig_mod", net)  # what torch.compile wraps
    try:
        for name in () if maps.empty else layers:
            layer = whole.get_submodule(name)
            handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(layer.register_forward_hook(leave))
        yield maps
    finally:
        maps.leave()  # a layer that failed has not done it
        for handle in handles:
            handle.remove()
