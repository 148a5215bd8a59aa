"""Flow transformers in the real layouts, of random weights, from disk: one contract for all of them."""

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2Pipeline, StableDiffusion3Pipeline
from safetensors.torch import save_file

import ledits.backbones
import tiny_families
from ledits import Editor
from ledits.backbones import chat, load
from ledits.backbones.attention import Layout, token_maps
from ledits.backbones.transformer import LatentTransformer, pack, unpack
from ledits.files import families as known
from ledits.files import single

from conftest import relative

FAMILIES = list(tiny_families.MAKE)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Each family's checkpoint, saved once in a run."""
    made = {}

    def folder(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("families") / name
            tiny_families.make(name).save_pretrained(made[name])
        return made[name]

    return folder


@pytest.fixture(scope="session")
def loaded(folders):
    made = {}
    return lambda name: made.get(name) or made.setdefault(name, load(str(folders(name)), device="cpu", dtype="float32"))


@pytest.fixture(params=FAMILIES)
def backbone(request, loaded):
    return loaded(request.param)


def pictures(b=1, h=32, w=48):
    return torch.rand(b, 3, h, w, generator=torch.Generator().manual_seed(0)) * 2 - 1


def noise(n, x0):
    return torch.randn(n, *x0.shape, generator=torch.Generator().manual_seed(1))


MODULAR = ("anima", "flux_3")
DIFFUSIONS = ("deepfloyd_if", "pixart")
UNSHUFFLED = ("flux_2_klein", "flux_2_dev", "ernie_image", "flux_3")


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in DIFFUSIONS])
def test_one_forward_is_that_of_diffusers_own_pipeline(name, loaded):
    """One Euler step from pure noise lands on the clean picture that the network sees."""
    backbone, pipe = loaded(name), tiny_families.make(name)
    # With a terminal level diffusers divides by zero in a single step.
    pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift_terminal=None)
    x = torch.randn(1, 4, 16, 32, generator=torch.Generator().manual_seed(2))
    with backbone.denoiser(backbone.schedule(1, 0.0, 32, 64), maps=False) as denoise:
        found = denoise(x[None], [0], ["a cat"])[0][0, 0]
    packed = name in ("flux", "chroma", "qwen_image", "krea_2")
    told = {
        "qwen_image": {"true_cfg_scale": 1.0}, "z_image": {"guidance_scale": 0.0}, "flux": {"guidance_scale": 1.5},
        "flux_2_dev": {"guidance_scale": 1.5}, "sana": {"guidance_scale": 1.0, "use_resolution_binning": False},
        "krea_2": {"guidance_scale": 0.0}, "qwen_image_21": {"true_cfg_scale": 1.0},
    }  # fmt: skip
    latents = pack(x) if packed else F.pixel_unshuffle(x, 2) if name in UNSHUFFLED else x.clone()
    latents = {"qwen_image_21": x.flatten(2).mT, "anima": x[:, :, None]}.get(name, latents)
    given = {"prompt": "a cat", "latents": latents, "height": 32, "width": 64, "num_inference_steps": 1}
    if name in MODULAR:
        pipe.guider.disable()
        out = pipe(**given, output="latents")
    else:
        out = pipe(**given, output_type="latent", **told.get(name, {"guidance_scale": 1.0})).images
    if name == "flux_2_klein":  # it returns them as its autoencoder takes them
        found = backbone.codec._outward(backbone.codec.vae, found)
    if name in ("ernie_image", "flux_3"):
        out = F.pixel_shuffle(out, 2)
    elif name == "qwen_image_21":
        out = out.mT.unflatten(2, (16, 32))
    elif name == "anima":
        out = out[:, :, 0]
    assert relative(found, unpack(out, 16, 32) if packed or name == "flux_2_dev" else out) < 1e-5


@pytest.mark.parametrize("prompt", ["A cat ", ""])
def test_flux_2_devs_texts_are_those_of_its_own_processor(tmp_path, prompt):
    """Made, it pads on the left; read from files that don't say where, on the right."""
    pytest.importorskip("torchvision")
    made = tiny_families.flux_2_dev_with_processor()
    made.save_pretrained(tmp_path)
    read, sides = Flux2Pipeline.from_pretrained(tmp_path), []
    for pipe, backbone in ((made, ledits.backbones.from_pipe(made)), (read, load(str(tmp_path), device="cpu"))):
        text = backbone.prompts.embed(prompt)
        with torch.no_grad():
            assert relative(text.states, pipe.encode_prompt(prompt)[0][0]) < 1e-6
        assert text.words.sum() == len(prompt)  # the tiny tokenizer has a token for each letter
        sides.append((pipe.tokenizer.tokenizer.padding_side, bool(text.words[510])))  # [/INST] is last, or padding is
    assert sides == [("left", prompt != ""), ("right", False)]


@pytest.mark.parametrize("prompt", ["A cat ", ""])
@pytest.mark.parametrize("name", [name for name in ("qwen_image_21", "anima", "flux_3") if name in FAMILIES])
def test_texts_are_those_of_the_pipelines_own_encoders(name, prompt, loaded):
    """A state before the last norm, words of two tokenizers, and padding that the network attends to."""
    pipe = tiny_families.make(name)
    with torch.no_grad():
        if name in MODULAR:
            pipe.guider.disable()
            given = {"prompt": prompt, "height": 32, "width": 32, "num_inference_steps": 1}
            states = pipe(**given, output="prompt_embeds")[0]
        else:
            states = pipe.encode_prompt(prompt)[0][0]
    text = loaded(name).prompts.embed(prompt)
    assert relative(text.states, states) < 1e-6
    if name != "anima" or not prompt:  # the others' tiny tokenizer has a token for each letter
        assert text.words.sum() == len(prompt)


def test_of_a_processor_only_the_tokenizer_is_read(folders, tmp_path):
    """FLUX.2 dev's prepares pictures too, for which it would ask for torchvision."""
    copy = shutil.copytree(folders("flux_2_dev"), tmp_path / "dev")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "tokenizer": ["transformers", "PixtralProcessor"]}))
    plain, other = (load(str(folder), device="cpu") for folder in (folders("flux_2_dev"), copy))
    assert torch.equal(other.prompts.embed("a cat").states, plain.prompts.embed("a cat").states)


@pytest.mark.parametrize("prompt", ["A cat ", ""])
def test_pixarts_forward_is_that_of_its_own_pipeline(loaded, prompt):
    """Its text is padded there, and masked."""
    backbone, pipe = loaded("pixart"), tiny_families.make("pixart")
    schedule = backbone.schedule(3, 0.15)
    x = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(2))
    with backbone.denoiser(schedule, maps=False) as denoise:
        found = denoise(x[None], [1], [prompt])[0][0, 0]
    with torch.no_grad():
        states, mask, _, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
        sizes = {"resolution": None, "aspect_ratio": None}
        time = torch.tensor([schedule.t[1]])
        eps = pipe.transformer(x, states, time, sizes, encoder_attention_mask=mask).sample[:, :4]
    assert relative(found, (x - schedule.sigma[1] * eps) / schedule.alpha[1]) < 1e-5


def test_deepfloyds_forward_is_that_of_its_own_pipeline(loaded):
    backbone, pipe = loaded("deepfloyd_if"), tiny_families.make("deepfloyd_if")
    schedule = backbone.schedule(3, 0.15)
    x = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(2))
    with backbone.denoiser(schedule, maps=False) as denoise:
        found = denoise(x[None], [1], ["A cat "])[0][0, 0]
    with torch.no_grad():
        states, _ = pipe.encode_prompt("A cat ", do_classifier_free_guidance=False)
        eps = pipe.unet(x, schedule.t[1], states).sample[:, :3]
    assert relative(found, (x - schedule.sigma[1] * eps) / schedule.alpha[1]) < 1e-5


def test_latents_come_back_as_pictures(backbone):
    given = pictures(2)
    x = backbone.encode(given)
    assert x.dtype == torch.float32
    assert backbone.decode(x).shape == given.shape
    assert torch.allclose(backbone.encode(given[1:]), x[1:], atol=1e-5)
    # What is normalised on the way in is put back on the way out.
    codec = backbone.codec
    if backbone.net.config.in_channels == 3:
        assert torch.equal(x, given)
        return
    assert torch.allclose(codec._inward(codec.vae, codec._outward(codec.vae, x)), x, atol=1e-5)


def test_rows_are_evaluated_each_by_its_own_text_level_and_picture(backbone):
    schedule = backbone.schedule(4, 0.15, 32, 48)
    x = torch.stack([backbone.encode(pictures(2))] * 3) + noise(3, backbone.encode(pictures(2)))
    seen = []
    with backbone.denoiser(schedule, maps=True, watch=seen.append) as denoise:
        x0, maps = denoise(x, [0, 2, 3], ["", "a cat", ("a dog and a cat", "a")])
        assert x0.shape == (3, *x.shape)
        fine = isinstance(backbone, LatentTransformer) and backbone.family.patch == 1  # Sana's tokens are one latent
        assert maps.shape == (3, 3, 2, *((16, 24) if fine else (8, 12)))
        assert maps[0].max() == 0
        assert 0 < maps[1].min() < maps[1].max() < 1
        one, one_map = denoise(x[2:, 1:], [3], ["a"])
    assert seen[-1] == denoise.evaluations == 19
    assert torch.allclose(one[0, 0], x0[2, 2, 1:], atol=1e-4)
    assert torch.allclose(one_map[0, 0], maps[2, 2, 1:], atol=1e-5)
    assert not torch.allclose(x0[1], x0[2], atol=1e-3)


def test_recording_changes_no_bit_of_the_output(backbone):
    x, found = backbone.encode(pictures(2)), []
    for maps in (False, True):
        with backbone.denoiser(backbone.schedule(4, 0.15, 32, 48), maps=maps) as denoise:
            found.append(denoise(x[None], [1], ["a cat"])[0])
    assert torch.equal(*found)
    assert not any(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.net.modules())


def test_all_attention_is_the_texts_where_the_picture_asks_about_text_alone(backbone):
    """And only there; the doctor looks whether it is."""
    text = backbone.prompts.embed("a cat")
    every = replace(text, words=torch.ones_like(text.words))
    x = backbone.encode(pictures())
    with backbone.denoiser(backbone.schedule(4, 0.15, 32, 48), maps=True) as denoise:
        whole = float(denoise(x[None], [1], [(every,)])[1].mean())
    alone = backbone.map_layout(len(text.states), 4).to_text_alone
    assert (abs(whole - 1) < 1e-3) == alone, whole


def test_a_text_that_is_too_long_is_one_sentence(backbone):
    with pytest.raises(ValueError, match="shorten it"):
        backbone.prompts.embed("a cat " * 2000)


@pytest.mark.parametrize("name", ["z_image", "qwen_image"])
def test_words_are_found_inside_a_chat_template(loaded, name):
    prompts = loaded(name).prompts
    text = prompts.embed("a cat")
    assert text.words.sum() == 5  # the tiny tokenizer has a token for each letter
    assert not prompts.embed("").words.any()
    assert prompts.embed("user").words.sum() == 4  # a word of the template itself


def test_the_map_is_where_the_network_looks(loaded):
    """Joint attention, the picture first or the text first, on networks whose queries are the picture's own content.

    Where a cell of the picture and the word point the same way, attention is; everywhere else it is not.
    """
    place = torch.zeros(12, dtype=torch.bool)
    place[5:7] = True

    class Looks(torch.nn.Module):
        heads = 2

        def forward(self, q, k):
            return torch.nn.functional.scaled_dot_product_attention(q, k, k)

    net = torch.nn.ModuleDict({"attn": Looks()})
    words = torch.tensor([[False, True, False, False]])
    for layout in (Layout(12, 16, text_at=12), Layout(12, 16, image_at=4), Layout(12, 12)):
        q, k = torch.zeros(1, 2, layout.queries, 8), torch.zeros(1, 2, 4 if layout.queries == 12 else 16, 8)
        q[:, :, layout.image_at : layout.image_at + 12, 0] = 30.0 * place
        k[:, :, layout.text_at + 1, 0] = 1.0
        with token_maps(net, ["attn"], words, layout, torch.device("cpu")) as maps:
            net["attn"](q, k)
        found = maps.read()[0]
        assert found[place].min() > 0.9
        assert found[~place].max() < 0.3


def test_stable_diffusion_3_does_without_t5(folders, tmp_path):
    whole = StableDiffusion3Pipeline.from_pretrained(folders("sd3"))
    StableDiffusion3Pipeline(**{**whole.components, "text_encoder_3": None, "tokenizer_3": None}).save_pretrained(
        tmp_path / "small"
    )
    backbone = load(str(tmp_path / "small"), device="cpu")
    text = backbone.prompts.embed("a cat")
    assert text.words.sum() == 2
    assert text.states[-1].abs().max() == 0  # one for all 256


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pipeline_is_a_backbone_as_it_stands(name, loaded):
    """Nothing is moved or cast; the same numbers as from disk."""
    pipe = tiny_families.make(name)
    backbone = ledits.backbones.from_pipe(pipe)
    assert backbone.net is (pipe.components.get("transformer") or pipe.unet)
    x, found = loaded(name).encode(pictures()), []
    for each in (backbone, loaded(name)):
        with each.denoiser(each.schedule(4, 0.15, 32, 48), maps=False) as denoise:
            found.append(denoise(x[None], [1], ["a cat"])[0])
    assert relative(*found) < 1e-6


def test_words_alone_on_a_distilled_checkpoint_are_warned_of(caplog):
    pipe = tiny_families.make("z_image")
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    editor = Editor.from_pipe(pipe)
    assert editor.backbone.defaults.steps == 4
    picture = np.zeros((32, 32, 3), np.uint8)
    editor.invert(picture, source="a cat", steps=1)
    assert "distilled" not in caplog.text
    editor.invert(picture, steps=1)
    assert caplog.text.count("distilled") == 1


def test_distilled_checkpoints_are_known_by_what_they_say_of_themselves(loaded):
    assert not loaded("flux_2_klein").distilled
    klein = tiny_families.make("flux_2_klein")
    klein.register_to_config(is_distilled=True)
    assert ledits.backbones.from_pipe(klein).distilled
    turbo = tiny_families.make("sd3")
    assert not ledits.backbones.from_pipe(turbo).distilled
    turbo.register_to_config(_name_or_path="stabilityai/stable-diffusion-3.5-large-turbo")
    assert ledits.backbones.from_pipe(turbo).distilled
    assert ledits.backbones.from_pipe(turbo).defaults.steps == 4


def test_a_template_that_begins_the_text_itself_has_one_beginning():
    tokenizer, _ = tiny_families.gemma(16)
    for before in ("<bos>say: ", "say: "):
        ids, _, words = chat.tokens(tokenizer, "cat", before, "", 50)
        assert ids[0, :2].tolist().count(tokenizer.bos_token_id) == 1
        assert words.sum() == 3


def test_a_pipeline_of_no_known_family_is_one_sentence():
    class OddPipeline:
        components, _execution_device = {}, "cpu"  # noqa: RUF012

    with pytest.raises(ValueError, match="OddPipeline"):
        ledits.backbones.from_pipe(OddPipeline())


def test_one_token_does_for_all_the_zeros_of_a_t5_that_was_left_out(tmp_path):
    """A checkpoint from disk answers as diffusers' network does, which is told 256 of them."""
    pipe = tiny_families.make("sd3")
    pipe.register_modules(text_encoder_3=None, tokenizer_3=None)
    pipe.save_pretrained(tmp_path)
    merged, plain = load(str(tmp_path), device="cpu", dtype="float32"), ledits.backbones.from_pipe(pipe)
    x = torch.randn(1, 2, 4, 16, 24, generator=torch.Generator().manual_seed(3))
    answers = []
    for backbone in (merged, plain):
        with backbone.denoiser(backbone.schedule(4, 0.1), maps=True) as denoise:
            answers.append(denoise(x, [1], ["a cat", "a dog on a beach"]))
    for one, all_of_them in zip(*answers, strict=True):
        assert relative(one, all_of_them) < 1e-5
    lengths = [len(backbone.prompts.embed("a cat").states) for backbone in (merged, plain)]
    assert lengths[1] - lengths[0] == 255


@pytest.mark.skipif("krea_2" not in FAMILIES, reason="needs a newer diffusers")
def test_a_distilled_krea_2_has_a_fixed_shift_and_its_own_defaults(folders, tmp_path):
    """Its pipeline says so, and which layers its texts are read from; no part does."""
    copy = shutil.copytree(folders("krea_2"), tmp_path / "krea")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "is_distilled": True}))
    plain, distilled = (load(str(folder), device="cpu") for folder in (folders("krea_2"), copy))
    assert (plain.distilled, distilled.distilled) == (False, True)
    assert plain.schedule(4, 0.0, 64, 64).sigma != plain.schedule(4, 0.0, 1024, 1024).sigma
    assert distilled.schedule(4, 0.0, 64, 64).sigma == distilled.schedule(4, 0.0, 1024, 1024).sigma
    shift, even = math.exp(1.15), 0.75
    assert distilled.schedule(4, 0.0, 64, 64).sigma[1] == pytest.approx(shift * even / (1 + (shift - 1) * even))


def test_a_part_that_the_installed_library_does_not_know_is_named(folders, tmp_path, monkeypatch):
    copy, newer = shutil.copytree(folders("flux"), tmp_path / "flux"), "Flux9Transformer2DModel"
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "transformer": ["diffusers", newer]}))
    monkeypatch.setitem(known.FAMILIES["FluxPipeline"].parts, "transformer", (newer,))
    with pytest.raises(ValueError, match=f"{newer}, which diffusers .* does not know: pip install -U diffusers"):
        load(str(copy), device="cpu")


# What their authors, and ComfyUI, call the layers of networks that diffusers has under other names.
AUTHORS = {
    "qwen_image_21": {},
    "flux_3": {
        "image.linear.": "image.lin.", "image_cond.linear.": "image_cond.lin.", "txt.linear.": "txt.lin.",
        "timestep_embedder.linear_1.": "time_in.in_layer.", "timestep_embedder.linear_2.": "time_in.out_layer.",
        "proj_out.": "final_layer.image.linear.", "norm_out.linear.": "final_layer.image.adaLN_modulation.1.",
        "context_embedder.": "txt_in.", "x_embedders.": "emb_in.", "single_transformer_blocks.": "single_blocks.",
        "ff.linear_in.": "mlp_in.", "ff.linear_out.": "mlp_out.", "attn.to_out.0.": "attn_out.",
        "attn.norm_q.weight": "norm.query_norm.scale", "attn.norm_k.weight": "norm.key_norm.scale",
        "attn.to_q.": "q_proj.", "attn.to_k.": "k_proj.", "attn.to_v.": "v_proj.",
    },
    "krea_2": {
        "transformer_blocks.": "blocks.", "img_in.": "first.", "time_embed.linear_1.": "tmlp.0.",
        "time_embed.linear_2.": "tmlp.2.", "time_mod_proj.": "tproj.1.", "txt_in.norm.weight": "txtmlp.0.scale",
        "txt_in.linear_1.": "txtmlp.1.", "txt_in.linear_2.": "txtmlp.3.", "text_fusion.": "txtfusion.",
        "final_layer.linear.": "last.linear.", "final_layer.norm.weight": "last.norm.scale",
        "final_layer.scale_shift_table": "last.modulation.lin", ".scale_shift_table": ".mod.lin",
        ".attn.to_q.": ".attn.wq.", ".attn.to_k.": ".attn.wk.", ".attn.to_v.": ".attn.wv.",
        ".attn.to_out.0.": ".attn.wo.", ".attn.to_gate.": ".attn.gate.",
        ".attn.norm_q.weight": ".attn.qknorm.qnorm.scale", ".attn.norm_k.weight": ".attn.qknorm.knorm.scale",
        ".norm1.weight": ".prenorm.scale", ".norm2.weight": ".postnorm.scale", ".ff.": ".mlp.",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in AUTHORS if name in FAMILIES])
def test_a_network_is_read_from_a_file_in_its_authors_names(name, loaded, folders, tmp_path):
    tensors, whole = {}, loaded(name)
    for key, value in whole.net.state_dict().items():
        other = key
        for ours, theirs in AUTHORS[name].items():
            other = re.sub(rf"(^|\.){re.escape(ours.lstrip('.'))}", rf"\1{theirs.lstrip('.')}", other)
        if (key, name) == ("norm_out.linear.weight", "flux_3"):
            value = torch.cat(value.chunk(2)[::-1])
        tensors[other] = value.flatten() if other.endswith(".mod.lin") else value.contiguous()
    if name == "qwen_image_21":  # ComfyUI's
        for gate in [key for key in tensors if key.endswith("gate_layer.weight")]:
            both = [tensors.pop(gate), tensors.pop(gate.replace("gate_layer", "proj"))]
            tensors[gate.replace("gate_layer", "gate_up")] = torch.cat(both)
        tensors = {f"model.diffusion_model.{key}": value for key, value in tensors.items()}
    save_file(tensors, tmp_path / "net.safetensors")
    assert single.told(tmp_path / "net.safetensors").family in known.FAMILIES
    read = load(str(tmp_path / "net.safetensors"), base=str(folders(name)), device="cpu", dtype="float32")
    x, found = whole.encode(pictures()), []
    for each in (whole, read):
        with each.denoiser(each.schedule(4, 0.15, 32, 48), maps=False) as denoise:
            found.append(denoise(x[None], [1], ["a cat"])[0])
    assert relative(*found) < 1e-6


@pytest.mark.skipif("qwen_image_21" not in FAMILIES, reason="needs a newer diffusers")
def test_a_turbo_keeps_to_the_levels_that_it_was_distilled_for(folders, tmp_path):
    levels = [1.0, 0.978453, 0.95418, 0.926626, 0.89508, 0.845148, 0.704534, 0.414568]  # Qwen-Image-2.1-Turbo's
    copy = shutil.copytree(folders("qwen_image_21"), tmp_path / "qwen")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "sample_sigmas": levels}))
    config = json.loads((copy / "scheduler/scheduler_config.json").read_text())
    config |= {"use_dynamic_shifting": False, "shift": 1.0}
    (copy / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    backbone = load(str(copy), device="cpu")
    assert backbone.distilled
    assert backbone.schedule(8, 0.0, 64, 64).sigma == pytest.approx([*levels, 0.0])
    assert backbone.schedule(3, 0.625, 64, 64).sigma == pytest.approx([*levels[5:], 0.0])
    start = backbone.schedule(4, backbone.defaults.skip, 64, 64).sigma[0]
    assert start == pytest.approx(0.866, abs=0.005)  # as every flow begins
