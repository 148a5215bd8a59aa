"""Attention maps: the right numbers, and no trace on the network."""

import threading

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, SlicedAttnProcessor

from ledits.backbones.attention import Layout, token_maps

from conftest import random_parts

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def unet():
    return random_parts()["unet"]


def hooks(net: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())


def layers(net: torch.nn.Module) -> list[str]:
    names = (name for name, _ in net.named_modules())
    return [name for name in names if name.endswith("attn2") and not name.startswith("mid")]


def record(net: torch.nn.Module, words: torch.Tensor, cells: int = 256):
    return token_maps(net, layers(net), words, Layout(cells, cells), CPU)


def two_words() -> torch.Tensor:
    words = torch.zeros(2, 24, dtype=torch.bool)
    words[0, 1:3] = True
    return words


def run(net: torch.nn.Module, rows: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(rows, 4, 16, 16, generator=generator), torch.randn(rows, 24, 16, generator=generator)
    with torch.no_grad():
        return net(x, torch.tensor([500.0] * rows), text).sample


def test_maps_equal_explicit_attention(unet):
    """Against the probabilities that diffusers' own unfused processor computes, layer by layer."""
    seen = []

    class Explicit:
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
            text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            q, k, v = (attn.head_to_batch_dim(p) for p in (attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)))
            weights = attn.get_attention_scores(q, k)
            if encoder_hidden_states is not None:
                seen.append(weights.unflatten(0, (-1, attn.heads)).mean(1))
            return attn.to_out[0](attn.batch_to_head_dim(weights @ v))

    processors = unet.attn_processors
    unet.set_attn_processor(Explicit())
    run(unet)
    unet.set_attn_processor(processors)
    # down 16, down 8, middle 8, up 8 twice, up 16 twice: the middle one is left out
    right = {256: [seen[0], *seen[-2:]], 64: [seen[1], *seen[3:5]]}
    for cells, found in right.items():
        with record(unet, two_words(), cells) as maps:
            run(unet)
        expected = torch.stack([layer[0, :, 1:3].sum(1) for layer in found]).mean(0)
        assert torch.allclose(maps.read()[0], expected, atol=1e-6)
        assert maps.read()[1].abs().max() == 0


@pytest.mark.parametrize("processor", [AttnProcessor, lambda: SlicedAttnProcessor(1), "fused"])
def test_maps_do_not_depend_on_how_attention_is_computed(unet, processor):
    """Explicitly, in slices, with one projection for queries, keys and values: the same maps."""
    with record(unet, two_words()) as plain:
        run(unet)
    other = random_parts()["unet"]
    if processor == "fused":
        other.fuse_qkv_projections()
    else:
        other.set_attn_processor(processor())
    with record(other, two_words()) as maps:
        run(other)
    assert torch.allclose(maps.read(), plain.read(), atol=1e-6)


def test_maps_are_fp32_under_autocast_and_any_default(unet):
    with record(unet, two_words()) as plain:
        run(unet)
    net = random_parts()["unet"]
    with torch.autocast("cpu", torch.bfloat16), record(net, two_words()) as maps:
        run(net)
    assert maps.read().dtype == torch.float32
    assert torch.allclose(maps.read(), plain.read(), atol=1e-2)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with record(unet, two_words()) as maps:
            unet(torch.zeros(2, 4, 16, 16).float(), torch.tensor([5, 5]), torch.zeros(2, 24, 16).float())
        assert maps.read().dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_output_is_untouched(unet):
    plain = run(unet)
    with record(unet, torch.ones(2, 24, dtype=torch.bool)) as maps:
        assert torch.equal(run(unet), plain)
    assert torch.allclose(maps.read(), torch.ones(2, 256), atol=1e-5)


def test_the_network_is_restored_even_on_an_error(unet):
    before, processors = hooks(unet), {k: id(v) for k, v in unet.attn_processors.items()}
    during = []

    def fail() -> None:
        with record(unet, two_words()):
            during.append(hooks(unet))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert during[0] > before
    assert hooks(unet) == before
    assert {k: id(v) for k, v in unet.attn_processors.items()} == processors


def test_no_map_of_that_size_is_an_error(unet):
    with record(unet, two_words(), 49) as maps:
        run(unet)
    with pytest.raises(ValueError, match="no layer of 49 cells"):
        maps.read()


def test_other_threads_are_not_recorded(unet):
    with record(unet, two_words()) as alone:
        run(unet)
    with record(unet, two_words()) as maps:
        run(unet)
        other = threading.Thread(target=run, args=(unet, 3))
        other.start()
        other.join()
    assert torch.equal(maps.read(), alone.read())
