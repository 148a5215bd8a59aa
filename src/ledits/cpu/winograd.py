"""3x3 convolutions with fewer multiplications (Winograd's minimal filtering; Lavin and Gray 2016) on an x86 CPU.

Two neighbouring results of a filter (f0 f1 f2) over x0 x1 x2 x3 normally take six multiplications; four suffice:

    m0 = (x0 - x2) f0    m1 = (x1 + x2) (f0 + f1 + f2) / 2    m2 = (x2 - x1) (f0 - f1 + f2) / 2    m3 = (x3 - x1) f2
    y0 = m0 + (m1 + m2)                                        y1 = m3 + (m1 - m2)

After an upsampling that doubles every pixel, the two results over the old pixels x0 x1 x2 take three:

    m0 = (x0 - x1) f0    m1 = x1 (f0 + f1 + f2)                m2 = (x2 - x1) f2
    y0 = m0 + m1                                               y1 = m2 + m1

Along both sides that is 16 and 9 in place of 36 for four results, each a matrix multiplication. The result is that of
the direct convolution, with less rounding in fp32, because the sums are shorter, and twice as much in bfloat16.
"""

import math
import threading

import torch
from torch import Tensor, nn

_MKLDNN = torch.ops.mkldnn
_FILTERS = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_FILTERS_DOUBLED = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 1]])
_STRIP = 2**24  # bytes of inputs that are prepared at once: they stay in the processor's cache (of 32 MiB here)
_scratch = threading.local()


def pays(weight: Tensor, x: Tensor) -> bool:
    """Whether fewer products are faster for x (b c h w): matrices have to be large, and weights nearly double.

    On small grids weights are most of the memory and little of the time. In bfloat16 SD's UNet would be 6 % faster, and
    its rounding 1.4 times as large.
    """
    places = x.shape[2] * x.shape[3]
    return x.dtype == torch.float32 and places >= 256 and places * weight.shape[0] * weight.shape[1] >= 2**26


class Winograd(nn.Module):
    """A 3x3 convolution with stride and padding 1, `doubled`: of a picture in which every pixel is doubled first."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, doubled: bool = False) -> None:
        super().__init__()
        filters, self.doubled = _FILTERS_DOUBLED if doubled else _FILTERS, doubled
        self.side, self.step = len(filters), 1 if doubled else 2
        parts = torch.einsum("ax,ocxy,by->aboc", filters, weight.detach().float(), filters).to(weight.dtype)
        # Laid out for many rows at once, as there always are.
        parts = [_MKLDNN._reorder_linear_weight(part.contiguous(), 256) for part in parts.flatten(0, 1)]
        self.parts = nn.ParameterList(nn.Parameter(part, requires_grad=False) for part in parts)
        self.bias = bias

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The convolution of x (b c h w), onto `other` where it is given."""
        b, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1)
        rows, columns = math.ceil(h / self.step), math.ceil(w / self.step)
        out = x.new_empty(b, 2 * rows, 2 * columns, self.parts[0].shape[0])
        if other is not None:
            out[:, : other.shape[2], : other.shape[3]] = other.permute(0, 2, 3, 1)
        # As many whole pictures at a time as a strip holds, or as many of one's rows.
        held = max(1, _STRIP // (self.side**2 * columns * c * x.element_size()))
        pictures, height = max(1, held // rows), math.ceil(rows / math.ceil(rows / held))
        for k in range(0, b, pictures):
            for top in range(0, rows, height):
                part, below = slice(k, k + pictures), min(rows, top + height)
                results = out[part, 2 * top : 2 * below]
                self._strip(x[part], top, below, results, add=other is not None)
        if not self.doubled and (h % 2 or w % 2):
            out = out[:, :h, :w].contiguous()
        return out.permute(0, 3, 1, 2)

    def _strip(self, x: Tensor, top: int, below: int, out: Tensor, *, add: bool) -> None:
        """Results (b, 2 rows, 2 columns, o) of the rows `top` to `below`, of pairs or old pixels, of x (b h w c)."""
        v = self._mixed(x, top, below, out.shape[2] // 2)
        first, last = list[Tensor](), list[Tensor]()
        for j in range(self.side):
            upper, lower = self._inner(v, j)
            first.append(_MKLDNN._linear_pointwise.binary(v[0, j], upper, self._part(0, j), None, "add"))
            last.append(_MKLDNN._linear_pointwise.binary(v[-1, j], lower, self._part(-1, j), None, "add"))
        for i, m in enumerate((first, last)):
            for j, result in enumerate((m[0].add_(m[1]), m[-1].add_(m[1]))):
                if not self.doubled:
                    result.add_(m[2], alpha=1 - 2 * j)
                place = out[:, i::2, j::2]
                torch.add(place, result, out=place) if add else place.copy_(result)

    def _inner(self, v: Tensor, j: int) -> tuple[Tensor, Tensor]:
        """m1 + m2 and m1 - m2 of column j, or m1 twice; the bias belongs to what all four results are made of."""
        one = _MKLDNN._linear_pointwise(v[1, j], self._part(1, j), self.bias if j == 1 else None, "none", [], "")
        if self.doubled:
            return one, one
        two = _MKLDNN._linear_pointwise(v[2, j], self._part(2, j), None, "none", [], "")
        return one + two, one.sub_(two)

    def _part(self, i: int, j: int) -> Tensor:
        return self.parts[i % self.side * self.side + j]

    def _mixed(self, x: Tensor, top: int, below: int, columns: int) -> Tensor:
        """What the products are taken of, (side side b rows columns c): differences and sums along both sides."""
        (b, h, w, c), n, step = x.shape, self.side, self.step
        rows = below - top
        tall, wide = step * rows + 2, step * columns + 2
        framed, tall_mixed, mixed = _room(x, (b, tall, wide, c), (n, b, rows, wide, c), (n, n, b, rows, columns, c))
        start = step * top - 1
        inside = slice(max(0, start), min(h, start + tall))
        above = inside.start - start
        framed[:, :above].zero_()
        framed[:, above + inside.stop - inside.start :].zero_()
        framed[:, :, :1].zero_()
        framed[:, :, w + 1 :].zero_()
        framed[:, above : above + inside.stop - inside.start, 1 : w + 1] = x[:, inside]
        mix = _mix_doubled if self.doubled else _mix
        mix([framed[:, k : k + step * rows : step] for k in range(step + 2)], tall_mixed)
        mix([tall_mixed[:, :, :, k : k + step * columns : step] for k in range(step + 2)], mixed.transpose(0, 1))
        return mixed


def _mix(x: list[Tensor], out: Tensor) -> None:
    torch.sub(x[0], x[2], out=out[0])
    torch.add(x[1], x[2], out=out[1])
    torch.sub(x[2], x[1], out=out[2])
    torch.sub(x[3], x[1], out=out[3])


def _mix_doubled(x: list[Tensor], out: Tensor) -> None:
    torch.sub(x[0], x[1], out=out[0])
    out[1] = x[1]
    torch.sub(x[2], x[1], out=out[2])


def _room(x: Tensor, *shapes: tuple[int, ...]) -> list[Tensor]:
    """Room for tensors like x, the same at every call of a thread: the system would have to clear new memory."""
    sizes = [math.prod(shape) for shape in shapes]
    kept: Tensor | None = getattr(_scratch, "room", None)
    if kept is None or kept.dtype != x.dtype or kept.numel() < sum(sizes):
        with torch.inference_mode(False):  # or it could be written to in that mode only
            _scratch.room = kept = x.new_empty(sum(sizes))
    return [part.view(shape) for part, shape in zip(kept[: sum(sizes)].split(sizes), shapes, strict=True)]
