"""Models, parts and additions in single files, as most people have them: told by names, read, equal to folders."""

import importlib.util
import json
import struct
import time

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

import original_files
import tiny_families
from ledits import Editor
from ledits.asked.loading import Embedding, Loading, Lora
from ledits.backbones import clip_words, load
from ledits.cli import main
from ledits.files import checkpoints, families, single
from test_network_state import lora

from conftest import picture, random_parts, relative, scheduler, tiny

KINDS = ("1", "2", "xl")
CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """For each kind a folder in diffusers' layout, and the same as one file with its authors' names."""
    home = tmp_path_factory.mktemp("single")
    for kind in KINDS:
        parts = original_files.parts(kind)
        tiny(
            StableDiffusionXLPipeline if kind == "xl" else StableDiffusionPipeline, scheduler("ddim"), parts
        ).save_pretrained(home / kind)
        save_file(original_files.whole(parts, kind), home / f"{kind}.safetensors", {"format": "pt"})
    return home


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single") / "sd"
    tiny(StableDiffusionPipeline, scheduler("ddim"), random_parts(levels=3)).save_pretrained(folder)
    return folder


def seen(backbone, prompt="a cat"):
    x = torch.randn(1, 1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    schedule = backbone.schedule(3, 0.3, 32, 32)
    with backbone.denoiser(schedule, maps=False) as denoise:
        found = denoise(x, [1], [prompt])[0]
    return torch.cat([found.flatten(), backbone.decode(x[0]).flatten()])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_what_the_folder_is(made, kind):
    folder, file = str(made / kind), str(made / f"{kind}.safetensors")
    expected = seen(load(folder, device="cpu", dtype="float32"))
    backbone = load(file, base=folder, device="cpu", dtype="float32")
    assert relative(seen(backbone), expected) < 1e-5
    assert backbone.name == file
    half = {name: each.half() for name, each in load_file(file).items()}
    save_file(half, made / "half.safetensors")
    assert (
        relative(seen(load(str(made / "half.safetensors"), base=folder, device="cpu", dtype="float32")), expected)
        < 0.02
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_a_folder_that_transformers_5_wrote_is_read(made, tmp_path, kind):
    """diffusers' conversion script takes the names of CLIP's tensors from the folder, where their first part is left
    out by now; of Stable Diffusion 2's it then takes them as they are.
    """
    tensors = load_file(made / f"{kind}.safetensors")
    if kind == "2":
        tensors = {name: each for name, each in tensors.items() if not name.startswith("cond_stage_model.")}
        encoder = load_file(made / "2/text_encoder/model.safetensors")
        tensors |= {f"cond_stage_model.transformer.{name}": each for name, each in encoder.items()}
    short = {name.replace(".transformer.text_model.", ".transformer."): each for name, each in tensors.items()}
    save_file(short, tmp_path / "a.safetensors")
    backbone = load(str(tmp_path / "a.safetensors"), base=str(made / kind), **CPU)
    assert relative(seen(backbone), seen(load(str(made / kind), **CPU))) < 1e-5


def test_a_file_edits_as_its_folder_does(made):
    """The same bytes, from the front door."""
    options = {"device": "cpu", "dtype": "float32"}
    both = Editor(str(made / "1"), **options), Editor(str(made / "1.safetensors"), base=str(made / "1"), **options)
    first, second = (editor.edit(picture(), "cat->dog", steps=3).rgb for editor in both)
    assert (first == second).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_one_sentence(made, tmp_path, kind):
    tensors = load_file(made / f"{kind}.safetensors")
    for lost in (
        "input_blocks.1.0.in_layers.2.weight",
        "first_stage_model.decoder.conv_out.weight",
        "resblocks.0.ln_1",
    ):
        left = {name: each for name, each in tensors.items() if lost not in name}
        if len(left) < len(tensors):
            save_file(left, tmp_path / "damaged.safetensors")
            with pytest.raises(ValueError, match=r"lacks|broken|known here") as error:
                load(str(tmp_path / "damaged.safetensors"), base=str(made / kind), device="cpu")
            assert "\n" not in str(error.value)
    save_file(tensors | {"model.diffusion_model.odd.weight": torch.zeros(3)}, tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match=r"has \d+ numbers and its network takes \d+"):
        load(str(tmp_path / "more.safetensors"), base=str(made / kind), device="cpu")


@pytest.mark.parametrize(
    ("more", "metadata", "says"),
    [
        ({}, {}, {}),
        ({"v_pred": torch.zeros(0)}, {}, {"prediction_type": "v_prediction"}),
        (
            {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, {},
            {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        ),
        ({}, {"modelspec.prediction_type": "v"}, {"prediction_type": "v_prediction"}),
        ({}, {"modelspec.prediction_type": "epsilon"}, {}),
        ({}, {"ss_v_parameterization": "True"}, {"prediction_type": "v_prediction"}),
    ],
)  # fmt: skip
def test_what_a_file_predicts_is_told_by_keys_or_metadata(made, tmp_path, more, metadata, says):
    path = tmp_path / "a.safetensors"
    save_file(load_file(made / "xl.safetensors") | more, path, metadata)
    assert single.prediction(single.told(path)) == says
    backbone = load(str(path), base=str(made / "xl"), device="cpu", dtype="float32")
    assert backbone.prediction == says.get("prediction_type", "epsilon")
    zero = backbone.schedule(4, 0.0).alpha[0]
    assert (zero == 0) == ("rescale_betas_zero_snr" in says)


def claimed(path, shapes, metadata=None):
    """A file with the header of a model of full size, and no more than its header on the disk."""
    end, entries = 0, {}
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries | ({"__metadata__": metadata} if metadata else {})).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
    return path


_SD = {"time_embed.0.weight": (1280, 320), "input_blocks.0.0.weight": (320, 4, 3, 3)}
_ATTENTION = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
FILES = {
    "SD 1": ({**_SD, _ATTENTION: (320, 768)}, "StableDiffusionPipeline"),
    "SD 2": ({**_SD, _ATTENTION: (320, 1024)}, "StableDiffusionPipeline"),
    "SDXL": ({**_SD, "label_emb.0.0.weight": (1280, 2816)}, "StableDiffusionXLPipeline"),
    "FLUX.1": (
        {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "vector_in.in_layer.weight": (3072, 768)},
        "FluxPipeline",
    ),
    "Chroma": (
        {"distilled_guidance_layer.in_proj.bias": (5120,), "double_blocks.0.img_attn.norm.key_norm.scale": (128,)},
        "ChromaPipeline",
    ),
    "FLUX.2": ({"single_stream_modulation.lin.weight": (18432, 6144)}, "Flux2Pipeline"),
    "SD3": ({"joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,)}, "StableDiffusion3Pipeline"),
    "Z-Image": ({"cap_pad_token": (1, 3840), "layers.0.adaLN_modulation.0.weight": (15360, 256)}, "ZImagePipeline"),
    "Lumina 2": (
        {"cap_embedder.0.weight": (2304,), "layers.0.adaLN_modulation.1.weight": (9216, 1024)}, "Lumina2Pipeline"
    ),
    "Qwen-Image": (
        {"txt_norm.weight": (3584,), "transformer_blocks.0.attn.add_q_proj.weight": (3072, 3072)}, "QwenImagePipeline"
    ),
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("kind", FILES)
def test_a_family_is_told_by_the_names_of_tensors_without_reading_them(tmp_path, kind, prefix):
    shapes, family = FILES[kind]
    path = claimed(tmp_path / "a.safetensors", {prefix + name: shape for name, shape in shapes.items()})
    began = time.perf_counter()
    found = single.told(path)
    assert time.perf_counter() - began < 1
    assert (found.kind, found.family) == ("network", family)


# Files of these are told by nothing yet: a UNet of pixels has the names of Stable Diffusion's, and PixArt is not known.
NO_ROW = {"deepfloyd_if", "pixart"}
# Their files have the names of another one's: which it is, is asked of the folder that has the rest.
SHARED = {"flux_2_klein": "Flux2Pipeline"}


@pytest.mark.parametrize("name", [name for name in tiny_families.MAKE if name not in NO_ROW])
def test_networks_as_diffusers_saves_them_are_told_too(tmp_path, name):
    pipe = tiny_families.make(name)
    save_file({n: each.contiguous() for n, each in pipe.transformer.state_dict().items()}, tmp_path / "a.safetensors")
    assert single.told(tmp_path / "a.safetensors").family == SHARED.get(name, families.named(type(pipe).__name__))


def test_shipped_configurations_are_those_of_the_families(tmp_path):
    """SD 1.x, 2.x and XL are told by the width of their attention to text."""
    for kind, folder in (
        ("SD 1", "stable-diffusion-1"),
        ("SD 2", "stable-diffusion-2"),
        ("SDXL", "stable-diffusion-xl"),
    ):
        shapes, family = FILES[kind]
        names = {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}
        file = single.told(claimed(tmp_path / "a.safetensors", names | {"first_stage_model.a": (1,)}))
        found = checkpoints.examine(checkpoints.layout(file), "a")
        assert (file.kind, found.folder.name, found.family) == ("model", folder, family)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({**FILES["SD 1"][0], "input_blocks.0.0.weight": (320, 9, 3, 3)}, "inpainting"),
        ({**FILES["SD 1"][0], "input_blocks.0.0.weight": (320, 8, 3, 3)}, "instructions"),
        ({**FILES["SD 1"][0], _ATTENTION: (320, 512)}, "another kind"),
    ],
)
def test_files_that_can_not_be_edited_with_say_why(tmp_path, shapes, says):
    names = {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}
    path = claimed(tmp_path / "a.safetensors", names | {"first_stage_model.a": (1,)})
    with pytest.raises(ValueError, match=says):
        load(str(path), device="cpu")


def test_a_network_alone_needs_the_rest(tmp_path):
    path = claimed(tmp_path / "a.safetensors", FILES["FLUX.1"][0])
    with pytest.raises(ValueError, match="network of a FluxPipeline alone: give a folder"):
        load(str(path), device="cpu")


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path, sd):
    """And that command makes a file of it, in a process that reads tensors alone."""
    import shlex
    import subprocess
    import sys

    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": {"a.weight": torch.ones(2)}, "step": 3}, path)
    with pytest.raises(ValueError, match="is a pickle") as error:
        load(str(path), device="cpu")
    command = str(error.value).partition("convert it first, ")[2]
    words = shlex.split(command)
    subprocess.run([sys.executable, *words[1:]], check=True)
    assert load_file(path.with_suffix(".safetensors"))["a.weight"].tolist() == [1, 1]


def eight_bits(tensors):
    """As ComfyUI's fp8_scaled files: matrices in 8 bits, a number beside each."""
    found = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, each in tensors.items():
        if each.dim() == 2 and name.endswith(".weight"):
            scale = each.abs().max() / 448
            found[name] = (each / scale).to(torch.float8_e4m3fn)
            found[name.removesuffix(".weight") + ".scale_weight"] = scale.float()
        else:
            found[name] = each
    return {name: each.contiguous() for name, each in found.items()}


@pytest.mark.parametrize("name", ["qwen_image", "sd3", "flux"])
def test_scaled_weights_of_eight_bits_are_read(tmp_path, name):
    pipe = tiny_families.make(name)
    pipe.save_pretrained(tmp_path / name)
    expected = seen(load(str(tmp_path / name), device="cpu", dtype="float32"))
    tensors = {f"model.diffusion_model.{n}": each for n, each in pipe.transformer.state_dict().items()}
    save_file(eight_bits(tensors), tmp_path / "a.safetensors")
    backbone = load(str(tmp_path / "a.safetensors"), base=str(tmp_path / name), device="cpu", dtype="float32")
    assert 1e-6 < relative(seen(backbone), expected) < 0.2


def test_split_files_take_the_place_of_a_folders_parts(tmp_path):
    """Network, text encoders and autoencoder as ComfyUI keeps them; only configurations and words are the folder's."""
    pipe = tiny_families.make("flux")
    pipe.save_pretrained(tmp_path / "flux")
    expected = seen(load(str(tmp_path / "flux"), device="cpu", dtype="float32"))
    files = {}
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        path = next((tmp_path / "flux" / part).glob("*.safetensors"))
        files[part] = path.rename(tmp_path / f"{part}.safetensors")
    backbone = load(
        str(files["transformer"]), base=str(tmp_path / "flux"), vae=str(files["vae"]), device="cpu", dtype="float32",
        text_encoder=[str(files["text_encoder_2"]), str(files["text_encoder"])],
    )  # fmt: skip
    assert relative(seen(backbone), expected) < 1e-6
    with pytest.raises(ValueError, match=r"is a network of FluxPipeline|where a text encoder"):
        load(str(files["transformer"]), base=str(tmp_path / "flux"), text_encoder=[str(files["vae"])], device="cpu")


@pytest.mark.parametrize("names", ["diffusers", "authors"])
def test_another_autoencoder_is_used_and_named(sd, tmp_path, names):
    torch.manual_seed(8)
    other = AutoencoderKL(**{k: v for k, v in load(str(sd), device="cpu").codec.vae.config.items() if k[0] != "_"})
    tensors = other.state_dict() if names == "diffusers" else original_files.vae_tensors(other)
    save_file({name: each.contiguous() for name, each in tensors.items()}, tmp_path / "vae.safetensors")
    options = {"device": "cpu", "dtype": "float32"}
    plain, better = load(str(sd), **options), load(str(sd), **options, vae=tmp_path / "vae.safetensors")
    assert plain.fingerprint != better.fingerprint
    assert better.additions[0].startswith("vae ")
    x = torch.randn(1, 4, 8, 8)
    assert relative(better.decode(x), other.decode(x / other.config.scaling_factor).sample.clamp(-1, 1)) < 1e-4


def test_previews_are_drawn_by_a_small_autoencoder_and_results_are_not(sd, tmp_path):
    AutoencoderTiny(latent_channels=4).save_pretrained(tmp_path / "tiny")
    plain, small = (Editor(str(sd), device="cpu", tiny_vae=where) for where in (None, str(tmp_path / "tiny")))
    AutoencoderTiny(latent_channels=16).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="latents of 16 channels"):
        Editor(str(sd), device="cpu", tiny_vae=str(tmp_path / "other"))
    shown, result = [], []
    for editor in (plain, small):
        replay = editor.invert(picture(), steps=2).steps("+cat")
        shown.append([step.preview().tobytes() for step in replay][-1])
        result.append(replay.result().rgb)
    assert (result[0] == result[1]).all()
    assert shown[0] != shown[1]


def kohya(tensors, alpha=1.0):
    """A LoRA in the layout of kohya's trainer."""
    found = {}
    for name, each in tensors.items():
        stem, _, kind = name.removeprefix("unet.").rpartition(".lora_")
        flat = "lora_unet_" + stem.replace(".", "_")
        found[f"{flat}.lora_{'down' if kind[0] == 'A' else 'up'}.weight"] = each
        found[f"{flat}.alpha"] = torch.tensor(alpha)
    return found


@pytest.fixture(scope="module")
def loras(sd, tmp_path_factory):
    home = tmp_path_factory.mktemp("loras")
    net = load(str(sd), device="cpu", packed=False).net
    pipe = tiny(StableDiffusionPipeline, scheduler("ddim"), random_parts(levels=3))
    save_file(lora(net, 1), home / "one.safetensors")
    save_file(kohya(lora(pipe.unet, 2), 2.0), home / "two.safetensors")
    return home


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # diffusers' own, in the pipeline beside ours
@pytest.mark.parametrize("weights", [(1.0,), (0.5, -0.7)])
def test_loras_give_the_latents_of_diffusers(sd, loras, weights):
    """diffusers' layout and kohya's, alone and two at once, each with its weight."""
    files = [loras / "one.safetensors", loras / "two.safetensors"][: len(weights)]
    pipe = StableDiffusionPipeline.from_pretrained(sd, safety_checker=None)
    for k, file in enumerate(files):
        pipe.load_lora_weights(load_file(file), adapter_name=f"a{k}")
    pipe.set_adapters([f"a{k}" for k in range(len(files))], list(weights))
    asked = [f"{file}:{weight}" for file, weight in zip(files, weights, strict=True)]
    backbone = load(str(sd), device="cpu", dtype="float32", lora=asked)
    x, t = torch.randn(1, 4, 16, 16), torch.tensor([500.0])
    states = backbone.prompts.embed("a cat").states[None]
    with torch.inference_mode():
        expected, found = pipe.unet(x, t, states).sample, backbone.net(x, t, states).sample
        plain = load(str(sd), device="cpu", dtype="float32").net(x, t, states).sample
    assert relative(found, expected) < 1e-5
    assert relative(plain, expected) > 1e-3
    assert len(backbone.additions) == len(weights)


def test_an_inversion_that_was_made_before_is_predicted_again_with_a_lora(sd, loras, tmp_path):
    plain, adapted = (Editor(str(sd), device="cpu", lora=each) for each in ((), [str(loras / "one.safetensors")]))
    plain.invert(picture(), steps=3).save(tmp_path / "a.safetensors")
    opened = adapted.open_inversion(tmp_path / "a.safetensors", picture())
    assert opened.latent_error() < 1e-6
    assert (opened.edit("+cat").rgb == adapted.edit(picture(), "+cat", steps=3).rgb).all()
    recipe = adapted.edit(picture(), "+cat", steps=3).recipe
    with pytest.raises(ValueError, match="which is not loaded"):
        plain.repeat(picture(), recipe)


@pytest.mark.parametrize("vectors", [1, 3])
def test_a_learned_word_is_as_many_tokens_as_it_has_vectors(sd, tmp_path, vectors):
    torch.manual_seed(5)
    values = torch.randn(vectors, 16)
    save_file({"emb_params": values}, tmp_path / "style.safetensors")
    pipe = StableDiffusionPipeline.from_pretrained(sd, safety_checker=None)
    pipe.load_textual_inversion({"<s>": values.squeeze(0) if vectors == 1 else values}, token="<s>")
    expected = pipe.encode_prompt("a <s> cat", "cpu", 1, False)[0][0]
    backbone = load(str(sd), device="cpu", dtype="float32", embedding=[f"{tmp_path / 'style.safetensors'}:<s>"])
    text = backbone.prompts.embed("a <s> cat")
    assert relative(text.states, expected) < 1e-5
    assert text.words.sum() == 2 + vectors
    # So for a pipeline that somebody set up: only the first vector was used (F10).
    assert relative(Editor.from_pipe(pipe).backbone.prompts.embed("a <s> cat").states, expected) < 1e-5


def refusals(home, sd):
    """Additions that can't be had, and what is said."""
    save_file({"emb_params": torch.zeros(2, 768)}, home / "wide.safetensors")
    save_file({"emb_params": torch.zeros(2, 16)}, home / "fine.safetensors")
    save_file({"lora_unet_x.hada_w1_a": torch.zeros(2, 2)}, home / "loha.safetensors")
    save_file(
        {"unet.odd.lora_A.weight": torch.zeros(2, 2), "unet.odd.lora_B.weight": torch.zeros(2, 2)},
        home / "odd.safetensors",
    )
    save_file({"a.b.weight": torch.zeros(2)}, home / "what.safetensors")
    (home / "old.pt").write_bytes(b"")
    return [
        ({"embedding": [f"{home}/wide.safetensors:x"]}, "vectors of 768 numbers"),
        ({"embedding": [f"{home}/fine.safetensors:a cat"]}, "without spaces"),
        ({"embedding": [f"{home}/fine.safetensors:x", f"{home}/wide.safetensors:x"]}, "two embeddings"),
        ({"embedding": [f"{home}/loha.safetensors"]}, "no embedding"),
        ({"lora": [f"{home}/loha.safetensors"]}, "LyCORIS of kind LoHa"),
        ({"lora": [f"{home}/odd.safetensors"]}, "can't be put on"),
        ({"lora": [f"{home}/fine.safetensors"]}, "is an embedding and no LoRA"),
        ({"lora": [f"{home}/none.safetensors"]}, "no such file"),
        ({"lora": [f"{home}/old.pt"]}, "pickle"),
        ({"lora": [f"{home}/odd.safetensors:1000"]}, "from -100 to 100"),
        ({"lora": [""]}, "names no file"),
        ({"vae": f"{home}/what.safetensors"}, "kind that is not known"),
        ({"vae": f"{home}/none"}, "folder with a config.json"),
        ({"tiny_vae": f"{home}/fine.safetensors"}, "tiny autoencoder"),
        ({"text_encoder": [f"{home}/fine.safetensors"]}, "text encoder"),
    ]


def test_additions_that_can_not_be_had_are_one_sentence(sd, tmp_path):
    for given, says in refusals(tmp_path, sd):
        with pytest.raises(ValueError, match=says) as error:
            load(str(sd), device="cpu", **given)
        assert "\n" not in str(error.value), given


@pytest.mark.parametrize("kind", ["lora", "embedding"])
def test_an_addition_is_no_model(loras, tmp_path, kind):
    save_file({"emb_params": torch.zeros(2, 16)}, tmp_path / "word.safetensors")
    path = loras / "one.safetensors" if kind == "lora" else tmp_path / "word.safetensors"
    with pytest.raises(ValueError, match=f"is an? {kind} and no model: give it as {kind}"):
        load(str(path), device="cpu")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.safetensors", Lora("a.safetensors")), ("a.safetensors:0.8", Lora("a.safetensors", 0.8)),
        ("C:\\a.safetensors", Lora("C:\\a.safetensors")), ("owner/name:-1", Lora("owner/name", -1.0)),
        ("a:b:.5", Lora("a:b", 0.5)),
    ],
)  # fmt: skip
def test_how_loras_are_written(text, found):
    assert Lora.of(text) == found


def test_how_a_model_is_loaded_goes_to_other_processes_whole():
    asked = Loading(
        model="m", loras=(Lora("a", 0.5),), embeddings=(Embedding("b", "word"),), vae="v", text_encoders=("t",),
        device="cpu",
    )  # fmt: skip
    assert Loading.of(asked.to_text(), "cpu", "auto") == asked
    assert Loading(model="m", device="cuda").to_text() == "m"


def test_the_words_of_clip_are_made_of_its_merges(monkeypatch, tmp_path):
    """As open_clip ships them; the real tokenizer's ids of a few words."""
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("pip install --no-deps open_clip_torch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    for pad, number in (("<|endoftext|>", 49407), ("!", 0)):
        tokenizer = clip_words.tokenizer(pad)
        found = tokenizer("a photo of a cat", padding="max_length").input_ids
        assert found[:8] == [49406, 320, 1125, 539, 320, 2368, 49407, number]
        assert len(found) == 77


def test_the_command_line_takes_files_and_additions(made, loras, sd, tmp_path, capsys):
    picture().save(tmp_path / "a.png")
    options = ["--steps", "2", "--device", "cpu", "--json"]
    words = ["edit", str(tmp_path / "a.png"), "+cat", *options]
    with pytest.raises(SystemExit) as exit:
        main([*words, "-o", str(tmp_path / "b.png"), "--model", str(made / "1.safetensors"), "--base", str(made / "1")])
    assert exit.value.code == 0
    with pytest.raises(SystemExit) as exit:
        main([*words, "-o", str(tmp_path / "c.png"), "--model", str(sd), "--lora", f"{loras / 'one.safetensors'}:.5"])
    assert exit.value.code == 0
    recipe = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert recipe["output"].endswith("c.png")
    with pytest.raises(SystemExit) as exit:
        main(["edit", str(tmp_path / "a.png"), "--recipe", str(tmp_path / "c.png"), "--model", str(sd), "-o", "d.png"])
    assert exit.value.code == 2
    assert "which is not loaded" in capsys.readouterr().err
