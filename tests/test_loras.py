"""LoRAs on SDXL and FLUX, as trainers write them: the latents of diffusers' pipeline; chosen by name for a request."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
)
from safetensors.torch import load_file, save_file

import tiny_families
from ledits import Editor
from ledits.asked.loading import Lora, chosen, names
from ledits.backbones import load
from ledits.backbones.transformer import pack, unpack
from ledits.cli import main
from ledits.picture import image
from ledits.server.schemas import InversionIn
from serving import png, served

from conftest import picture, relative, scheduler, tiny

CPU = {"device": "cpu", "dtype": "float32"}
# Layers by diffusers' names, and what kohya's trainer calls them. Of SDXL's UNet it has the authors' names, and of
# FLUX's attention one matrix for queries, keys and values together.
TEXTS = {
    f"text_encoder.text_model.encoder.layers.0.self_attn.{n}": f"lora_te1_text_model_encoder_layers_0_self_attn_{n}"
    for n in ("q_proj", "out_proj")
}
XL_LAYERS = {
    "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q":
        "lora_unet_input_blocks_3_1_transformer_blocks_0_attn2_to_q",
    "unet.mid_block.attentions.0.transformer_blocks.1.attn1.to_k":
        "lora_unet_middle_block_1_transformer_blocks_1_attn1_to_k",
    "unet.up_blocks.0.attentions.1.proj_in": "lora_unet_output_blocks_1_1_proj_in",
    **TEXTS,
    "text_encoder_2.text_model.encoder.layers.0.self_attn.v_proj":
        "lora_te2_text_model_encoder_layers_0_self_attn_v_proj",
    "text_encoder_2.text_model.encoder.layers.0.self_attn.out_proj":
        "lora_te2_text_model_encoder_layers_0_self_attn_out_proj",
}  # fmt: skip
FLUX_LAYERS = {
    "transformer.transformer_blocks.0.attn.to_out.0": "lora_unet_double_blocks_0_img_attn_proj",
    "transformer.transformer_blocks.1.ff.net.0.proj": "lora_unet_double_blocks_1_img_mlp_0",
    "transformer.single_transformer_blocks.0.proj_out": "lora_unet_single_blocks_0_linear2",
    **TEXTS,
}  # fmt: skip


def layer(pipe, name):
    """A pipeline's layer, whatever its text encoder calls the model within it."""
    part, _, path = name.partition(".")
    module = getattr(pipe, part)
    paths = [path, path.removeprefix("text_model.")]
    found = dict(module.named_modules())
    return next(found[each] for each in paths if each in found)


def tensors(pipe, layers, layout, seed, rank=2):
    """A LoRA for these layers; `layout` is "diffusers", "kohya", or "dora", kohya's with magnitudes."""
    draw, found = torch.Generator().manual_seed(seed), {}
    for ours, theirs in layers.items():
        held = layer(pipe, ours)
        down = torch.randn(rank, held.in_features, generator=draw)
        up = torch.randn(held.out_features, rank, generator=draw)
        if layout == "diffusers":
            found |= {f"{ours}.lora_A.weight": down, f"{ours}.lora_B.weight": up}
            continue
        found |= {f"{theirs}.lora_down.weight": down, f"{theirs}.lora_up.weight": up}
        found[f"{theirs}.alpha"] = torch.tensor(1.0 + seed)
        if layout == "dora":
            found[f"{theirs}.dora_scale"] = 0.5 + torch.rand(held.out_features, 1, generator=draw)
    return found


def fused(pipe, seed):
    """Queries, keys and values of FLUX in one, as kohya's trainer has them."""
    width, draw = pipe.transformer.transformer_blocks[0].attn.to_q.in_features, torch.Generator().manual_seed(seed)
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    return {
        f"{name}.lora_down.weight": torch.randn(3, width, generator=draw),
        f"{name}.lora_up.weight": torch.randn(3 * width, 3, generator=draw), f"{name}.alpha": torch.tensor(2.0),
    }  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Both models, and for each of them LoRAs in each layout."""
    path = tmp_path_factory.mktemp("loras")
    xl = tiny(StableDiffusionXLPipeline, scheduler("ddim"))
    flux = tiny_families.make("flux")
    for name, pipe, layers in (("xl", xl, XL_LAYERS), ("flux", flux, FLUX_LAYERS)):
        pipe.save_pretrained(path / name)
        for seed, layout in enumerate(("diffusers", "kohya", *(("dora",) if name == "xl" else ()))):
            save_file(tensors(pipe, layers, layout, seed), path / f"{name}-{layout}.safetensors")
    save_file(fused(flux, 5), path / "flux-fused.safetensors")
    return path


def diffusers_pipe(home, name, files, weights):
    kind = StableDiffusionXLPipeline if name == "xl" else FluxPipeline
    pipe = kind.from_pretrained(home / name)
    pipe.set_progress_bar_config(disable=True)
    for k, file in enumerate(files):
        pipe.load_lora_weights(load_file(home / file), adapter_name=f"a{k}")
    if files:
        pipe.set_adapters([f"a{k}" for k in range(len(files))], list(weights))
    return pipe


def theirs(pipe, name, x):
    """The clean picture that the network sees in x by diffusers' own pipeline, in a single step."""
    given = {"num_inference_steps": 1, "output_type": "latent"}
    if name == "flux":
        pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift_terminal=None)
        out = pipe("a cat", latents=pack(x), height=32, width=64, guidance_scale=1.5, **given).images
        return unpack(out, 16, 32)
    seen = []
    pipe.unet.register_forward_hook(lambda module, args, kwargs, out: seen.append(out[0]), with_kwargs=True)
    pipe("a cat", latents=x.clone(), height=32, width=64, guidance_scale=1.0, **given)
    return seen[0]


def ours(backbone, name, x):
    if name == "flux":
        with backbone.denoiser(backbone.schedule(1, 0.0, 32, 64), maps=False) as denoise:
            return denoise(x[None], [0], ["a cat"])[0][0, 0]
    with backbone.telling():
        text = backbone.prompts.embed("a cat")
    told = backbone.prompts.conditions([text], 32, 64)
    with torch.inference_mode(), backbone.passing():
        return backbone.unet(x, 1.0, text.states[None], added_cond_kwargs=told).sample


CASES = [
    ("xl", ("xl-diffusers.safetensors",), (1.0,)),
    ("xl", ("xl-kohya.safetensors",), (0.7,)),
    ("xl", ("xl-dora.safetensors",), (1.0,)),
    ("xl", ("xl-diffusers.safetensors", "xl-kohya.safetensors"), (0.5, -0.7)),
    ("flux", ("flux-diffusers.safetensors",), (1.0,)),
    ("flux", ("flux-kohya.safetensors",), (0.7,)),
    ("flux", ("flux-fused.safetensors",), (1.0,)),
    ("flux", ("flux-diffusers.safetensors", "flux-kohya.safetensors"), (0.5, -0.7)),
]


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # diffusers' own, in the pipeline beside ours
@pytest.mark.parametrize(("name", "files", "weights"), CASES)
def test_loras_give_the_latents_of_diffusers(home, name, files, weights):
    x = torch.randn(1, 4, 16, 32, generator=torch.Generator().manual_seed(2))
    expected = theirs(diffusers_pipe(home, name, files, weights), name, x)
    asked = [f"{home / file}:{weight}" for file, weight in zip(files, weights, strict=True)]
    backbone = load(str(home / name), lora=asked, **CPU)
    plain = ours(load(str(home / name), **CPU), name, x)
    assert relative(ours(backbone, name, x), expected) < 3e-5
    assert relative(plain, expected) > 1e-3
    assert len(backbone.additions) == len(files)
    # Taken off again it is the plain model, and says so; put back it is what it was.
    without = backbone.choosing("none")
    assert without.additions == ()
    assert relative(ours(without, name, x), plain) < 1e-5
    assert relative(ours(backbone, name, x), expected) < 3e-5


ONE, TWO = "xl-diffusers.safetensors", "xl-kohya.safetensors"


@pytest.fixture(scope="module")
def both(home):
    """An editor with two LoRAs to choose among, one of them loaded at half its weight."""
    return Editor(str(home / "xl"), lora=[f"{home / ONE}:0.5", str(home / TWO)], **CPU)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.parametrize(
    ("use", "loaded"),
    [
        ("xl-diffusers", [f"{ONE}:0.5"]), ("xl-diffusers:0.9", [f"{ONE}:0.9"]), ("xl-kohya", [TWO]), ("none", []),
        ("xl-kohya:-0.4, xl-diffusers:1", [f"{ONE}:1", f"{TWO}:-0.4"]),
    ],
)  # fmt: skip
def test_chosen_loras_are_those_alone(home, both, use, loaded):
    """A choice edits as a model that was loaded with nothing else, and an inversion of either is the other's as it is:
    the token is the same, so that nothing is predicted again.
    """
    alone = Editor(str(home / "xl"), lora=[f"{home / file}" for file in loaded], **CPU)
    first, second = (
        editor.invert(picture(), steps=3, **more) for editor, more in ((both, {"use_lora": use}), (alone, {}))
    )
    assert first.editor.backbone.additions == second.editor.backbone.additions
    assert first.provenance.state == second.provenance.state
    assert relative(first.path.denoised, second.path.denoised) < 1e-5
    assert first.latent_error() < 1e-5
    away = first.edit("cat->dog").rgb.astype(int) - second.edit("cat->dog").rgb
    assert abs(away).max() <= 1
    assert first.current() is first


def test_a_kept_inversion_brings_its_choice_along(both, tmp_path):
    """It is opened with the same LoRAs, refused where one of them is not loaded, and so is its recipe."""
    made = both.invert(picture(), steps=3, use_lora="xl-kohya:0.3")
    made.save(tmp_path / "a.safetensors")
    opened = both.open_inversion(tmp_path / "a.safetensors", picture())
    assert opened.editor.backbone.additions == made.editor.backbone.additions
    assert opened.current() is opened
    edited = opened.edit("+cat")
    assert (edited.rgb == made.edit("+cat").rgb).all()
    assert edited.recipe.additions == made.editor.backbone.additions
    assert (both.repeat(picture(), edited.recipe).rgb == edited.rgb).all()
    without = Editor(both.backbone.choosing("none"))
    assert without.edit(picture(), "+cat", steps=3).recipe.additions == ()


OPENED = {
    "chosen with its weight, loaded at another": (["ONE:0.5", "TWO"], "xl-kohya:0.3", ["ONE", "TWO:0.9"], True),
    "chosen without a weight, loaded at the same": (["ONE:0.5", "TWO"], "xl-kohya", ["TWO"], True),
    "chosen without a weight, loaded at another": (["ONE:0.5", "TWO"], "xl-kohya", ["TWO:0.9"], False),
    "another file of the same name": (["TWO"], "xl-kohya:0.3", ["OTHER"], False),
    "nothing chosen, others loaded": (["ONE:0.5", "TWO"], None, ["ONE:0.5"], False),
    "nothing chosen, none loaded": (["ONE:0.5"], None, [], False),
    "none chosen, others loaded": (["ONE:0.5"], "none", ["ONE", "TWO"], True),
}


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.parametrize("case", OPENED)
def test_which_inversions_are_taken_as_they_are(home, tmp_path, case):
    """All others are predicted again by what acts now, and then replay as exactly."""
    loaded, use, then, taken = OPENED[case]
    (tmp_path / "other").mkdir()
    save_file({n: 2 * each for n, each in load_file(home / TWO).items()}, tmp_path / "other" / TWO)
    files = {"ONE": home / ONE, "TWO": home / TWO, "OTHER": tmp_path / "other" / TWO}

    def editor(said):
        return Editor(
            str(home / "xl"), lora=[re.sub("^[A-Z]+", lambda m: str(files[m[0]]), each) for each in said], **CPU
        )

    editor(loaded).invert(picture(), steps=2, use_lora=use).save(tmp_path / "a.safetensors")
    opened = editor(then).open_inversion(tmp_path / "a.safetensors", picture())
    assert (opened.current() is opened) == taken
    assert opened.latent_error() < 1e-5


def test_the_command_line_chooses_and_repeats_a_choice(home, tmp_path, capsys):
    picture().save(tmp_path / "a.png")
    loaded = ["--lora", f"{home / ONE}:0.5", "--lora", str(home / TWO), "--model", str(home / "xl"), "--device", "cpu"]
    words = ["edit", str(tmp_path / "a.png"), "--dtype", "float32", "--json", *loaded]
    for more in (["+cat", "--steps", "2", "--use-lora", "xl-kohya:0.3", "-o", str(tmp_path / "b.png")],
                 ["--recipe", str(tmp_path / "b.png"), "-o", str(tmp_path / "c.png")]):  # fmt: skip
        with pytest.raises(SystemExit) as exit:
            main([*words, *more])
        assert exit.value.code == 0, capsys.readouterr().err
    made = [image.read_recipe(tmp_path / name) for name in ("b.png", "c.png")]
    assert made[0] == made[1]
    assert made[0]["settings"]["use_lora"] == "xl-kohya:0.3"
    assert (image.read(tmp_path / "b.png").rgb == image.read(tmp_path / "c.png").rgb).all()
    with pytest.raises(SystemExit) as exit:
        main([*words, "+cat", "--use-lora", "what", "-o", str(tmp_path / "d.png")])
    assert exit.value.code == 2
    assert "'what' is not loaded: xl-diffusers, xl-kohya can be chosen" in capsys.readouterr().out


def test_a_choice_of_what_is_not_loaded_is_one_sentence(both, home, tmp_path):
    both.invert(picture(), steps=2, use_lora="xl-kohya").save(tmp_path / "a.safetensors")
    plain = Editor(str(home / "xl"), **CPU)
    for call in (
        lambda: plain.open_inversion(tmp_path / "a.safetensors", picture()),
        lambda: plain.edit(picture(), "+cat", use_lora="xl-kohya"),
    ):
        with pytest.raises(ValueError, match="LoRA 'xl-kohya' is not loaded: the model was loaded without any"):
            call()
    owned = Editor.from_pipe(StableDiffusionXLPipeline.from_pretrained(home / "xl"))
    with pytest.raises(ValueError, match=r"a pipeline's own are chosen in it, by pipe\.set_adapters"):
        owned.edit(picture(), "+cat", use_lora="none")
    with pytest.raises(ValueError, match="'what' is not loaded: xl-diffusers, xl-kohya can be chosen, or none"):
        both.invert(picture(), use_lora="what:0.5")
    with pytest.raises(ValueError, match="each once"):
        both.invert(picture(), use_lora="xl-kohya, xl-kohya:2")
    with pytest.raises(ValueError, match="from -100 to 100"):
        both.invert(picture(), use_lora="xl-kohya:1000")


def test_requests_with_other_loras_do_not_meet(both):
    """The networks are shared: each pass has its own choice, whoever else is at work."""
    choices = ["none", "xl-kohya", "xl-diffusers:2", "xl-diffusers, xl-kohya:-1"]

    def edited(use):
        return both.edit(picture(), "cat->dog", steps=4, use_lora=use).rgb

    alone = [edited(use) for use in choices]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(edited, choices * 2))
    for k, found in enumerate(together):
        assert (found == alone[k % 4]).all(), choices[k % 4]
    assert len({each.tobytes() for each in alone}) == 4


def test_the_server_offers_its_loras_by_name(both, tmp_path):
    content = png(1)
    with served(tmp_path, editors={"xl": both}) as server, server.client() as client:
        (model,) = client.get("/v1/models").json()["data"]
        assert model["loras"] == {"xl-diffusers": 0.5, "xl-kohya": 1.0}
        said = []
        for use in (None, "none", "xl-kohya:0.5"):
            fields = {"steps": "2", **({} if use is None else {"use_lora": use})}
            made = client.post("/v1/inversions", files={"image": content}, data=fields).json()
            assert made["use_lora"] == (use or "")
            got = client.post(f"/v1/inversions/{made['id']}/edits", json={"edits": ["+cat"], "previews": False}).json()
            said.append([each.rpartition(":")[2] for each in got["recipe"].get("additions", [])])
            again = client.post(
                "/v1/images/edits", files={"image": content}, data={"prompt": "+cat", "steps": "2", **fields}
            )
            assert again.status_code == 200, again.text
        assert said == [["0.5", "1"], [], ["0.5"]]
        refused = client.post("/v1/inversions", files={"image": content}, data={"use_lora": "what"})
        assert refused.status_code == 400
        assert "can be chosen" in refused.json()["error"]["message"]
    assert InversionIn.model_fields["use_lora"].description


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("none", []), ("a", [("a", None)]), ("a:0.5, b", [("a", 0.5), ("b", None)]), (" a:1 ", [("a", 1.0)]),
    ],
)  # fmt: skip
def test_how_loras_are_chosen(text, found):
    assert chosen(text) == found


def test_loras_are_called_by_their_files():
    asked = [Lora("a/detail.safetensors"), Lora("b/detail.safetensors"), Lora("owner/name"), Lora("none.safetensors")]
    assert names(asked) == ["detail", "detail-2", "name", "none-2"]


LINEAR = "lora_unet_single_blocks_0_linear1"


def linear(width, seed=0, rank=4):
    """A LoRA for queries, keys, values and feed-forward layer of a single block of FLUX in one, as kohya's is."""
    draw = torch.Generator().manual_seed(seed)
    down, up = torch.randn(rank, width, generator=draw), torch.randn(7 * width, rank, generator=draw)
    return {f"{LINEAR}.lora_down.weight": down, f"{LINEAR}.lora_up.weight": up, f"{LINEAR}.alpha": torch.tensor(2.0)}


def test_the_fused_layer_of_a_single_block_is_read_at_its_real_width(tmp_path):
    """diffusers' conversion knows FLUX's own width alone; what reaches the four layers is the product of the file's."""
    pipe = tiny_families.make("flux")
    with torch.device("meta"):
        net = FluxTransformer2DModel.from_config(
            pipe.transformer.config, num_layers=0, num_attention_heads=24, attention_head_dim=128,
            axes_dims_rope=(16, 56, 56),
        )  # fmt: skip
    net = net.to(torch.bfloat16).to_empty(device="cpu")
    for each in net.parameters():
        each.data.fill_(0.01)
    pipe.register_modules(transformer=net)
    pipe.save_pretrained(tmp_path / "flux")
    file = linear(3072)
    save_file(file, tmp_path / "fused.safetensors")
    backbone = load(str(tmp_path / "flux"), device="cpu", dtype="bfloat16", lora=[f"{tmp_path}/fused.safetensors:0.5"])
    block, begin = backbone.net.single_transformer_blocks[0], 0
    expected = 0.5 * 2 / 4 * file[f"{LINEAR}.lora_up.weight"] @ file[f"{LINEAR}.lora_down.weight"]
    for held in (block.attn.to_q, block.attn.to_k, block.attn.to_v, block.proj_mlp):
        (name,) = held.lora_A
        found = held.scaling[name] * held.lora_B[name].weight.float() @ held.lora_A[name].weight.float()
        assert relative(found, expected[begin : begin + len(found)]) < 5e-3  # of numbers in 16 bits
        begin += len(found)


def test_a_fused_layer_of_another_width_is_refused_with_the_reason(home, tmp_path):
    save_file(linear(32), tmp_path / "narrow.safetensors")
    with pytest.raises(ValueError, match=r"narrow.safetensors can't be put on .*: its sizes are not those that"):
        load(str(home / "flux"), lora=[str(tmp_path / "narrow.safetensors")], **CPU)
