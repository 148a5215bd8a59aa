"""LoRAs, hooks and forwards of one's own on a network that is packed: none of them is lost."""

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel

from ledits.cpu import layers, packed

from conftest import random_parts, random_xl_parts, relative

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
