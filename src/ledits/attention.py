"""Where a prompt's words are: text cross-attention, recorded while the network runs as it always does.

Hooks listen to the query and key projections of the wanted layers, so every attention processor (fused, xFormers, LoRA,
IP-adapter) stays in place and computes the output; the map of the few wanted words is one small product beside it.
Heads are averaged and words summed on the spot: what is kept is one number a cell and prompt.
"""

import math
import threading
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class TokenMaps:
    """Attention of one forward pass, summed over the wanted words, averaged over heads and layers."""

    def __init__(self) -> None:
        self._words: Tensor | None = None
        self._told: list[int] = []  # the rows that have words
        self._cells = 0
        self._sum: Tensor | None = None
        self._layers = 0

    def begin(self, words: Tensor, cells: int) -> None:
        """Start recording: words (rows, tokens), on the CPU, are true for the tokens to sum; a layer of `cells` queries
        counts.
        """
        self._words, self._told = words, words.any(1).nonzero().flatten().tolist()
        self._cells, self._sum, self._layers = cells, None, 0

    def read(self, device: torch.device) -> Tensor:
        """The maps (rows, cells) of the pass since `begin`, on the device it ran on; recording ends."""
        words, self._words = self._words, None
        if words is None or (self._sum is None and self._told):
            raise ValueError(
                f"the network attends to text in no layer of {self._cells} cells, so it has no attention maps: "
                "use the mask rule 'noise' or 'none'"
            )
        maps = torch.zeros(len(words), self._cells, device=device)
        if self._sum is not None:
            maps[torch.tensor(self._told, device=device)] = self._sum / self._layers
        return maps

    def record(self, q: Tensor, k: Tensor, heads: int, scale: float) -> None:
        """Add one layer: q (rows, cells, heads * d), k (rows, tokens, heads * d)."""
        if self._words is None or q.shape[1] != self._cells or not self._told:
            return
        # What is where is decided on the CPU beforehand: asking the GPU for it here would make it wait at every layer.
        rows = torch.tensor(self._told, device=q.device)
        q, k = (v[rows].float().unflatten(-1, (heads, -1)).transpose(1, 2) for v in (q, k))
        # k may hold other keys behind the text's, an IP-adapter's for one: words are counted from the first.
        words = nn.functional.pad(self._words[self._told], (0, k.shape[2] - self._words.shape[1])).to(q)
        attention = (q @ k.transpose(2, 3) * scale).softmax(-1).mean(1)  # (rows, cells, tokens)
        layer = torch.einsum("rct,rt->rc", attention, words)
        self._sum = layer if self._sum is None else self._sum + layer
        self._layers += 1


@contextmanager
def token_maps(net: nn.Module) -> Generator[TokenMaps]:
    """Record the text attention of `net`'s down and up blocks inside the block, and leave no trace after it.

    The middle block is left out, as in the published code. Passes of other threads are not recorded.
    """
    maps, owner = TokenMaps(), threading.get_ident()
    handles: list[torch.utils.hooks.RemovableHandle] = []
    seen: dict[str, Tensor] = {}

    def keep(key: str):
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            if threading.get_ident() == owner:
                seen[key] = output

        return hook

    def finish(module: nn.Module, _inputs: object, _output: object) -> None:
        if threading.get_ident() == owner:
            heads, q = int(module.heads), seen.pop("q")  # pyright: ignore[reportArgumentType]
            maps.record(q, seen.pop("k"), heads, 1 / math.sqrt(q.shape[-1] / heads))

    try:
        for name, layer in getattr(net, "_orig_mod", net).named_modules():  # what torch.compile wraps
            if name.startswith(("down_blocks.", "up_blocks.")) and name.endswith(".attn2"):
                handles.append(layer.to_q.register_forward_hook(keep("q")))  # pyright: ignore[reportCallIssue, reportArgumentType, reportAttributeAccessIssue]
                handles.append(layer.to_k.register_forward_hook(keep("k")))  # pyright: ignore[reportCallIssue, reportArgumentType, reportAttributeAccessIssue]
                handles.append(layer.register_forward_hook(finish))
        yield maps
    finally:
        for handle in handles:
            handle.remove()
