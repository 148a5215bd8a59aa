"""LoRAs on a packed network, and on one that several threads share."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import UNet2DConditionModel

from ledits.attention import token_maps
from ledits.backbones.latent_unet import LatentUNet
from ledits.cpu import layers, packed

from conftest import SCHEDULER, random_parts, random_xl_parts, relative

peft = pytest.importorskip("peft", reason="peft is in the group dev of pyproject.toml")

CPU = torch.device("cpu")
packable = pytest.mark.skipif(not packed.available(CPU, torch.float32), reason="nothing can be packed here")


def given(rows: int, net: UNet2DConditionModel) -> dict[str, object]:
    generator = torch.Generator().manual_seed(rows)
    text = torch.randn(rows, 24, net.config.cross_attention_dim, generator=generator)
    inputs = {"sample": torch.randn(rows, 4, 16, 16, generator=generator), "timestep": torch.full((rows,), 500.0)}
    if net.config.addition_embed_type:
        inputs["added_cond_kwargs"] = {"text_embeds": torch.zeros(rows, 16), "time_ids": torch.ones(rows, 6)}
    return {**inputs, "encoder_hidden_states": text}


def with_lora(net: UNet2DConditionModel, *targets: str) -> UNet2DConditionModel:
    torch.manual_seed(7)
    net.add_adapter(peft.LoraConfig(r=2, lora_alpha=8, target_modules=list(targets), init_lora_weights=False))
    return net.requires_grad_(False)


@packable
@pytest.mark.parametrize("make", [lambda: random_parts(levels=3), random_xl_parts], ids=["SD", "SDXL"])
@pytest.mark.parametrize(
    "target",
    [
        "ff.net.0.proj", "ff.net.2", "time_emb_proj", "proj_in", "proj_out", "conv1", "conv2", "conv_shortcut", "conv",
        "to_q", "to_out.0", "conv_in", "linear_1",
    ],
)  # fmt: skip
def test_no_lora_is_lost_whatever_layer_it_is_on(make, target, monkeypatch):
    plain = make()["unet"]
    with torch.inference_mode():
        bare = plain(**given(2, plain)).sample
        adapted = with_lora(plain, target)
        expected = adapted(**given(2, plain)).sample
        assert relative(expected, bare) > 1e-3
        for choice in ("kernels", "packed"):
            monkeypatch.setenv("LEDITS_CPU", choice)
            net = copy.deepcopy(adapted)
            packed.pack(net)
            assert any(isinstance(module, layers.Linear | layers.Conv2d) for module in net.modules())
            assert relative(net(**given(2, net)).sample, expected) < 1e-5


@packable
def test_a_lora_can_be_scaled_and_taken_off_after_packing():
    net = random_parts(levels=3)["unet"]
    with torch.inference_mode():
        bare = net(**given(2, net)).sample
        with_lora(net, "to_k", "ff.net.0.proj", "conv1")
        half = net(**given(2, net), cross_attention_kwargs={"scale": 0.5}).sample
        packed.pack(net)
        assert relative(net(**given(2, net), cross_attention_kwargs={"scale": 0.5}).sample, half) < 1e-5
        net.disable_adapters()
        assert relative(net(**given(2, net)).sample, bare) < 1e-5


@packable
def test_hooks_and_own_forwards_outlive_packing():
    """What somebody listens to, or has replaced, is not absorbed by what is packed around it."""
    net, heard = random_parts(levels=3)["unet"], []
    resnet = net.down_blocks[0].resnets[0]
    resnet.conv1.register_forward_hook(lambda *_: heard.append("conv1"))
    plain = net.mid_block.attentions[0].proj_in.forward
    net.mid_block.attentions[0].proj_in.forward = lambda x: (heard.append("proj_in"), plain(x))[1]
    with torch.inference_mode():
        expected = net(**given(1, net)).sample
        heard.clear()
        packed.pack(net)
        assert relative(net(**given(1, net)).sample, expected) < 1e-5
    assert heard == ["conv1", "proj_in"]


def test_threads_that_share_a_scaled_lora_get_what_one_gets():
    """diffusers scales a LoRA's weights in place while the network runs: a pass beside it would see them."""
    parts = random_parts()
    unet = with_lora(parts["unet"], "to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")
    made = [
        LatentUNet(
            unet, parts["vae"], None, {**SCHEDULER, "prediction_type": "sample"}, name="random", fingerprint="0",
            attention={"scale": scale},
        )
        for scale in (0.5, 0.25)
    ]  # fmt: skip
    x, text = torch.randn(1, 4, 16, 16), torch.randn(24, 16)

    def run(k: int) -> torch.Tensor:
        model = made[k % 2]
        with torch.inference_mode(), model.denoiser(model.schedule(3, 0.15), maps=False) as denoise:
            return denoise._through(
                x, torch.tensor([500.0]), text[None], cross_attention_kwargs=dict(model.attention)
            ).sample

    expected = [run(k) for k in range(2)]
    assert relative(expected[0], expected[1]) > 1e-3
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(24)))
    assert all(torch.equal(each, expected[k % 2]) for k, each in enumerate(found))


@packable
def test_maps_are_recorded_where_a_lora_is_on_the_keys():
    net = with_lora(random_parts(levels=3)["unet"], "to_k")
    words, found = torch.ones(2, 24, dtype=torch.bool), []
    words[:, 5:] = False
    for other in (net, copy.deepcopy(net)):
        if other is not net:
            packed.pack(other)
        with torch.inference_mode(), token_maps(other) as maps:
            maps.begin(words, 64)
            other(**given(2, net))
            found.append(maps.read(CPU))
    assert relative(found[1], found[0]) < 1e-5
