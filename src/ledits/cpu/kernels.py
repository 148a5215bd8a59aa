"""kernels.c, compiled when it is first needed and called on tensors: products, attention and norms on AVX-512.

torch's own are as fast where a call is long, but for attention, which runs at a quarter of what the processor does in
bfloat16; where it is short most of its time is the call. The compiler is the system's and takes half a second, once:
what it makes lies in the user's cache folder. Where there is none nothing here is `available`.
"""

import ctypes
import functools
import hashlib
import logging
import math
import os
import platform
import shutil
import subprocess
import tempfile
from ctypes import c_float, c_long, c_void_p
from pathlib import Path

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

# As kernels.c has them: what becomes of a sum, outputs in a panel of weights, input channels at most.
_THEN, _PANEL, _WIDEST = {"": 0, "gelu": 1, "times": 2, "plus": 3}, 64, 2**14

_SOURCE = Path(__file__).with_name("kernels.c")
_FLAGS = (
    *("-O3", "-fno-math-errno", "-fPIC", "-shared", "-fopenmp"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"),
)

logger = logging.getLogger(__name__)


def available(dtype: torch.dtype) -> bool:
    """Whether they run here: an x86 processor with AVX-512, its bfloat16 for that, and a C compiler.

    Where a processor has tiles for bfloat16 (AMX) torch's layers use them, and are faster.
    """
    if platform.system() != "Linux" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    if dtype == torch.bfloat16:
        has_bf16, has_tiles = torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
        if not has_bf16 or has_tiles:
            return False
    elif dtype != torch.float32:
        return False
    return _library(dtype) is not None


class _Product(ctypes.Structure):
    _fields_ = [(name, c_void_p) for name in ("x", "w", "bias", "each", "other", "out")] + [
        (name, c_long) for name in ("b", "h", "width", "c", "rows", "columns", "n", "side", "stride", "pad", "then")
    ]


class _Attention(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("q", "k", "v", "out")),
        *((name, c_long) for name in ("b", "heads", "n", "m", "d")),
        *((f"{name}_{kind}", c_long) for name in "qkv" for kind in ("sample", "row")),
        ("scale", c_float),
    ]


@functools.cache
def _library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled text for this dtype, from the cache if it is there; None, and a sentence, where it can't be had."""
    flags = [*_FLAGS, "-DBF16=1", "-mavx512bf16"] if dtype == torch.bfloat16 else _FLAGS
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    name = hashlib.sha256(_SOURCE.read_bytes() + " ".join(flags).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ledits"
    path = folder / f"kernels-{name}.so"
    try:
        if not path.exists():
            if compiler is None:
                raise OSError("there is no C compiler")
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as made:
                out = Path(made) / path.name
                command = [*compiler.split(), *flags, str(_SOURCE), "-o", str(out), "-lm"]
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
                out.replace(path)
        library = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        logger.warning("layers run as torch has them, which is slower: %s", said[0] if said else "cc failed")
        return None
    pointers, sizes = [c_void_p] * 4, [c_long] * 4
    library.product.argtypes = [ctypes.POINTER(_Product)]
    library.attention.argtypes = [ctypes.POINTER(_Attention)]
    library.group_norm.argtypes = [*pointers, *sizes, c_float, c_long]
    library.layer_norm.argtypes = [*pointers, *sizes[:2], c_float]
    return library


def _run(name: str, dtype: torch.dtype, *given: object) -> None:
    if getattr(_library(dtype), name)(*given):
        raise MemoryError(f"{name}: not enough memory")


class Layer:
    """A convolution, with weight (n c side side), or a linear layer (n c): laid out here, called on rows of channels.

    The bias (n) is added in float32. Raises ValueError for weights that do not fit, see `fits`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, stride: int = 1, pad: int = 0) -> None:
        if not fits(weight):
            raise ValueError(f"weights {tuple(weight.shape)} in {weight.dtype} don't fit: see kernels.fits")
        self.weight, self.bias = _laid_out(weight.detach()), None if bias is None else bias.detach().float()
        self.n, self.stride, self.pad, self.side = len(weight), stride, pad, weight.shape[2] if weight.ndim == 4 else 1
        self._product = getattr(_library(weight.dtype), "product")  # noqa: B009
        self.c, bias_at = weight.shape[1], None if self.bias is None else self.bias.data_ptr()
        self._described = _Product(w=self.weight.data_ptr(), bias=bias_at, c=self.c, n=self.n, side=self.side)
        self._described.stride, self._described.pad = stride, pad

    def rows(self, x: Tensor, then: str = "", other: Tensor | None = None) -> Tensor:
        """The linear layer (... n) of x (... c), and what becomes of it; see `__call__`."""
        count = x.numel() // x.shape[-1]
        return self._run(x, x.new_empty(*x.shape[:-1], self.n), (1, 1, count), (1, count), then, None, other)

    def __call__(self, x: Tensor, then: str = "", *, each: Tensor | None = None, other: Tensor | None = None) -> Tensor:
        """The convolution (b rows columns n) of x (b h w c), plus `each` (b n) at all places of a sample.

        `then` is what becomes of a result: its "gelu", or it "times" or "plus" what `other`, as large as the
        output, has in its place.
        """
        b, h, w, _ = x.shape
        rows, columns = ((size + 2 * self.pad - self.side) // self.stride + 1 for size in (h, w))
        return self._run(x, x.new_empty(b, rows, columns, self.n), (b, h, w), (rows, columns), then, each, other)

    def _run(
        self, x: Tensor, out: Tensor, size: tuple[int, int, int], places: tuple[int, int], then: str,
        each: Tensor | None, other: Tensor | None,
    ) -> Tensor:  # fmt: skip
        # A kernel would read on beyond what it is given.
        if x.shape[-1] != self.c or x.dtype != self.weight.dtype:
            raise ValueError(
                f"a layer of {self.c} channels in {self.weight.dtype} was given {tuple(x.shape)} in {x.dtype}"
            )
        for given, shape in ((other, out.shape), (each, (size[0], self.n))):
            if given is not None and (given.shape != shape or given.dtype != x.dtype):
                raise ValueError(f"{tuple(given.shape)} in {given.dtype} where {tuple(shape)} in {x.dtype} is needed")
        p, x = _Product.from_buffer_copy(self._described), x.contiguous()
        p.x, p.out, p.then = x.data_ptr(), out.data_ptr(), _THEN[then]
        (p.b, p.h, p.width), (p.rows, p.columns) = size, places
        if each is not None:
            each = each.contiguous()
            p.each = each.data_ptr()
        if other is not None:
            other = other.contiguous()
            p.other = other.data_ptr()
        self._product(p)
        return out


def fits(weight: Tensor) -> bool:
    """Whether a `Layer` can have these weights: rows of whole units of 32 bits, not too many channels."""
    c = weight.shape[1]
    square = weight.ndim == 2 or weight.shape[2] == weight.shape[3]
    return square and c * weight.element_size() % 4 == 0 and c <= _WIDEST and available(weight.dtype)


def _laid_out(weight: Tensor) -> Tensor:
    """(panels side side c/PER 64 PER), padded with zeros, where a cache line begins."""
    n, c, panels, per = *weight.shape[:2], math.ceil(len(weight) / _PANEL), 4 // weight.element_size()
    rows = torch.cat([weight.reshape(n, -1), weight.new_zeros(panels * _PANEL - n, weight[0].numel())])
    parts = rows.view(panels, _PANEL, c // per, per, -1).permute(0, 4, 2, 1, 3)
    room = weight.new_empty(parts.numel() + 64)
    start = -room.data_ptr() % 64 // room.element_size()
    out = room[start : start + parts.numel()]
    out.view(parts.shape).copy_(parts)
    return out


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention (b n c) of q (b n c) to k and v (b m c), in `heads` parts of c, of an even size in bfloat16."""
    if has_torch_function((q, k, v)):  # whoever listens to attention hears of this one too
        return handle_torch_function(attention, (q, k, v), q, k, v, heads)
    (b, n, c), m = q.shape, k.shape[1]
    if k.shape != (b, m, c) or v.shape != k.shape or not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"attention of {tuple(q.shape)} to {tuple(k.shape)} and {tuple(v.shape)}")
    q, k, v = (t if t.stride(2) == 1 else t.contiguous() for t in (q, k, v))
    out, d = q.new_empty(b, n, c), c // heads
    strides = [t.stride(axis) for t in (q, k, v) for axis in (0, 1)]
    described = _Attention(*(t.data_ptr() for t in (q, k, v, out)), b, heads, n, m, d, *strides, d**-0.5)
    _run("attention", q.dtype, described)
    return out


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, *, active: bool = False) -> Tensor:
    """Group norm over x (b ... c), then SiLU where `active`; weight and bias (c) are in float32."""
    x, b, c = _of_channels(x, weight, bias), x.shape[0], x.shape[-1]
    out = torch.empty_like(x)
    pointers = (t.data_ptr() for t in (x, out, weight, bias))
    _run("group_norm", x.dtype, *pointers, b, x.numel() // (b * c), c, groups, eps, active)
    return out


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer norm over the last axis of x (... c); weight and bias (c) are in float32."""
    x, c = _of_channels(x, weight, bias), x.shape[-1]
    out = torch.empty_like(x)
    pointers = (t.data_ptr() for t in (x, out, weight, bias))
    _run("layer_norm", x.dtype, *pointers, x.numel() // c, c, eps)
    return out


def _of_channels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x contiguous; ValueError where weight and bias are not one number in float32 for each of its channels."""
    if not x.shape[-1:] == weight.shape == bias.shape or not weight.dtype == bias.dtype == torch.float32:
        raise ValueError(f"a norm of {tuple(weight.shape)} channels in {weight.dtype} was given {tuple(x.shape)}")
    return x.contiguous()
