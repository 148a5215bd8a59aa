"""kernels.c gives what torch gives in float64, for every size, and its absence costs speed alone."""

import logging
import math
import platform

import pytest
import torch
import torch.nn.functional as F

from ledits.cpu import kernels

from conftest import relative

BOUND = {torch.float32: 2e-6, torch.bfloat16: 4e-3}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """What is compiled here stays here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
    kernels._library.cache_clear()


@pytest.fixture(params=["float32", "float32 for AVX2", "float32 for four lanes", "bfloat16"])
def dtype(request, monkeypatch):
    """Every form of the text that this processor can run: its own vectors, narrower ones, pairs of bfloat16."""
    kind, _, narrower = request.param.partition(" for ")
    if narrower and platform.machine() != "x86_64":
        pytest.skip("the only form of the text here")
    if narrower and (narrower == "AVX2") != (kernels.instructions() == "AVX512"):
        if narrower == "AVX2":
            pytest.skip("AVX2 is this processor's own, or it lacks it")
    if narrower:
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


def test_a_missing_compiler_costs_a_sentence(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    with caplog.at_level(logging.WARNING, "ledits"):
        assert kernels._library.__wrapped__(torch.float32) is None
    assert "layers run as torch has them, which is slower" in caplog.text
    assert not list(tmp_path.rglob("*.so"))


def test_they_are_compiled_once(tmp_path, monkeypatch, dtype):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels._library.__wrapped__(dtype) is not None
    (made,) = tmp_path.rglob("*.so")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert kernels._library.__wrapped__(dtype) is not None
    assert list(made.parent.iterdir()) == [made]


def test_other_processors_have_none(monkeypatch):
    assert not kernels.available(torch.float16)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not kernels.available(torch.float32)
