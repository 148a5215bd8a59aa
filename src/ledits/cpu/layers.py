"""Single layers as an x86 CPU runs them best: weights laid out once, and what follows a product done in its pass.

Narrow layers and norms go to `kernels`, where a call costs little; wide ones to oneDNN, in its own layout; large 3x3
convolutions do less (`winograd`). The sums are torch's in another order, and those of products do not depend on how
many samples are in a batch.
"""

import threading
from abc import abstractmethod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ledits.cpu import kernels, winograd
from ledits.cpu.winograd import Winograd

# The operators that torch's own compiler uses; they take plain tensors beside weights in oneDNN's layout.
_MKLDNN = torch.ops.mkldnn
_UNARY = {"": ("none", [], ""), "gelu": ("gelu", [], "none")}
_BINARY = {"times": "mul", "plus": "add"}
_NARROW = 2**20  # weights; where there are more, or no narrow side, oneDNN is as fast or a tenth faster
_LAYING_OUT = threading.Lock()


class _Packed(nn.Module):
    """A layer that lays its weights out when it first sees an input, for the best layout depends on its size."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight: Tensor | None = _constant(weight)
        self.bias: Tensor | None = None if bias is None else _constant(bias)
        self.kernel: kernels.Layer | None = None
        self.narrow = min(weight.shape[:2]) <= 256 and weight.numel() <= _NARROW and kernels.supported(weight)
        self.ready = False

    def prepare(self, x: Tensor) -> None:
        if not self.ready:
            with _LAYING_OUT, torch.no_grad():
                if not self.ready:
                    self.lay_out(cast("Tensor", self.weight).detach(), x)
                    self.ready = True

    @abstractmethod
    def lay_out(self, weight: Tensor, x: Tensor) -> None: ...

    def _use(self, kernel: kernels.Layer) -> None:
        self.kernel, self.weight = kernel, _constant(kernel.weight)


class Linear(_Packed):
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        self.out_features, self.in_features = weight.shape  # diffusers' pipelines look at SDXL's

    def forward(self, x: Tensor, epilogue: str = "", operand: Tensor | None = None) -> Tensor:
        """The layer of x (... c), and what becomes of it: its "gelu", or it "times" or "plus" `operand` (... n)."""
        if self.kernel is not None:
            return self.kernel.rows(x, epilogue, operand)
        if not self.ready:
            self.prepare(x)
            return self(x, epilogue, operand)
        if operand is None:
            return _MKLDNN._linear_pointwise(x, self.weight, self.bias, *_UNARY[epilogue])
        return _MKLDNN._linear_pointwise.binary(x, operand, self.weight, self.bias, _BINARY[epilogue])

    def lay_out(self, weight: Tensor, x: Tensor) -> None:
        if self.narrow:
            self._use(kernels.Layer(weight, self.bias))
        else:
            # The layout for one row sums in another order; all others give the same bits, whatever came first.
            rows = max(2, x.numel() // x.shape[-1])
            self.weight = _constant(_MKLDNN._reorder_linear_weight(weight.contiguous(), rows))


class Conv2d(_Packed):
    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(layer.weight, layer.bias)
        pads = cast("tuple[int, int]", layer.padding)
        self.shape = (list(pads), list(layer.stride), list(layer.dilation), layer.groups)
        self.narrow &= pads[0] == pads[1] and layer.stride[0] == layer.stride[1] and self.shape[2:] == ([1, 1], 1)
        self.fewer: Winograd | None = None

    def forward(self, x: Tensor, sample_bias: Tensor | None = None) -> Tensor:
        """The convolution of x (b c h w), plus `sample_bias` (b n) at all places of a sample."""
        self.prepare(x)
        if self.kernel is not None:
            return self.kernel(rows(x), sample_bias=sample_bias).permute(0, 3, 1, 2)
        if self.fewer is not None:
            out = self.fewer(x)
        else:
            out = _MKLDNN._convolution_pointwise(x, self.weight, self.bias, *self.shape, "none", [], "")
        return out if sample_bias is None else out.add_(sample_bias[:, :, None, None])

    def onto(self, other: Tensor, x: Tensor, *, ours: bool) -> Tensor:
        """`other` plus this layer of x; `other` may be written over if it is `ours`."""
        self.prepare(x)
        if self.kernel is not None:
            return self.kernel(rows(x), "plus", operand=rows(other)).permute(0, 3, 1, 2)
        if self.fewer is not None:
            return self.fewer(x, other)
        operator = _MKLDNN._convolution_pointwise_ if ours else _MKLDNN._convolution_pointwise
        first, second = (other, x) if ours else (x, other)
        return operator.binary(first, second, self.weight, self.bias, *self.shape, "add", 1.0, None, [], None)

    def lay_out(self, weight: Tensor, x: Tensor) -> None:
        if weight.shape[2:] == (3, 3) and self.shape == ([1, 1], [1, 1], [1, 1], 1) and winograd.pays(weight, x):
            self.fewer, self.weight = Winograd(weight, self.bias), None
        elif self.narrow:
            self._use(kernels.Layer(weight, self.bias, stride=self.shape[1][0], pad=self.shape[0][0]))
        else:
            laid_out = torch.ops.aten.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), *self.shape, x.shape)
            self.weight = _constant(laid_out)


class GroupNorm(nn.Module):
    """A group norm by `kernels`, and SiLU where `active`."""

    def __init__(self, norm: nn.GroupNorm, *, active: bool = False) -> None:
        super().__init__()
        self.weight, self.bias = (_constant(t.float()) for t in (norm.weight, norm.bias))
        self.groups, self.eps, self.active = norm.num_groups, norm.eps, active

    def forward(self, x: Tensor) -> Tensor:
        """Of x (b c ...)."""
        rows = x.movedim(1, -1)
        return kernels.group_norm(rows, self.weight, self.bias, self.groups, self.eps, active=self.active).movedim(
            -1, 1
        )


class ActiveGroupNorm(nn.Module):
    """A group norm as torch has it, and SiLU in its place."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(x), inplace=True)


class LayerNorm(nn.Module):
    """A layer norm by `kernels`."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias = (_constant(t.float()) for t in (norm.weight, norm.bias))
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return kernels.layer_norm(x, self.weight, self.bias, self.eps)


def rows(x: Tensor) -> Tensor:
    """A picture (b c h w) as rows of channels (b h w c), which is how one in channels-last memory lies there."""
    return x.permute(0, 2, 3, 1)


def _constant(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach(), requires_grad=False)
