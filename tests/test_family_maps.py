"""Whole networks whose attention looks at a known place: their weights are set so, and the recorded map is that place.

In one layer the queries are c at the place and 0 elsewhere, the keys c at the words and 0 elsewhere. So attention is at
the words inside the place, and outside of it the same for every key: words / keys, by hand.
"""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import tiny_families
from ledits.backbones import from_pipe
from ledits.backbones.texts import Text

ROWS, COLUMNS, TOKENS, WORDS = 4, 6, 12, (3, 4)


class Looks(NamedTuple):
    layer: str
    text_keys: str  # the projection of the text's keys; the picture's own keys, where the layer has them, are 0
    keys: int  # in all
    still: tuple[str, ...] = ()  # weights that are put to 0, for they tell one cell from another


JOINT = ROWS * COLUMNS + TOKENS
CASES = {
    "sd3": Looks("transformer_blocks.0.attn", "add_k_proj", JOINT, ("pos_embed.pos_embed",)),  # the picture first
    "flux": Looks("transformer_blocks.0.attn", "add_k_proj", JOINT),  # the text first
    "chroma": Looks("transformer_blocks.0.attn", "add_k_proj", JOINT),
    "qwen_image": Looks("transformer_blocks.0.attn", "add_k_proj", JOINT),
    "flux_2_dev": Looks("transformer_blocks.0.attn", "add_k_proj", JOINT),
    # One stream; what mixes it before is put out.
    "lumina_2": Looks("layers.0.attn", "to_k", JOINT, ("noise_refiner.0.attn.to_out.0.weight",
                                                       "context_refiner.0.attn.to_out.0.weight")),
    "krea_2": Looks("transformer_blocks.0.attn", "to_k", JOINT, ("text_fusion.refiner_blocks.0.attn.to_out.0.weight",)),
    "ernie_image": Looks("layers.0.self_attention", "to_k", JOINT),
    "qwen_image_21": Looks("transformer_blocks.0.attn", "to_k", JOINT),  # the text before the picture, in two calls
    "flux_3": Looks("single_transformer_blocks.0.attn", "to_k", JOINT, ("txt_mode_blocks.0.attn.to_out.0.weight",
                                                                        "mode_blocks.image.0.attn.to_out.0.weight")),
    "anima": Looks("transformer_blocks.0.attn2", "to_k", TOKENS, ("transformer_blocks.0.attn1.to_out.0.weight",)),
    "pixart": Looks("transformer_blocks.0.attn2", "to_k", TOKENS, ("pos_embed.pos_embed",)),  # across
    "sana": Looks("transformer_blocks.0.attn2", "to_k", TOKENS),
}  # fmt: skip


# Their layers mix picture and text before the first that could be set: families of the same layout are tested.
NOT_SET = {"deepfloyd_if", "z_image", "flux_2_klein"}


def test_every_family_is_looked_at_or_named():
    assert set(CASES) | NOT_SET == set(tiny_families.MAKE), "a new family needs a line in CASES: see CONTRIBUTING.md"


def heard(module: torch.nn.Module, run: Any) -> Tensor:
    """What a layer is given while `run` runs, (tokens, d)."""
    kept = []
    handle = module.register_forward_pre_hook(lambda _, given: kept.append(given[0].detach().clone()))
    run()
    handle.remove()
    return kept[0][0].double()


def point(projection: torch.nn.Linear, given: Tensor, where: Tensor, heads: int, strength: float) -> None:
    """Weights with which `given` (tokens, d) becomes `strength` in one number of each head `where`, and 0 elsewhere."""
    with_bias = torch.cat([given, torch.ones(len(given), 1)], 1) if projection.bias is not None else given
    weights = torch.linalg.lstsq(with_bias, where.double()[:, None], driver="gelsd").solution[:, 0]
    assert torch.allclose(with_bias @ weights, where.double(), atol=1e-4)
    size = projection.out_features // heads
    with torch.no_grad():
        projection.weight.zero_()
        # The last number but one of a head turns slowest with the position.
        projection.weight[size - 2 :: size] = strength * weights[: given.shape[1]].float()
        if projection.bias is not None:
            projection.bias.zero_()
            projection.bias[size - 2 :: size] = strength * weights[-1].float()


def text(backbone: Any, pipe: Any) -> Text:
    config = backbone.net.config
    known = {
        "lumina_2": 16, "pixart": 32, "sana": 16, "krea_2": 32, "ernie_image": 8, "qwen_image_21": 16, "anima": 16,
    }  # fmt: skip
    wide = known.get(pipe) or config.joint_attention_dim
    states = torch.zeros(TOKENS, wide)
    states[list(WORDS)] = torch.randn(wide, generator=torch.Generator().manual_seed(1))
    words = torch.zeros(TOKENS, dtype=torch.bool)
    words[list(WORDS)] = True
    pooled = getattr(config, "pooled_projection_dim", None)
    return Text("a cat", states, words, torch.zeros(pooled) if pooled else None, mask=torch.ones(TOKENS))


def place() -> Tensor:
    cells = torch.zeros(ROWS, COLUMNS)
    cells[1:3, 2:5] = 1
    return cells


@pytest.mark.parametrize("name", CASES)
def test_the_map_is_the_place_that_the_network_was_made_to_look_at(name):
    case, pipe = CASES[name], tiny_families.make(name)
    backbone = from_pipe(pipe)
    backbone.map_layers = [case.layer]
    layer, patch = backbone.net.get_submodule(case.layer), backbone.family.patch
    parameters = {**dict(backbone.net.named_parameters()), **dict(backbone.net.named_buffers())}
    with torch.no_grad():
        for each in case.still:
            parameters[each].zero_()
    said = text(backbone, name)
    x = place().repeat_interleave(patch, 0).repeat_interleave(patch, 1).expand(1, 1, 4, -1, -1)
    height, width = (backbone.factor * side for side in x.shape[-2:])

    def run() -> Tensor:
        with backbone.denoiser(backbone.schedule(4, 0.15, height, width), maps=True) as denoise:
            return denoise(x, [1], [said])[1][0, 0, 0]

    told = said.words.float()
    queries, keys = heard(layer.to_q, run), heard(layer.get_submodule(case.text_keys), run)
    cells = place().flatten()
    if case.text_keys == "to_k" and len(keys) > TOKENS:  # one stream
        layout = backbone.map_layout(TOKENS, ROWS * COLUMNS)
        last = layout.image_at > 0 or layout.whole is not None  # the picture
        others = torch.zeros(ROWS * COLUMNS), torch.zeros(TOKENS)
        told = torch.cat([told, others[0]] if last else [others[0], told])
        cells = torch.cat([others[1], cells] if last else [cells, others[1]])
    elif case.text_keys != "to_k":
        torch.nn.init.zeros_(layer.to_k.weight)
        if layer.to_k.bias is not None:
            torch.nn.init.zeros_(layer.to_k.bias)
    heads = layer.to_q.out_features // (getattr(layer, "head_dim", None) or layer.to_q.out_features // layer.heads)
    key_projection = layer.get_submodule(case.text_keys)
    point(layer.to_q, queries, cells, heads, 12.0)
    point(key_projection, keys, told, key_projection.out_features * heads // layer.to_q.out_features, 12.0)
    for each in ("norm_q", "norm_k", "norm_added_k"):  # they make all of one size
        norm = getattr(layer, each, None)
        if norm is not None and getattr(norm, "weight", None) is not None:
            torch.nn.init.constant_(norm.weight, 4.0)
    found = run()
    assert found.shape == (ROWS, COLUMNS)
    inside = place() > 0
    assert found[inside].min() > 0.95
    assert found[~inside] == pytest.approx(len(WORDS) / case.keys, abs=0.02)


def test_deepfloyds_map_is_where_its_layer_looks():
    """Keys of text beside the picture's own. Convolutions tell every cell from the others, so that the place is where
    the first number of the layer's input is high.
    """
    backbone = from_pipe(tiny_families.make("deepfloyd_if"))
    name = "down_blocks.2.attentions.0"
    backbone.map_layers, layer = [name], backbone.net.get_submodule(name)
    states = torch.zeros(77, 32)
    states[3:5] = torch.randn(32, generator=torch.Generator().manual_seed(1))
    said = Text("a cat", states, states.any(1))
    x = torch.randn(1, 1, 3, 32, 48, generator=torch.Generator().manual_seed(2))

    def run() -> Tensor:
        with backbone.denoiser(backbone.schedule(4, 0.15), maps=True) as denoise:
            return denoise(x, [1], [said])[1][0, 0, 0]

    queries, keys = heard(layer.to_q, run), heard(layer.add_k_proj, run)
    with torch.no_grad():
        for parameter in (layer.to_k.weight, layer.to_k.bias, layer.to_q.weight, layer.to_q.bias):
            parameter.zero_()
        size = layer.to_q.out_features // layer.heads
        layer.to_q.weight[::size, 0] = 10.0
    point(layer.add_k_proj, keys, said.words.float(), layer.heads, 10.0)
    layer.add_k_proj.weight.data = layer.add_k_proj.weight.data.roll(-(size - 2), 0)
    if layer.add_k_proj.bias is not None:
        layer.add_k_proj.bias.data = layer.add_k_proj.bias.data.roll(-(size - 2), 0)
    logits = 100 * queries[:, 0] / size**0.5
    by_hand = 2 * logits.exp() / (2 * logits.exp() + 75 + len(queries))
    assert by_hand.max() - by_hand.min() > 0.5
    assert torch.allclose(run().flatten().double(), by_hand, atol=1e-3)
