"""kernels.c, compiled when it is first needed and called on tensors: products, attention and norms.

PyTorch matches us on large calls, except attention, which runs at a quarter of what the processor does in bfloat16;
small calls spend most of their time on the call itself. The compiler is the system's and takes a second or two, once:
what it makes lies in the user's cache folder. Where there is none nothing here is `available`.
"""

import ctypes
import functools
import hashlib
import logging
import math
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from ctypes import c_float, c_long, c_void_p
from pathlib import Path

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from ledits import cpu

# As kernels.c has them: what becomes of a sum, input channels at most.
_EPILOGUES, _WIDEST = {"": 0, "gelu": 1, "times": 2, "plus": 3}, 2**14

_SOURCE = Path(__file__).with_name("kernels.c")
_FLAGS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared", "-fopenmp")
_SETS = {
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"),
    "AVX2": ("-mavx2", "-mfma"),
    "NEON": (),
}

logger = logging.getLogger(__name__)


def available(dtype: torch.dtype) -> bool:
    """Whether they run here: on Linux, with a C compiler, in float32 on a processor with AVX2, AVX-512 or NEON, and in
    bfloat16 with the instructions for it that came with AVX-512. LEDITS_CPU can forbid them (`cpu.allowed`).

    Where a processor has tiles for bfloat16 (AMX) PyTorch's layers use them, and are faster.
    """
    return cpu.allowed() == "kernels" and _library(dtype) is not None


def instructions() -> str:
    """The set of instructions that the kernels are compiled for: "AVX512", "AVX2", "NEON", or "" where they can't be.

    On x86 it is the one that PyTorch uses, so that its ATEN_CPU_CAPABILITY caps both.
    """
    if platform.system() != "Linux":
        return ""
    if platform.machine() == "aarch64":
        return "NEON"
    capability = torch.backends.cpu.get_cpu_capability()
    return capability if capability in _SETS else ""


def _has_bfloat16() -> bool:
    has_bf16, has_tiles = torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
    return has_bf16 and not has_tiles


class _Product(ctypes.Structure):
    _fields_ = [(name, c_void_p) for name in ("x", "w", "bias", "sample_bias", "operand", "out")] + [
        (name, c_long) for name in ("b", "h", "width", "c", "rows", "columns", "n", "side", "stride", "pad", "epilogue")
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
    """The compiled text for this dtype, from the cache if it is there; None where there can't be one, and a sentence
    where that is the compiler's or the folder's fault.
    """
    wanted = instructions()
    if not wanted or not (dtype == torch.float32 or (dtype == torch.bfloat16 and wanted == "AVX512")):
        return None
    flags = (*_FLAGS, *_SETS[wanted])
    if dtype == torch.bfloat16:
        if not _has_bfloat16():
            return None
        flags = (*flags, "-DBF16=1", "-mavx512bf16")
    try:
        name = f"kernels-{hashlib.sha256(_SOURCE.read_bytes() + ' '.join(flags).encode()).hexdigest()[:16]}.so"
        folder = _folder()
        try:
            if folder is not None:
                return _opened(folder / name)
        except (OSError, AttributeError, ValueError):  # not there, or broken: compiled anew
            pass
        with tempfile.TemporaryDirectory(dir=folder) as made:
            out = Path(made) / name
            _compile(flags, out)
            out.chmod(0o700)
            library = _opened(out)  # before others may find it
            if folder is not None:
                out.replace(folder / name)
        return library
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode(errors="replace")
        lines = said.decode(errors="replace").strip().splitlines() or [type(error).__name__]
        logger.warning("layers run as PyTorch has them, which is slower: %s", lines[0])
        return None


def _folder() -> Path | None:
    """Where compiled text is kept for the next process; None where there is no place that is the user's alone."""
    try:
        given = Path(os.environ.get("XDG_CACHE_HOME") or "")
        folder = (given if given.is_absolute() else Path.home() / ".cache") / "ledits"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(folder.lstat())
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(f"{folder} can't be written to")
    except (OSError, RuntimeError) as error:  # a RuntimeError where a user has no home
        logger.warning("kernels are compiled for this process alone: %s", error)
        return None
    return folder


def _check_owner(found: os.stat_result) -> None:
    """Raise OSError for what somebody else owns or can write to: its code would run as ours."""
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or stat.S_ISLNK(found.st_mode):
        raise OSError("the cache folder ledits, or a file in it, is not the user's alone: its mode should be 700")


def _compile(flags: tuple[str, ...], out: Path) -> None:
    compiler = shlex.split(os.environ.get("CC") or "")
    if not compiler:
        found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if found is None:
            raise OSError("there is no C compiler")
        compiler = [found]
    subprocess.run(
        [*compiler, *flags, str(_SOURCE), "-o", str(out), "-lm"], check=True, capture_output=True, timeout=120
    )


def _opened(path: Path) -> ctypes.CDLL:
    """The library in this file. Raises OSError where it is not ours, and AttributeError or ValueError where it lacks
    something.
    """
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        _check_owner(os.fstat(file))
        # What was checked, whatever has the name by now. The file stays open: another library under the same number
        # would be taken for this one.
        library = ctypes.CDLL(f"/proc/self/fd/{file}")
    except OSError:
        os.close(file)
        raise
    pointers, sizes = [c_void_p] * 4, [c_long] * 4
    library.product.argtypes = [ctypes.POINTER(_Product)]
    library.attention.argtypes = [ctypes.POINTER(_Attention)]
    library.group_norm.argtypes = [*pointers, *sizes, c_float, c_long]
    library.layer_norm.argtypes = [*pointers, *sizes[:2], c_float]
    _panel(library)
    return library


def _panel(library: ctypes.CDLL) -> int:
    """Outputs in a panel of weights, as this library takes them."""
    return c_long.in_dll(library, "panel_width").value


def _loaded(dtype: torch.dtype) -> ctypes.CDLL:
    if (library := _library(dtype)) is None:
        raise ValueError(f"there are no kernels for {dtype} here: see kernels.available")
    return library


def _run(name: str, dtype: torch.dtype, *given: object) -> None:
    if getattr(_loaded(dtype), name)(*given):
        raise MemoryError(f"{name}: not enough memory")


class Layer:
    """A convolution, with weight (n c side side), or a linear layer (n c): laid out here, called on rows of channels.

    The bias (n) is added in float32. Raises ValueError for weights that are not `supported`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, stride: int = 1, pad: int = 0) -> None:
        if not supported(weight):
            raise ValueError(f"weights {tuple(weight.shape)} in {weight.dtype} on {weight.device} are not supported")
        self.n, self.stride, self.pad, self.side = len(weight), stride, pad, weight.shape[2] if weight.ndim == 4 else 1
        if bias is not None and (bias.shape != (self.n,) or not bias.is_cpu):
            raise ValueError(f"a bias {tuple(bias.shape)} on {bias.device} for {self.n} outputs on the CPU")
        library = _loaded(weight.dtype)
        self.weight = _laid_out(weight.detach(), _panel(library))
        self.bias = None if bias is None else bias.detach().float().contiguous()
        self._product = library.product
        self.c, bias_at = weight.shape[1], None if self.bias is None else self.bias.data_ptr()
        self._described = _Product(w=self.weight.data_ptr(), bias=bias_at, c=self.c, n=self.n, side=self.side)
        self._described.stride, self._described.pad = stride, pad

    def rows(self, x: Tensor, epilogue: str = "", operand: Tensor | None = None) -> Tensor:
        """The linear layer (... n) of x (... c), and what becomes of it; see `__call__`."""
        count = x.numel() // max(1, x.shape[-1])
        out = x.new_empty(*x.shape[:-1], self.n)
        return self._run(x, out, (1, 1, count), (1, count), epilogue, None, operand)

    def __call__(
        self, x: Tensor, epilogue: str = "", *, sample_bias: Tensor | None = None, operand: Tensor | None = None
    ) -> Tensor:
        """The convolution (b rows columns n) of x (b h w c), plus `sample_bias` (b n) at all places of a sample.

        `epilogue` is what becomes of a result: its "gelu", or it "times" or "plus" what `operand`, as large as the
        output, has in its place.
        """
        b, h, w, _ = x.shape
        rows, columns = ((size + 2 * self.pad - self.side) // self.stride + 1 for size in (h, w))
        out = x.new_empty(b, max(0, rows), max(0, columns), self.n)
        return self._run(x, out, (b, h, w), (rows, columns), epilogue, sample_bias, operand)

    def _run(
        self, x: Tensor, out: Tensor, size: tuple[int, int, int], places: tuple[int, int], epilogue: str,
        sample_bias: Tensor | None, operand: Tensor | None,
    ) -> Tensor:  # fmt: skip
        # A kernel would read on beyond what it is given.
        if x.shape[-1] != self.c or x.dtype != self.weight.dtype or not x.is_cpu:
            raise ValueError(
                f"a layer of {self.c} channels in {self.weight.dtype} on the CPU was given {tuple(x.shape)} in "
                f"{x.dtype} on {x.device}"
            )
        for given, shape in ((operand, out.shape), (sample_bias, (size[0], self.n))):
            if given is not None and (given.shape != shape or given.dtype != x.dtype or not given.is_cpu):
                raise ValueError(
                    f"{tuple(given.shape)} in {given.dtype} on {given.device} where {tuple(shape)} in {x.dtype} on "
                    "the CPU is needed"
                )
        if epilogue in ("times", "plus") and operand is None:
            raise ValueError(f"{epilogue!r} needs an operand")
        if not out.numel():
            return out
        p, x = _Product.from_buffer_copy(self._described), x.contiguous()
        p.x, p.out, p.epilogue = x.data_ptr(), out.data_ptr(), _EPILOGUES[epilogue]
        (p.b, p.h, p.width), (p.rows, p.columns) = size, places
        if sample_bias is not None:
            sample_bias = sample_bias.contiguous()
            p.sample_bias = sample_bias.data_ptr()
        if operand is not None:
            operand = operand.contiguous()
            p.operand = operand.data_ptr()
        if self._product(p):
            raise MemoryError("product: not enough memory")
        return out


def supported(weight: Tensor) -> bool:
    """Whether a `Layer` can have these weights: rows of whole units of 32 bits, not too many channels."""
    if weight.ndim not in (2, 4) or not weight.is_cpu or not weight.numel():
        return False
    c = weight.shape[1]
    square = weight.ndim == 2 or weight.shape[2] == weight.shape[3]
    return square and c * weight.element_size() % 4 == 0 and c <= _WIDEST and available(weight.dtype)


def _laid_out(weight: Tensor, panel: int) -> Tensor:
    """(panels side side c/PER panel PER), padded with zeros, where a cache line begins."""
    n, c, panels, per = *weight.shape[:2], math.ceil(len(weight) / panel), 4 // weight.element_size()
    rows = torch.cat([weight.reshape(n, -1), weight.new_zeros(panels * panel - n, weight[0].numel())])
    parts = rows.view(panels, panel, c // per, per, -1).permute(0, 4, 2, 1, 3)
    room = weight.new_empty(parts.numel() + 64)
    start = -room.data_ptr() % 64 // room.element_size()
    out = room[start : start + parts.numel()]
    out.view(parts.shape).copy_(parts)
    return out


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention (b n c) of q (b n c) to k and v (b m c), in `heads` parts of c, of an even size in bfloat16."""
    if has_torch_function((q, k, v)):  # whoever listens to attention hears of this one too
        return handle_torch_function(attention, (q, k, v), q, k, v, heads)
    if q.ndim != 3 or k.ndim != 3 or heads < 1:
        raise ValueError(f"attention of {tuple(q.shape)} to {tuple(k.shape)} in {heads} heads")
    (b, n, c), m = q.shape, k.shape[1]
    if k.shape != (b, m, c) or v.shape != k.shape or not q.dtype == k.dtype == v.dtype or not m:
        raise ValueError(f"attention of {tuple(q.shape)} to {tuple(k.shape)} and {tuple(v.shape)}")
    if not (q.is_cpu and k.is_cpu and v.is_cpu):
        raise ValueError(f"attention of {q.device} to {k.device} and {v.device}: all have to be on the CPU")
    d = c // heads
    if d * heads != c or d * q.element_size() % 4 or not c:
        raise ValueError(f"{c} channels in {heads} heads: whole ones are needed, in bfloat16 of an even size")
    q, k, v = (t if t.stride(2) == 1 else t.contiguous() for t in (q, k, v))
    out = q.new_empty(b, n, c)
    strides = [t.stride(axis) for t in (q, k, v) for axis in (0, 1)]
    described = _Attention(*(t.data_ptr() for t in (q, k, v, out)), b, heads, n, m, d, *strides, d**-0.5)
    _run("attention", q.dtype, described)
    return out


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, *, active: bool = False) -> Tensor:
    """Group norm over x (b ... c), then SiLU where `active`; weight and bias (c) are in float32."""
    x, weight, bias = _of_channels(x, weight, bias)
    b, c, out = x.shape[0], x.shape[-1], torch.empty_like(x)
    if groups < 1 or c % groups:
        raise ValueError(f"{c} channels in {groups} groups")
    pointers = (t.data_ptr() for t in (x, out, weight, bias))
    if x.numel():
        _run("group_norm", x.dtype, *pointers, b, x.numel() // (b * c), c, groups, eps, active)
    return out


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer norm over the last axis of x (... c); weight and bias (c) are in float32."""
    x, weight, bias = _of_channels(x, weight, bias)
    c, out = x.shape[-1], torch.empty_like(x)
    pointers = (t.data_ptr() for t in (x, out, weight, bias))
    if x.numel():
        _run("layer_norm", x.dtype, *pointers, x.numel() // c, c, eps)
    return out


def _of_channels(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All contiguous; ValueError where weight and bias are not one number in float32 for each of x's channels."""
    if not x.shape[-1:] == weight.shape == bias.shape or not weight.dtype == bias.dtype == torch.float32:
        raise ValueError(f"a norm of {tuple(weight.shape)} channels in {weight.dtype} was given {tuple(x.shape)}")
    if not (x.is_cpu and weight.is_cpu and bias.is_cpu):
        raise ValueError(f"a norm on {weight.device} of {x.device}: both have to be on the CPU")
    return x.contiguous(), weight.contiguous(), bias.contiguous()
