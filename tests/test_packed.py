"""Packed layers give what the plain ones give, whatever was in the batch and whatever came before."""

import copy
import platform
import types

import pytest
import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention_processor import SlicedAttnProcessor
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D

from ledits.backbones import load
from ledits.backbones.attention import Layout, token_maps
from ledits.cpu import kernels, layers, packed, winograd

from conftest import random_parts, random_vae, random_xl_parts, relative

CPU = torch.device("cpu")
BOUND = {torch.float32: 1e-5, torch.bfloat16: 5e-2}

pytestmark = [
    pytest.mark.usefixtures("several_threads"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available(),
        reason="packing is for x86 processors with oneDNN",
    ),
]


@pytest.fixture(autouse=True)
def _allowed(monkeypatch):
    """Whatever the environment says of it."""
    monkeypatch.delenv("LEDITS_CPU", raising=False)


@pytest.fixture(params=["kernels", "without"])
def either(request, monkeypatch):
    """With kernels.c, and as where there is no compiler."""
    monkeypatch.setenv("LEDITS_CPU", "kernels" if request.param == "kernels" else "packed")
    if request.param == "kernels" and not kernels.available(torch.float32):
        pytest.skip("no kernels on this processor, or no compiler")
    return request.param


def packed_copy(net: torch.nn.Module) -> torch.nn.Module:
    other = copy.deepcopy(net)
    packed.pack(other)
    return other


def inputs(net, rows: int, side: int = 16):
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 4, side, side, generator=generator)
    text = torch.randn(rows, 24, net.config.cross_attention_dim, generator=generator)
    given = {"encoder_hidden_states": text, "timestep": torch.linspace(50, 900, rows)}
    if net.config.addition_embed_type:
        given["added_cond_kwargs"] = {"text_embeds": torch.zeros(rows, 16), "time_ids": torch.ones(rows, 6)}
    return {"sample": x, **given}


def cast(given, dtype):
    return {k: cast(v, dtype) if isinstance(v, dict) else v.to(dtype) for k, v in given.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [lambda: random_parts(levels=3), random_xl_parts], ids=["SD", "SDXL"])
def test_a_packed_network_gives_what_the_plain_one_gives(make, dtype, either):
    if not packed.available(CPU, dtype) or (either == "kernels" and not kernels.available(dtype)):
        pytest.skip(f"{dtype} is not packed on this processor")
    plain = make()["unet"].to(dtype)
    given = cast(inputs(plain, 3, side=20), dtype)  # 20, 10, 5: the way back up needs sizes that are no doubles
    with torch.inference_mode():
        assert relative(packed_copy(plain)(**given).sample, plain(**given).sample) < BOUND[dtype]


def test_a_packed_autoencoder_gives_what_the_plain_one_gives(either):
    plain = random_vae()
    other, pictures = packed_copy(plain), torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        latents = plain.encode(pictures).latent_dist.mode()
        assert relative(other.encode(pictures).latent_dist.mode(), latents) < 1e-5
        assert relative(other.decode(latents).sample, plain.decode(latents).sample) < 1e-5


def test_every_layer_of_the_real_shapes_is_packed(either):
    """No plain layer, gate, residual or transformer block is left in the kinds of blocks that SD is made of."""
    kinds = {type(module) for module in packed_copy(random_parts(levels=3)["unet"]).modules()}
    assert not kinds & {torch.nn.Linear, torch.nn.Conv2d, GEGLU, ResnetBlock2D}
    assert {layers.Linear, layers.Conv2d, packed._Gate, packed._Residual} <= kinds
    if either == "kernels":
        assert not kinds & {torch.nn.GroupNorm, torch.nn.LayerNorm, Transformer2DModel}


def test_maps_are_recorded_in_packed_blocks(either):
    """The same maps, for the tokens asked for: attention to text is heard whatever computes it."""
    plain, found = random_parts(levels=3)["unet"], []
    given, words = inputs(plain, 2), torch.zeros(2, 24, dtype=torch.bool)
    words[0, 3], words[1, 5:7] = True, True
    for net in (plain, packed_copy(plain)):
        layers = [name for name, _ in net.named_modules() if name.endswith("attn2") and not name.startswith("mid")]
        with torch.inference_mode(), token_maps(net, layers, words, Layout(64, 64), CPU) as maps:
            net(**given)
        found.append(maps.read())
    assert found[0].std() > 0
    assert relative(found[1], found[0]) < 1e-5


def test_attention_that_is_not_plain_is_left_alone(either):
    """What somebody has put in the place of diffusers' own computes something else."""
    net = random_parts(levels=3)["unet"]
    block = net.down_blocks[0].attentions[0].transformer_blocks[0]
    block.attn2.set_processor(SlicedAttnProcessor(2))
    other = packed_copy(net)
    assert type(other.down_blocks[0].attentions[0]) is Transformer2DModel
    with torch.inference_mode():
        assert relative(other(**inputs(net, 2)).sample, net(**inputs(net, 2)).sample) < 1e-5


def test_an_attention_mask_is_taken_or_refused(either):
    """Whole blocks of kernels attend to everything and say so; diffusers' own, where there are none, heed it."""
    net, mask = random_parts(levels=3)["unet"], torch.ones(2, 24)
    mask[:, 5:] = 0
    other = packed_copy(net)
    with torch.inference_mode():
        if either == "kernels":
            with pytest.raises(ValueError, match="no attention mask"):
                other(**inputs(net, 2), encoder_attention_mask=mask)
        else:
            found, expected = (each(**inputs(net, 2), encoder_attention_mask=mask).sample for each in (other, net))
            assert relative(found, expected) < 1e-5


@pytest.mark.parametrize("size", [None, (10, 14), (9, 13)])
def test_an_enlargement_in_nine_products(size):
    """The same as enlarging first, up to the border; sizes that are no doubles go the usual way."""
    torch.manual_seed(0)
    block = torch.nn.ModuleDict({"up": Upsample2D(256, use_conv=True, out_channels=8)})
    x = torch.randn(2, 256, 5, 7)
    with torch.inference_mode():
        expected = block["up"](x, size)
        packed.pack(block)
        assert type(block["up"]) is packed._Upsample
        assert relative(block["up"](x, size), expected) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (7, 9), (16, 16), (33, 40)])
def test_fewer_products_give_the_convolution(h, w, doubled, dtype, monkeypatch):
    """Of odd sides too, in strips or whole pictures at a time, with a bias or onto something else."""
    if not packed.available(CPU, dtype):
        pytest.skip(f"{dtype} is not packed on this processor")
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 24, h, w).to(dtype), torch.randn(8, 24, 3, 3).to(dtype) / 15, torch.randn(8)
    bias = bias.to(dtype)
    large = x.float().repeat_interleave(2, 2).repeat_interleave(2, 3) if doubled else x.float()
    with torch.inference_mode():
        plain = torch.nn.functional.conv2d(large, weight.float(), padding=1)
        other = torch.randn_like(plain).to(dtype)
        for strip in (winograd._STRIP, 2**14):
            monkeypatch.setattr(winograd, "_STRIP", strip)
            found = winograd.Winograd(weight, bias, doubled=doubled)(x)
            added = winograd.Winograd(weight, None, doubled=doubled)(x, other)
            assert relative(found, plain + bias.float()[:, None, None]) < BOUND[dtype] / 5
            assert relative(added, plain + other.float()) < BOUND[dtype] / 5


def test_large_convolutions_in_float32_take_fewer_products():
    """Alone and as a residual block's last one; a convolution's bits do not depend on the batch."""
    torch.manual_seed(0)
    net = torch.nn.ModuleDict({"c": torch.nn.Conv2d(256, 256, 3, padding=1), "r": ResnetBlock2D(in_channels=256)})
    x = torch.randn(2, 256, 32, 34).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = net["c"](x), net["r"](x, torch.ones(2, 512))
        packed.pack(net)
        found = net["c"](x), net["r"](x, torch.ones(2, 512))
        assert net["c"].fewer is not None
        assert net["r"].conv2.fewer is not None
        assert max(relative(a, b) for a, b in zip(found, expected, strict=True)) < 1e-5
        assert torch.equal(net["c"](x[1:]), found[0][1:])
        assert relative(net["r"](x[1:], torch.ones(1, 512)), found[1][1:]) < 1e-5  # group norms are of another order
        assert not winograd.pays(torch.empty(256, 256, 3, 3), x.bfloat16())


def test_scratch_outlives_the_mode_it_was_made_in():
    made = torch.nn.Parameter(torch.ones(4, 4, 3, 3), requires_grad=False)
    layer, x = winograd.Winograd(made, None), torch.ones(1, 4, 50, 50)
    winograd._scratch.__dict__.clear()
    with torch.inference_mode():
        first = layer(x)
    with torch.no_grad():
        assert torch.equal(layer(x), first)


def test_a_gate_without_bias(either):
    torch.manual_seed(0)
    net, x = torch.nn.ModuleDict({"gate": GEGLU(16, 32, bias=False)}), torch.randn(2, 5, 16)
    with torch.inference_mode():
        expected = net["gate"](x)
        packed.pack(net)
        assert relative(net["gate"](x), expected) < 1e-5


def test_what_came_first_changes_no_bit(either):
    """Layouts are chosen by the first input; a run must not depend on what was edited before it."""
    plain = random_parts(levels=3)["unet"]
    given, found = inputs(plain, 2), []
    for rows, side in ((1, 16), (2, 16), (5, 32)):
        net = packed_copy(plain)
        with torch.inference_mode():
            net(**inputs(plain, rows, side))
            found.append(net(**given).sample)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_what_can_not_be_packed_is_left_alone(monkeypatch):
    assert not packed.available(torch.device("meta"), torch.float32)
    assert not packed.available(CPU, torch.float16)
    odd = torch.nn.ModuleDict({"c": torch.nn.Conv2d(2, 2, 3, padding="same"), "r": torch.nn.Conv2d(2, 2, 1, 1)})
    packed.pack(odd)
    assert type(odd["c"]) is torch.nn.Conv2d
    assert type(odd["r"]) is layers.Conv2d
    monkeypatch.setattr(packed, "platform", types.SimpleNamespace(machine=lambda: "arm64"))
    assert not packed.available(CPU, torch.float32)
    with pytest.raises(ValueError, match="cpu in float32 can't be packed"):
        packed.pack(torch.nn.ModuleDict({"r": torch.nn.Linear(2, 2)}))


def test_the_environment_can_do_without_packing(monkeypatch):
    """Nothing is replaced, whether the library or a user's script asks for it."""
    monkeypatch.setenv("LEDITS_CPU", "plain")
    assert not packed.available(CPU, torch.float32)
    net = torch.nn.ModuleDict({"r": torch.nn.Linear(2, 2)})
    packed.pack(net)
    assert type(net["r"]) is torch.nn.Linear
    assert type(load(device="cpu", dtype="float32").unet.conv_in) is torch.nn.Conv2d
