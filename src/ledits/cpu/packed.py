"""A network's layers, gates, residual and transformer blocks as a CPU runs them best; see `layers`.

torch lays a layer's weights out anew at every call, gives fp32 products to a library that is slower on some processors,
and writes three more tensors for every gate and residual block, each of which the system has to clear first.
"""

import platform
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from ledits import cpu
from ledits.cpu import kernels
from ledits.cpu.layers import ActiveGroupNorm, Conv2d, GroupNorm, LayerNorm, Linear, rows
from ledits.cpu.winograd import Winograd


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether layers in this number format can be packed here; it was measured on x86 processors only. LEDITS_CPU can
    forbid it (`cpu.allowed`).
    """
    if (
        device.type != "cpu"
        or platform.machine() not in ("x86_64", "AMD64")
        or not torch.backends.mkldnn.is_available()
        or cpu.allowed() == "plain"
    ):
        return False
    if dtype == torch.bfloat16:
        # oneDNN has it from AVX-512 on; ATEN_CPU_CAPABILITY caps what PyTorch uses.
        capable = torch.backends.cpu.get_cpu_capability().startswith(("AVX512", "AMX"))
        return capable and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


def pack(net: nn.Module) -> None:
    """Replace the layers, gates, residual and transformer blocks of `net`, a UNet or an autoencoder, in place.

    What is left evaluates only: its weights can be neither saved nor trained, cast or moved, and a LoRA or an
    IP-Adapter has to be there before. Weights are laid out when the network first runs, and are then held once, but for
    those of enlargements; those of large 3x3 convolutions take 16/9 of their memory in fp32.

    What has an adapter (a LoRA), a hook or a forward of its own stays as it is, with all that it is part of. Where
    LEDITS_CPU is "plain" nothing is done.

    Raises ValueError for a device or a number format in which nothing is `available`.
    """
    if cpu.allowed() == "plain":
        return
    weight = next(net.parameters())
    if not available(weight.device, weight.dtype):
        kind = str(weight.dtype).removeprefix("torch.")
        raise ValueError(
            f"a network on {weight.device} in {kind} can't be packed: that is for x86 processors, in float32, or in "
            "bfloat16 where they have it"
        )
    _replace(net, kernels.available(weight.dtype))


def _replace(module: nn.Module, with_kernels: bool) -> None:
    for name, child in module.named_children():
        if hasattr(child, "base_layer"):  # peft's wrapper: it may be merged, scaled or taken off again
            continue
        if not all(map(_is_untouched, child.modules())):
            _replace(child, with_kernels)
            continue
        if type(child) is GEGLU and type(child.proj) is nn.Linear:
            packed = _Gate(child.proj)
        elif type(child) is ResnetBlock2D and _is_plain_residual(child):
            packed = _Residual(child)
        elif type(child) is Upsample2D and _doubles(child):
            packed = _Upsample(cast("nn.Conv2d", child.conv))
        elif type(child) is nn.Linear:
            packed = Linear(child.weight, child.bias)
        elif _is_plain_convolution(child):
            packed = Conv2d(cast("nn.Conv2d", child))
        elif with_kernels and type(child) is Transformer2DModel and _is_plain_transformer(child):
            packed = _Transformer(child)
        elif with_kernels and _is_plain_norm(child):
            packed = GroupNorm(cast("nn.GroupNorm", child))
        else:
            _replace(child, with_kernels)
            continue
        setattr(module, name, packed)


def _is_untouched(module: nn.Module) -> bool:
    """Whether it computes what its class says: somebody's hook or own forward would be lost in what replaces it."""
    hooks = module._forward_hooks, module._forward_pre_hooks  # pyright: ignore[reportPrivateUsage]
    return not any(hooks) and "forward" not in vars(module)


def _is_plain_convolution(layer: object) -> bool:
    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _is_plain_norm(layer: object) -> bool:
    return type(layer) is nn.GroupNorm and layer.affine


class _Gate(nn.Module):
    """GEGLU (Shazeer 2020): one half of a linear layer times the GELU of the other."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        biases = (None, None) if cast("Tensor | None", layer.bias) is None else layer.bias.chunk(2)
        self.value, self.gate = (Linear(*each) for each in zip(layer.weight.chunk(2), biases, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x, "times", self.gate(x, "gelu"))


class _Upsample(nn.Module):
    """A picture twice as large, each pixel four times, and a 3x3 convolution of it (SD's and its autoencoder's).

    The large picture in between is never made. Plain weights are kept too, for sizes that are not doubled.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.whole = Conv2d(layer)
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
    """A residual block: its last convolution adds onto the shortcut, time is added by its first."""

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        with_kernels = kernels.available(block.norm1.weight.dtype)
        self.norm1, self.norm2 = (
            GroupNorm(norm, active=True) if with_kernels else ActiveGroupNorm(norm)
            for norm in (block.norm1, block.norm2)
        )
        self.conv1, self.conv2 = Conv2d(block.conv1), Conv2d(block.conv2)
        time = block.time_emb_proj
        self.time = None if time is None else Linear(time.weight, time.bias)
        self.shortcut = None if block.conv_shortcut is None else Conv2d(block.conv_shortcut)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        time = None if self.time is None or temb is None else self.time(F.silu(temb))
        h = self.norm2(self.conv1(self.norm1(x), time))
        return self.conv2.onto(x if self.shortcut is None else self.shortcut(x), h, ours=self.shortcut is not None)


def _is_plain_residual(block: ResnetBlock2D) -> bool:
    """Whether it is what SD, SDXL and their autoencoders are made of: nothing resampled or scaled, time only added."""
    return (
        type(block.nonlinearity) is nn.SiLU
        and _is_plain_norm(block.norm1)
        and _is_plain_norm(block.norm2)
        and _is_plain_convolution(block.conv1)
        and _is_plain_convolution(block.conv2)
        and (block.conv_shortcut is None or _is_plain_convolution(block.conv_shortcut))
        and (block.time_emb_proj is None or type(block.time_emb_proj) is nn.Linear)
        and block.upsample is None
        and block.downsample is None
        and (block.time_embedding_norm == "default" or block.time_emb_proj is None)
        and not block.skip_time_act
        and block.output_scale_factor == 1
    )


class _Transformer(nn.Module):
    """Transformer blocks over the places of a picture, added to it."""

    def __init__(self, net: Transformer2DModel) -> None:
        super().__init__()
        self.norm = GroupNorm(net.norm)
        # A convolution of one pixel is a linear layer of each.
        self.proj_in, self.proj_out = (Linear(x.weight.flatten(1), x.bias) for x in (net.proj_in, net.proj_out))
        self.transformer_blocks = nn.ModuleList(_Block(block) for block in cast("list[Any]", net.transformer_blocks))

    def forward(
        self,
        x: Tensor,
        encoder_hidden_states: Tensor,
        cross_attention_kwargs: object = None,  # a LoRA's scale, which is part of the weights by now
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        if attention_mask is not None or encoder_attention_mask is not None:
            raise ValueError("a packed network attends to everything: no attention mask can be given")
        picture = rows(x)
        h = self.proj_in(rows(self.norm(x)).flatten(1, 2))
        for block in self.transformer_blocks:
            h = block(h, encoder_hidden_states)
        out = self.proj_out(h, "plus", picture.reshape(*h.shape[:2], x.shape[1]))
        return (out.view(picture.shape).permute(0, 3, 1, 2),)


class _Block(nn.Module):
    """Attention to the picture, then to the text, then a gated layer for each place; each is added to what came in."""

    def __init__(self, block: Any) -> None:  # diffusers declares what it may be beside a plain block's
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (LayerNorm(norm) for norm in (block.norm1, block.norm2, block.norm3))
        self.attn1, self.attn2 = _SelfAttention(block.attn1), _TextAttention(block.attn2)
        self.gate, self.out = _Gate(block.ff.net[0].proj), Linear(block.ff.net[2].weight, block.ff.net[2].bias)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        x = self.attn1(self.norm1(x), x)
        x = self.attn2(self.norm2(x), x, text)
        return self.out(self.gate(self.norm3(x)), "plus", x)


class _SelfAttention(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        weights = [each.weight for each in (layer.to_q, layer.to_k, layer.to_v)]
        self.heads, self.all = layer.heads, Linear(torch.cat(weights), None)
        self.out = Linear(layer.to_out[0].weight, layer.to_out[0].bias)

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        q, k, v = self.all(x).chunk(3, -1)
        return self.out(kernels.attention(q, k, v, self.heads), "plus", onto)


class _TextAttention(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (Linear(x.weight, None) for x in (layer.to_q, layer.to_k, layer.to_v))
        self.heads, self.out = layer.heads, Linear(layer.to_out[0].weight, layer.to_out[0].bias)

    def forward(self, x: Tensor, onto: Tensor, text: Tensor) -> Tensor:
        return self.out(kernels.attention(self.to_q(x), self.to_k(text), self.to_v(text), self.heads), "plus", onto)


def _is_plain_transformer(net: Transformer2DModel) -> bool:
    """Whether it is what the UNets of SD and SDXL are made of."""
    return (
        net.is_input_continuous
        and _is_plain_norm(net.norm)
        and all(type(layer) is nn.Linear or _is_pixelwise(layer) for layer in (net.proj_in, net.proj_out))
        and all(map(_is_plain_block, net.transformer_blocks))
    )


def _is_pixelwise(layer: Any) -> bool:
    """Whether it is a convolution of one pixel each, which is a linear layer."""
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.groups) if _is_plain_convolution(layer) else None
    return shape == ((1, 1), (1, 1), (0, 0), 1)


def _is_plain_block(block: Any) -> bool:
    return (
        type(block) is BasicTransformerBlock
        and block.norm_type == "layer_norm"
        and block.norm_elementwise_affine
        and block.pos_embed is None
        and not block.only_cross_attention
        and block.attn2 is not None
        and getattr(block, "fuser", None) is None
        and all(type(norm) is nn.LayerNorm for norm in (block.norm1, block.norm2, block.norm3))
        and type(block.ff.net[0]) is GEGLU
        and type(block.ff.net[0].proj) is nn.Linear
        and type(block.ff.net[2]) is nn.Linear
        and all(map(_is_plain_attention, (block.attn1, block.attn2)))
        and block.attn2.is_cross_attention
    )


def _is_plain_attention(layer: Any) -> bool:
    parts = (layer.to_q, layer.to_k, layer.to_v, layer.to_out[0])
    return (
        type(layer.processor) in (AttnProcessor, AttnProcessor2_0)
        and all(type(part) is nn.Linear for part in parts)
        and all(part.bias is None for part in parts[:3])
        and layer.norm_q is None
        and layer.norm_cross is None
        and layer.group_norm is None
        and layer.spatial_norm is None
        and layer.inner_dim == layer.inner_kv_dim
        and layer.inner_dim // layer.heads % 2 == 0
        and not layer.residual_connection
        and layer.rescale_output_factor == 1
        and layer.scale == (layer.inner_dim // layer.heads) ** -0.5
    )
