"""kernels.c gives what torch gives in float64, for every size, and its absence costs speed alone."""

import logging
import math
import os
import platform
import re
import shutil
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from ledits.cpu import kernels

from conftest import relative

pytestmark = pytest.mark.usefixtures("several_threads")
BOUND = {torch.float32: 2e-6, torch.bfloat16: 4e-3}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """What is compiled here stays here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
    kernels._library.cache_clear()


@pytest.fixture(params=["float32", "float32 on AVX2", "float32 on four lanes", "bfloat16"])
def dtype(request, monkeypatch):
    """Every form of the text that this processor can run: its own vectors, narrower ones, pairs of bfloat16."""
    kind, _, narrower = request.param.partition(" on ")
    if narrower == "AVX2" and kernels.instructions() != "AVX512":
        pytest.skip("AVX2 is this processor's widest, or it has none: nothing narrower to compile for")
    if narrower and platform.machine() != "x86_64":
        pytest.skip("four lanes are what this processor has anyway")
    if narrower:  # without flags of its own, an x86 compiler makes the form for NEON from generic vectors
        monkeypatch.setattr(kernels, "instructions", lambda: "AVX2" if narrower == "AVX2" else "NEON")
    monkeypatch.setenv("LEDITS_CPU", "kernels")
    kernels._library.cache_clear()
    if not kernels.available(getattr(torch, kind)):
        pytest.skip(f"no kernels for {kind} on this processor, or no compiler")
    torch.manual_seed(0)
    yield getattr(torch, kind)
    kernels._library.cache_clear()


def after(value, then, other):
    match then:
        case "gelu":
            return F.gelu(value)
        case "times":
            return value * other
        case "plus":
            return value + other
    return value


@pytest.mark.parametrize("then", ["", "gelu", "times", "plus"])
@pytest.mark.parametrize(
    ("b", "h", "w", "c", "n", "side", "stride", "pad"),
    [
        (2, 16, 14, 8, 64, 3, 1, 1),  # whole panels and tiles
        (3, 9, 7, 20, 70, 3, 2, 1),  # neither
        (1, 5, 5, 64, 8, 3, 1, 1),  # fewer outputs than one panel
        (2, 8, 8, 16, 16, 3, 2, 0),  # an encoder's way down
        (1, 30, 40, 2, 65, 1, 1, 0),  # more inputs than weights
        (1, 1, 1, 130, 300, 1, 1, 0),  # one row
    ],
)
def test_a_layer_is_torchs(b, h, w, c, n, side, stride, pad, then, dtype):
    x, weight = torch.randn(b, h, w, c).to(dtype), torch.randn(n, c, side, side).div(math.sqrt(c) * side).to(dtype)
    bias, each = torch.randn(n).to(dtype), torch.randn(b, n).to(dtype)
    expected = F.conv2d(x.double().permute(0, 3, 1, 2), weight.double(), bias.double(), stride=stride, padding=pad)
    expected = (expected + each.double()[:, :, None, None]).permute(0, 2, 3, 1)
    other = torch.randn(expected.shape).to(dtype)
    found = kernels.Layer(weight, bias, stride=stride, pad=pad)(x, then, sample_bias=each, operand=other)
    assert found.shape == expected.shape
    assert relative(found.double(), after(expected, then, other.double())) < BOUND[dtype]


def test_a_linear_layer_of_any_rows(dtype):
    x, weight = torch.randn(2, 3, 5, 32).to(dtype), torch.randn(48, 32).to(dtype) / 6
    found = kernels.Layer(weight, None).rows(x[:, ::2])
    assert relative(found.double(), x[:, ::2].double() @ weight.double().T) < BOUND[dtype]


@pytest.mark.parametrize(
    ("b", "n", "m", "heads", "d"),
    [(2, 64, 64, 4, 16), (3, 50, 70, 2, 40), (1, 33, 7, 3, 6), (1, 1, 1, 1, 2), (1, 100, 49, 1, 170)],
)
def test_attention_is_torchs(b, n, m, heads, d, dtype):
    q, k, v = (torch.randn(b, size, heads * d).to(dtype) * scale for size, scale in ((n, 4), (m, 1), (m, 1)))
    q, k, v = (torch.cat([t, t], 2)[..., : heads * d] for t in (q, k, v))  # with strides, as parts of one product
    apart = [t.double().unflatten(2, (heads, d)).transpose(1, 2) for t in (q, k, v)]
    expected = F.scaled_dot_product_attention(*apart).transpose(1, 2).flatten(2)
    assert relative(kernels.attention(q, k, v, heads).double(), expected) < BOUND[dtype]


def test_attention_to_scores_far_apart(dtype):
    """Keys in rising order, so that every block's highest score is above all before: sums must not overflow or fade."""
    k = torch.linspace(-300, 300, 200)[None, :, None].expand(1, 200, 8).to(dtype)
    v, q = torch.randn(1, 200, 8).to(dtype), torch.ones(1, 40, 8).to(dtype)
    expected = F.scaled_dot_product_attention(*(t.double()[:, None] for t in (q, k, v)))[:, 0]
    assert relative(kernels.attention(q, k, v, 1).double(), expected) < BOUND[dtype]


def test_what_is_not_a_number_shows(dtype):
    q, k = torch.randn(1, 40, 8).to(dtype), torch.randn(1, 50, 8).to(dtype)
    q[0, 3, 2] = torch.nan
    found = kernels.attention(q, k, k, 2).isnan()
    assert found[0, 3, :4].all()
    assert found.sum() == 4  # of the one head and query


@pytest.mark.parametrize(
    ("c", "groups", "size"), [(64, 16, (16, 16)), (30, 3, (7, 1)), (96, 8, (1000,)), (20, 20, (3,))]
)
def test_norms_are_torchs(c, groups, size, dtype):
    """Far from zero too, where the mean of squares less the square of the mean would lose everything."""
    x, weight, bias = torch.randn(2, *size, c).mul(3).add(50).to(dtype), torch.randn(c), torch.randn(c)
    wide, rows = (weight.double(), bias.double()), x.double().movedim(-1, 1)
    expected = F.group_norm(rows, groups, *wide, 1e-5).movedim(1, -1)
    assert relative(kernels.group_norm(x, weight, bias, groups, 1e-5).double(), expected) < 5 * BOUND[dtype]
    active = kernels.group_norm(x, weight, bias, groups, 1e-5, active=True)
    assert relative(active.double(), F.silu(expected)) < 5 * BOUND[dtype]
    expected = F.layer_norm(x.double(), (c,), *wide, 1e-5)
    assert relative(kernels.layer_norm(x, weight, bias, 1e-5).double(), expected) < 5 * BOUND[dtype]


def test_no_bit_depends_on_the_batch(dtype):
    x, q = torch.randn(5, 6, 7, 32).to(dtype), torch.randn(5, 42, 32).to(dtype)
    layer, weight = kernels.Layer(torch.randn(40, 32, 3, 3).to(dtype), None, pad=1), torch.ones(32)
    for run in (
        layer,
        lambda x: kernels.attention(q[: len(x)], q[: len(x)], q[: len(x)], 4),
        lambda x: kernels.group_norm(x, weight, weight, 4, 1e-5),
        lambda x: kernels.layer_norm(x, weight, weight, 1e-5),
    ):
        assert torch.equal(run(x)[:2], run(x[:2]))


def test_what_does_not_fit_is_said(dtype):
    assert not kernels.supported(torch.empty(4, 2**15, dtype=dtype))
    assert not kernels.supported(torch.empty(4, 4, 3, 1, dtype=dtype))
    assert not kernels.supported(torch.empty(4, 3, dtype=torch.bfloat16))
    assert kernels.supported(torch.empty(4, 4, dtype=dtype))
    with pytest.raises(ValueError, match=r"weights \(4, 3\) in torch.float16 .* not supported"):
        kernels.Layer(torch.empty(4, 3, dtype=torch.float16), None)


def test_nothing_is_read_beyond_what_is_given(dtype):
    """A kernel believes its sizes, so that what does not match is refused before it: it would show in a picture."""
    layer, other = kernels.Layer(torch.ones(8, 4, dtype=dtype), None), torch.bfloat16
    if dtype == other:
        other = torch.float32
    x = torch.ones(2, 3, 4, dtype=dtype)
    for wrong in (x[..., :2], x.to(other)):
        with pytest.raises(ValueError, match="layer of 4 channels"):
            layer.rows(wrong)
    for wrong in (x, torch.ones(2, 3, 8, dtype=other)):
        with pytest.raises(ValueError, match=r"where \(2, 3, 8\) in .* is needed"):
            layer.rows(x, "plus", wrong)
    with pytest.raises(ValueError, match=r"where \(1, 8\) in .* is needed"):
        layer(x[None], sample_bias=x)
    with pytest.raises(ValueError, match=r"attention of \(2, 3, 4\)"):
        kernels.attention(x, x, x[:1], 2)
    for norm in (kernels.layer_norm, lambda *given: kernels.group_norm(*given[:3], 2, given[3])):
        for weight in (torch.ones(3), torch.ones(4).half()):
            with pytest.raises(ValueError, match="a norm of"):
                norm(x, weight, weight, 1e-5)


def test_inputs_that_a_kernel_can_not_take_are_refused(dtype):
    """Sizes, formats and devices, each of which would be written or read beyond what there is."""
    x, weight = torch.ones(2, 6, 12, dtype=dtype), torch.ones(12)
    half, meta = x.half(), torch.ones(2, 6, 12, dtype=dtype, device="meta")
    for wrong, heads in ((half, 2), (meta, 2), (x, 5), (x, 0), (x[0], 2), (x[:, :, :0], 2)):
        with pytest.raises(ValueError, match="heads|CPU|no kernels"):
            kernels.attention(wrong, wrong, wrong, heads)
    if dtype == torch.bfloat16:
        with pytest.raises(ValueError, match="of an even size"):
            kernels.attention(x, x, x, 4)  # heads of three
    with pytest.raises(ValueError, match=r"attention of .* to \(2, 0, 12\)"):
        kernels.attention(x, x[:, :0], x[:, :0], 2)
    for wrong in (half, meta):
        for norm in (lambda t: kernels.layer_norm(t, weight, weight, 1e-5),
                     lambda t: kernels.group_norm(t, weight, weight, 3, 1e-5)):  # fmt: skip
            with pytest.raises(ValueError, match="CPU|no kernels"):
                norm(wrong)
    with pytest.raises(ValueError, match="12 channels in 5 groups"):
        kernels.group_norm(x, weight, weight, 5, 1e-5)
    matrix = torch.ones(8, 12, dtype=dtype)
    for bias in (torch.ones(7), torch.ones(8, 1), torch.ones(8, device="meta")):
        with pytest.raises(ValueError, match="a bias"):
            kernels.Layer(matrix, bias)
    layer = kernels.Layer(matrix, None)
    with pytest.raises(ValueError, match="given .* on meta"):
        layer.rows(meta)
    with pytest.raises(ValueError, match="needs an operand"):
        layer.rows(x, "plus")
    for weights in (matrix.to("meta"), matrix.half(), matrix[0], matrix[:0], torch.ones(8, 12, 3, 1, dtype=dtype)):
        with pytest.raises(ValueError, match="not supported"):
            kernels.Layer(weights, None)


def test_strided_and_empty_inputs_are_theirs(dtype):
    weight, strided = torch.randn(12, 12).to(dtype), torch.randn(24)[::2]
    x = torch.randn(2, 6, 24).to(dtype)[..., ::2]
    assert torch.equal(kernels.Layer(weight, strided).rows(x), kernels.Layer(weight, strided.clone()).rows(x.clone()))
    for norm in (kernels.layer_norm, lambda t, w, b, eps: kernels.group_norm(t, w, b, 3, eps)):
        assert torch.equal(norm(x, strided, strided, 1e-5), norm(x.clone(), strided.clone(), strided.clone(), 1e-5))
        assert norm(x[:0], strided, strided, 1e-5).shape == (0, 6, 12)
    assert kernels.Layer(weight, None).rows(x[:, :0]).shape == (2, 0, 12)
    assert kernels.attention(x[:0], x[:0], x[:0], 2).shape == (0, 6, 12)


def test_numbers_at_any_address_are_theirs(dtype):
    """A slice of bfloat16 may begin in the middle of a unit of 32 bits."""
    x = torch.randn(2 * 6 * 12 + 1).to(dtype)
    apart, together = x[1:].view(2, 6, 12), x[1:].clone().view(2, 6, 12)
    weight, ones = torch.randn(12, 12).to(dtype), torch.ones(12)
    assert torch.equal(kernels.Layer(weight, None).rows(apart), kernels.Layer(weight, None).rows(together))
    assert torch.equal(kernels.attention(apart, apart, apart, 2), kernels.attention(together, together, together, 2))
    assert torch.equal(kernels.layer_norm(apart, ones, ones, 1e-5), kernels.layer_norm(together, ones, ones, 1e-5))


def test_every_kernel_says_whether_it_succeeded():
    """A void function's result is whatever lay in a register: it was read as running out of memory at random."""
    text = kernels._SOURCE.read_text()
    for name in ("product", "attention", "group_norm", "layer_norm"):
        assert re.search(rf"^int {name}\(", text, re.MULTILINE)


@pytest.mark.skipif(not kernels.available(torch.float32), reason="no kernels on this processor, or no compiler")
def test_few_threads_are_no_error():
    """Fewer than were asked for, as a limit of OpenMP's gives."""
    code = (
        "import torch; from ledits.cpu import kernels\n"
        "x, w, z = torch.randn(64, 40), torch.ones(40), torch.zeros(40)\n"
        "for _ in range(50): a = kernels.layer_norm(x, w, z, 1e-5); b = kernels.group_norm(x[None], w, z, 4, 1e-5)\n"
        "assert torch.allclose(a, torch.nn.functional.layer_norm(x, (40,)), atol=1e-5)"
    )
    limited = os.environ | {"OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "4"}
    subprocess.run([sys.executable, "-c", code], check=True, env=limited, capture_output=True)


def build(dtype=torch.float32):
    return kernels._library.__wrapped__(dtype)


@pytest.mark.parametrize(
    ("compiler", "says"),
    [
        ("no-such-compiler", "No such file"),
        ("false", "non-zero exit status"),
        ("true", "No such file"),  # it makes nothing
        ("'", "quotation"),
        ("{folder}/latin", "caf"),
    ],
)
def test_a_compiler_that_fails_costs_a_sentence(compiler, says, tmp_path, monkeypatch, caplog):
    """Whatever it says, in whatever encoding."""
    (tmp_path / "latin").write_bytes(b"#!/bin/sh\nprintf 'caf\\351\\n' >&2\nexit 1\n")
    (tmp_path / "latin").chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", compiler.format(folder=tmp_path))
    monkeypatch.setattr(kernels, "instructions", lambda: "AVX2")
    with caplog.at_level(logging.WARNING, "ledits"):
        assert build() is None
    (record,) = caplog.records
    assert "layers run as PyTorch has them, which is slower" in record.message
    assert says in record.message
    assert "\n" not in record.message
    assert not list(tmp_path.rglob("*.so"))


def test_they_are_compiled_once(tmp_path, monkeypatch, dtype):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build(dtype) is not None
    (made,) = tmp_path.rglob("*.so")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert build(dtype) is not None
    assert list(made.parent.iterdir()) == [made]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A library as the compiler makes it."""
    if not kernels.available(torch.float32):
        pytest.skip("no kernels on this processor, or no compiler")
    out = tmp_path_factory.mktemp("built") / "kernels.so"
    kernels._compile((*kernels._FLAGS, *kernels._SETS[kernels.instructions()]), out)
    return out


@pytest.fixture
def copied(built, monkeypatch):
    """The compiler, spared: it has made this library already."""
    monkeypatch.setattr(kernels, "_compile", lambda flags, out: shutil.copyfile(built, out))


@pytest.mark.usefixtures("copied")
def test_a_broken_build_is_made_anew(tmp_path, monkeypatch):
    """Cut short, empty, or a library of something else: it must not stay for good, nor be found by others."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build() is not None
    (made,) = tmp_path.rglob("*.so")
    whole = made.read_bytes()
    other = tmp_path / "other.so"
    subprocess.run(["cc", "-shared", "-x", "c", "/dev/null", "-o", str(other)], check=True)
    for broken in (b"", whole[:200], other.read_bytes()):
        made.unlink()
        made.write_bytes(broken)
        made.chmod(0o600)
        assert build() is not None
        assert made.read_bytes() == whole


@pytest.mark.usefixtures("copied")
def test_code_that_others_could_have_written_is_not_loaded(tmp_path, monkeypatch, caplog):
    """Of a folder or a file that others can write to, own or have linked to: compiled in a place of our own instead."""
    opened = []
    monkeypatch.setattr(kernels, "_opened", lambda path: opened.append(path))
    monkeypatch.setattr(kernels, "_compile", lambda flags, out: out.write_bytes(b""))

    def folder_of(name: str, mode: int) -> None:
        (tmp_path / name / "ledits").mkdir(parents=True)
        (tmp_path / name / "ledits").chmod(mode)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    for mode, trusted in ((0o777, False), (0o770, False), (0o755, True), (0o700, True)):
        folder_of(oct(mode), mode)
        opened.clear()
        build()
        assert opened
        assert all(path.is_relative_to(tmp_path) == trusted for path in opened)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/ledits").symlink_to(tmp_path / "0o700/ledits")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "linked"))
    assert kernels._folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "0o700"))
    assert kernels._folder() is not None
    monkeypatch.setattr(os, "getuid", lambda: 12345)  # somebody else's
    assert kernels._folder() is None
    assert "compiled for this process alone" in caplog.text


@pytest.mark.usefixtures("copied")
def test_a_library_that_others_can_write_to_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build() is not None
    (made,) = tmp_path.rglob("*.so")
    made.chmod(0o722)
    with pytest.raises(OSError, match="user's alone"):
        kernels._opened(made)
    link = made.with_name("link.so")
    link.symlink_to(made)
    with pytest.raises(OSError, match="symbolic"):
        kernels._opened(link)
    assert build() is not None  # in its place
    assert made.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("copied")
def test_nothing_is_left_for_others_under_any_umask(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = os.umask(0)
    try:
        assert build() is not None
    finally:
        os.umask(before)
    (made,) = tmp_path.rglob("*.so")
    assert (made.stat().st_mode & 0o077, made.parent.stat().st_mode & 0o077) == (0, 0)


@pytest.mark.usefixtures("copied")
def test_no_home_and_a_relative_cache_folder_are_no_error(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    assert build() is not None
    assert "for this process alone: no home directory" in caplog.text
    assert not list(tmp_path.iterdir())


def test_other_processors_have_none(monkeypatch):
    assert not kernels.available(torch.float16)
    for machine, capability, expected in (
        ("x86_64", "AVX512", "AVX512"), ("x86_64", "AVX2", "AVX2"), ("x86_64", "DEFAULT", ""),
        ("aarch64", "SVE256", "NEON"), ("riscv64", "DEFAULT", ""),
    ):  # fmt: skip
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        assert kernels.instructions() == expected
    monkeypatch.setattr(kernels, "instructions", lambda: "")
    assert build() is None
    monkeypatch.setattr(kernels, "instructions", lambda: "AVX2")
    assert build(torch.bfloat16) is None


def test_the_environment_can_do_without(monkeypatch):
    monkeypatch.setenv("LEDITS_CPU", "packed")
    assert not kernels.available(torch.float32)
    monkeypatch.setenv("LEDITS_CPU", "fast")
    with pytest.raises(ValueError, match="LEDITS_CPU is 'fast': kernels, packed, plain are accepted"):
        kernels.available(torch.float32)
