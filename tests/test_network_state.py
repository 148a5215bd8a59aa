"""A path belongs to the network as it was: what changes afterwards is seen, and predicted again or refused.

Audit A4, A5, A8, A9 and A15.
"""

import logging

import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import save_file

from ledits import Editor
from ledits import LEditsPPPipelineStableDiffusion as OursSD
from ledits import LEditsPPPipelineStableDiffusionXL as OursXL

from conftest import SCHEDULER, picture, random_parts, relative, scheduler, seeded, tiny

both = pytest.mark.parametrize("ours", [OursSD, OursXL], ids=["sd", "xl"])
STILL = {"editing_prompt": "cat", "edit_guidance_scale": 1e-9, "output_type": "latent"}


def plain_pipe(factor: float = 1.0) -> StableDiffusionPipeline:
    parts = random_parts(levels=3)
    with torch.no_grad():
        for each in parts["unet"].parameters():
            each.mul_(factor)
    return tiny(StableDiffusionPipeline, DDIMScheduler(**SCHEDULER, clip_sample=False), parts)


def lora(net: torch.nn.Module, seed: int = 0, rank: int = 2) -> dict[str, torch.Tensor]:
    """A LoRA of diffusers' layout on every attention to text of a UNet."""
    generator, found = torch.Generator().manual_seed(seed), {}
    for name, each in net.named_modules():
        if name.endswith(("attn2.to_q", "attn2.to_k")):
            wide, narrow = each.in_features, each.out_features
            found[f"unet.{name}.lora_A.weight"] = torch.randn(rank, wide, generator=generator)
            found[f"unet.{name}.lora_B.weight"] = torch.randn(narrow, rank, generator=generator)
    return found


def changes(pipe) -> dict[str, object]:
    """What may become of a pipeline between an inversion and an edit, by name; each leaves the autoencoder alone."""

    def scaled():
        with torch.no_grad():
            pipe.unet.conv_in.weight.mul_(1.2)

    def one_number():
        pipe.unet.conv_in.weight.data[0, 0, 0, 0] += 1.0

    def word():
        encoder = pipe.text_encoder
        width = encoder.get_input_embeddings().weight.shape[1]
        pipe.load_textual_inversion({"cat2": torch.full((width,), 3.0)}, token="cat2")

    def swapped():
        pipe.scheduler = scheduler("ddim", prediction_type="v_prediction")

    return {
        "a LoRA is loaded": lambda: pipe.load_lora_weights(lora(pipe.unet), adapter_name="a"),
        "weights are scaled": scaled,
        "one number is another": one_number,
        "a word is learned": word,
        "the scheduler says something else": swapped,
        "FreeU is on": lambda: pipe.enable_freeu(0.9, 0.2, 1.5, 1.6),
    }


NAMES = tuple(changes(None))


@both
@pytest.mark.parametrize("change", NAMES)
def test_a_network_that_changed_has_the_path_predicted_again(ours, change, caplog):
    """The scale-0 replay was off by up to 20 (A5)."""
    pytest.importorskip("peft")
    pipe = tiny(ours, scheduler())
    inversion = pipe.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    assert pipe(**STILL).network_evaluations == 2 * 3 - 1
    changes(pipe)[change]()
    with caplog.at_level(logging.WARNING, "ledits"):
        out = pipe(**STILL, inversion=inversion)
    assert out.network_evaluations == 3 + 2 * 3 - 1
    assert "predicted again" in caplog.text
    assert relative(out.images, inversion.inversion.x[-1]) <= 1e-5


@both
def test_a_lora_that_is_scaled_or_taken_off_again_is_seen(ours):
    pytest.importorskip("peft")
    pipe = tiny(ours, scheduler())
    pipe.load_lora_weights(lora(pipe.unet), adapter_name="a")
    inversion = pipe.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    for change in (
        lambda: pipe.set_adapters(["a"], [0.3]), pipe.disable_lora, pipe.enable_lora, pipe.fuse_lora,
        pipe.unfuse_lora, pipe.unload_lora_weights,
    ):  # fmt: skip
        change()
        assert relative(pipe(**STILL, inversion=inversion).images, inversion.inversion.x[-1]) <= 1e-5


@both
def test_another_autoencoder_is_refused_and_another_number_format_of_it_is_not(ours):
    pipe = tiny(ours, scheduler())
    inversion = pipe.invert(image=picture(), num_inversion_steps=2, generator=seeded())
    pipe.vae.to(torch.bfloat16)
    pipe(**STILL, inversion=inversion)
    pipe.vae.to(torch.float32)
    pipe(**STILL, inversion=inversion)
    with torch.no_grad():
        for each in pipe.vae.parameters():
            each.mul_(1.2)
    with pytest.raises(ValueError, match="autoencoder is another one"):
        pipe(**STILL, inversion=inversion)


def test_an_editor_on_a_pipeline_knows_its_weights():
    """Two pipelines, one with weights x 1.2, took each other's inversions and recipes (A4)."""
    one, same, other = (Editor.from_pipe(plain_pipe(factor)) for factor in (1.0, 1.0, 1.2))
    assert one.backbone.fingerprint == same.backbone.fingerprint != other.backbone.fingerprint
    made = one.invert(picture(), steps=3)
    edited = made.edit("+cat")
    assert (edited.rgb == same.repeat(picture(), edited.recipe).rgb).all()
    with pytest.raises(ValueError, match="another version of model"):
        other.repeat(picture(), edited.recipe)


def test_an_inversion_on_disk_belongs_to_its_weights(tmp_path):
    one, other = (Editor.from_pipe(plain_pipe(factor)) for factor in (1.0, 1.2))
    one.invert(picture(), steps=3).save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="pass that model or invert again"):
        other.open_inversion(tmp_path / "a.safetensors", picture())
    opened = Editor.from_pipe(plain_pipe()).open_inversion(tmp_path / "a.safetensors", picture())
    assert opened.latent_error() == 0


@pytest.mark.parametrize("change", NAMES)
def test_an_editor_sees_what_becomes_of_its_pipeline(change, caplog):
    pytest.importorskip("peft")
    pipe = plain_pipe()
    editor = Editor.from_pipe(pipe)
    made = editor.invert(picture(), steps=3)
    before = made.edit("+cat").rgb
    assert made.latent_error() == 0
    changes(pipe)[change]()
    if change == "the scheduler says something else":
        return  # an editor has the scheduler's settings of when it was made
    with caplog.at_level(logging.WARNING, "ledits"):
        assert made.latent_error() < 1e-5
    assert "predicted again" in caplog.text
    if change != "a word is learned":
        assert (made.edit("+cat").rgb != before).any()
    assert made.current() is made.current()  # once for all edits that follow


def test_a_stored_inversion_of_another_number_format_is_predicted_again(tmp_path, caplog):
    """It was taken as it is, with an error of 8e-3 (A8)."""
    pipe = plain_pipe()
    pipe.save_pretrained(tmp_path / "model")
    half = Editor(str(tmp_path / "model"), device="cpu", dtype="bfloat16")
    half.invert(picture(), steps=3).save(tmp_path / "a.safetensors")
    full = Editor(str(tmp_path / "model"), device="cpu", dtype="float32")
    opened = full.open_inversion(tmp_path / "a.safetensors", picture())
    with caplog.at_level(logging.WARNING, "ledits"):
        assert opened.latent_error() < 1e-6
    assert "predicted again" in caplog.text
    again = half.open_inversion(tmp_path / "a.safetensors", picture())
    assert again.current() is again


def test_a_recipe_names_what_was_added():
    pytest.importorskip("peft")
    pipe = plain_pipe()
    editor = Editor.from_pipe(pipe)
    pipe.load_lora_weights(lora(pipe.unet), adapter_name="a")
    recipe = editor.edit(picture(), "+cat", steps=3).recipe
    assert [each.split()[0] for each in recipe.additions] == ["adapters"]
    assert type(recipe).from_json(recipe.to_json(), "x") == recipe
    editor.repeat(picture(), recipe)
    pipe.unload_lora_weights()
    with pytest.raises(ValueError, match="not loaded"):
        editor.repeat(picture(), recipe)


@both
def test_a_picture_without_a_source_is_not_guided_beside_one_that_has_one(ours):
    """In a batch with a negative prompt it was guided by the empty one all the same (A9)."""
    pipe = tiny(ours, scheduler())
    options = {"num_inversion_steps": 3, "negative_prompt": "a dog"}
    pair = pipe.invert(image=[picture(0), picture(1)], source_prompt=["a cat", ""], generator=seeded(), **options)
    predicted, base = pair.inversion.denoised, pair.inversion.base_denoised
    assert relative(predicted[:, 1], base[:, 1]) < 1e-5
    assert relative(predicted[:, 0], base[:, 0]) > 1e-3


@both
@pytest.mark.parametrize("kind", [FlowMatchEulerDiscreteScheduler, EDMEulerScheduler])
def test_a_scheduler_of_other_levels_is_refused(ours, kind):
    """A flow's was taken for a diffusion model's, and EDM's for linear betas (A15, F4)."""
    with pytest.raises(ValueError, match="scheduler is one of (flow|EDM)"):
        tiny(ours, kind())
    pipe = tiny(ours, scheduler())
    pipe.scheduler = kind()
    with pytest.raises(ValueError, match="scheduler is one of (flow|EDM)"):
        pipe.invert(image=picture(), num_inversion_steps=2)


def test_a_file_of_before_tokens_is_predicted_again(tmp_path, bundled):
    """Its header has no token."""
    import json

    from safetensors import safe_open

    editor, path = Editor(bundled), tmp_path / "a.safetensors"
    editor.invert(picture(), steps=2, anyway=True).save(path)
    with safe_open(path, "pt") as file:
        said = json.loads(file.metadata()["ledits"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert len(said.pop("state")) == 32
    save_file(tensors, path, {"ledits": json.dumps(said)})
    opened = editor.open_inversion(path, picture())
    assert opened.current() is not opened
    assert opened.latent_error() == 0


def test_packed_layers_lay_out_their_weights_and_are_the_same_network():
    """Those of real widths do so when they are made, and when they first run; neither could be looked at."""
    from diffusers import AutoencoderKL

    from ledits.backbones import state
    from ledits.cpu import packed

    if not packed.available(torch.device("cpu"), torch.float32):
        pytest.skip("nothing can be packed here")
    vae = AutoencoderKL(
        block_out_channels=(128, 256), latent_channels=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    packed.pack(vae.eval().requires_grad_(False))
    before = state.predicts([vae], [], 0)
    with torch.inference_mode():
        vae.decode(torch.zeros(1, 4, 8, 8))
    assert state.predicts([vae], [], 0) == before
    state.encodes(vae)
    state.content({"vae": vae})
