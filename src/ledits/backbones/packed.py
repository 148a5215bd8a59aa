"""Layers as a CPU runs them best: weights in oneDNN's own layout, gates and residual sums in one pass with a product.

torch lays a layer's weights out anew at every call, gives fp32 products to a library that is slower on some processors,
and writes three more tensors for every gate and residual block, each of which the system has to clear first. The sums
are the same, in another order, which no longer depends on how many samples are in a batch. Only large 3x3 convolutions,
and those after an enlargement, do less: see `winograd`.
"""

import platform
import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from ledits.backbones import winograd
from ledits.backbones.winograd import Winograd

# The operators that torch's own compiler uses; they take plain tensors beside weights in oneDNN's layout.
_MKLDNN = torch.ops.mkldnn
_LAYING_OUT = threading.Lock()


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether layers in this number format can be packed here; it was measured on x86 processors only."""
    if (
        device.type != "cpu"
        or platform.machine() not in ("x86_64", "AMD64")
        or not torch.backends.mkldnn.is_available()
    ):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and _MKLDNN._is_mkldnn_bf16_supported())


def pack(net: nn.Module) -> None:
    """Replace the layers, gates and residual blocks of `net`, a UNet or an autoencoder, in place.

    What is left evaluates only: its weights can be neither saved nor trained, cast or moved, and a LoRA has to be fused
    before. Weights are laid out when the network first runs, and are then held once, but for those of enlargements;
    those of large 3x3 convolutions take 16/9 of their memory in fp32.

    Raises ValueError for a device or a number format in which nothing is `available`.
    """
    weight = next(net.parameters())
    if not available(weight.device, weight.dtype):
        kind = str(weight.dtype).removeprefix("torch.")
        raise ValueError(
            f"a network on {weight.device} in {kind} can't be packed: that is for x86 processors, in float32, or in "
            "bfloat16 where they have it"
        )
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child) is GEGLU:
                setattr(module, name, _Gate(child.proj))
            elif type(child) is ResnetBlock2D and _is_plain(child):
                setattr(module, name, _Residual(child))
            elif type(child) is Upsample2D and _doubles(child):
                setattr(module, name, _Upsample(cast("nn.Conv2d", child.conv)))
            elif type(child) is nn.Linear:
                setattr(module, name, _Linear(child))
            elif type(child) is nn.Conv2d and child.padding_mode == "zeros" and not isinstance(child.padding, str):
                setattr(module, name, _Conv2d(child))


class _Packed(nn.Module):
    """A layer that lays its weights out when it first sees an input, for the best layout depends on its size."""

    ready = False

    def forward(self, x: Tensor) -> Tensor:
        self.prepare(x)
        return self.apply_to(x)

    def prepare(self, x: Tensor) -> None:
        if not self.ready:
            with _LAYING_OUT, torch.no_grad():
                if not self.ready:
                    self.lay_out(x)
                    self.ready = True

    @abstractmethod
    def lay_out(self, x: Tensor) -> None: ...

    @abstractmethod
    def apply_to(self, x: Tensor) -> Tensor: ...


class _Linear(_Packed):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def lay_out(self, x: Tensor) -> None:
        self.weight = _laid_out(self.weight, x)

    def apply_to(self, x: Tensor) -> Tensor:
        return _MKLDNN._linear_pointwise(x, self.weight, self.bias, "none", [], "")


class _Gate(_Packed):
    """GEGLU (Shazeer 2020): one half of a linear layer times the GELU of the other."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.gate = (_constant(half) for half in layer.weight.chunk(2))
        bias = cast("Tensor | None", layer.bias)
        halves = (None, None) if bias is None else bias.chunk(2)
        self.bias, self.gate_bias = (None if half is None else _constant(half) for half in halves)

    def lay_out(self, x: Tensor) -> None:
        self.weight, self.gate = _laid_out(self.weight, x), _laid_out(self.gate, x)

    def apply_to(self, x: Tensor) -> Tensor:
        gate = _MKLDNN._linear_pointwise(x, self.gate, self.gate_bias, "gelu", [], "none")
        return _MKLDNN._linear_pointwise.binary(x, gate, self.weight, self.bias, "mul")


class _Conv2d(_Packed):
    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = cast("Tensor | None", layer.weight), layer.bias
        self.shape = (list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups)
        self.fewer: Winograd | None = None

    def lay_out(self, x: Tensor) -> None:
        weight = cast("Tensor", self.weight).detach()
        if weight.shape[2:] == (3, 3) and self.shape == ([1, 1], [1, 1], [1, 1], 1) and winograd.pays(weight, x):
            self.fewer, self.weight = Winograd(weight, self.bias), None
        else:
            weight = weight.to_mkldnn()
            self.weight = _constant(torch.ops.aten.mkldnn_reorder_conv2d_weight(weight, *self.shape, x.shape))

    def apply_to(self, x: Tensor) -> Tensor:
        if self.fewer is not None:
            return self.fewer(x)
        return _MKLDNN._convolution_pointwise(x, self.weight, self.bias, *self.shape, "none", [], "")

    def added(self, x: Tensor, other: Tensor, ours: bool) -> Tensor:
        """This layer of x plus `other`, which may be written over if it is `ours`."""
        self.prepare(x)
        if self.fewer is not None:
            return self.fewer(x, other)
        operator = _MKLDNN._convolution_pointwise_ if ours else _MKLDNN._convolution_pointwise
        first, second = (other, x) if ours else (x, other)
        return operator.binary(first, second, self.weight, self.bias, *self.shape, "add", 1.0, None, [], None)


class _Upsample(nn.Module):
    """A picture twice as large, each pixel four times, and a 3x3 convolution of it (SD's and its autoencoder's).

    The large picture in between is never made. Plain weights are kept too, for sizes that are not doubled.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.whole = _Conv2d(layer)
        self.doubled = Winograd(layer.weight, layer.bias, doubled=True)

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        if output_size is not None and tuple(output_size) != (2 * x.shape[2], 2 * x.shape[3]):
            return self.whole(F.interpolate(x, size=tuple(output_size), mode="nearest"))
        return self.doubled(x)


def _doubles(block: Upsample2D) -> bool:
    """Whether it is a plain one, and wide enough for that to be faster."""
    layer = block.conv
    return (
        block.use_conv
        and block.interpolate
        and block.norm is None
        and block.name == "conv"
        and type(layer) is nn.Conv2d
        and (layer.kernel_size, layer.padding, layer.stride) == ((3, 3), (1, 1), (1, 1))
        and layer.groups == 1
        and layer.in_channels >= 256
    )


class _Residual(nn.Module):
    """A residual block: its last convolution adds onto the shortcut, activations happen in place."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.conv1, self.conv2 = _Conv2d(block.conv1), _Conv2d(block.conv2)
        self.time = None if block.time_emb_proj is None else _Linear(block.time_emb_proj)
        self.shortcut = None if block.conv_shortcut is None else _Conv2d(block.conv_shortcut)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        if self.time is not None and temb is not None:
            h += self.time(F.silu(temb))[:, :, None, None]
        h = F.silu(self.norm2(h), inplace=True)
        return self.conv2.added(h, x if self.shortcut is None else self.shortcut(x), self.shortcut is not None)


def _is_plain(block: ResnetBlock2D) -> bool:
    """Whether it is what SD, SDXL and their autoencoders are made of: nothing resampled or scaled, time only added."""
    return (
        type(block.nonlinearity) is nn.SiLU
        and block.upsample is None
        and block.downsample is None
        and (block.time_embedding_norm == "default" or block.time_emb_proj is None)
        and not block.skip_time_act
        and block.output_scale_factor == 1
    )


def _constant(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach(), requires_grad=False)


def _laid_out(weight: Tensor, x: Tensor) -> nn.Parameter:
    # The layout for one row sums in another order; all others give the same bits, whatever came first.
    rows = max(2, x.numel() // x.shape[-1])
    return _constant(_MKLDNN._reorder_linear_weight(weight.detach().contiguous(), rows))
