"""The pipelines under diffusers' names: parity where diffusers is right, exactness, every argument, wrong use."""

import random
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    LEditsPPPipelineStableDiffusion,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from diffusers import LEditsPPPipelineStableDiffusionXL as DiffusersXL
from PIL import Image
from safetensors.torch import save_file

import ledits
from ledits import LEditsPPPipelineStableDiffusion as OursSD
from ledits import LEditsPPPipelineStableDiffusionXL as OursXL

from conftest import (
    SCHEDULER,
    ip_adapter,
    picture,
    random_parts,
    random_vae,
    random_xl_parts,
    relative,
    scheduler,
    seeded,
    tiny,
)

DiffusersSD = LEditsPPPipelineStableDiffusion
both = pytest.mark.parametrize("ours", [OursSD, OursXL], ids=["sd", "xl"])
pairs = pytest.mark.parametrize(("theirs", "ours"), [(DiffusersSD, OursSD), (DiffusersXL, OursXL)], ids=["sd", "xl"])
pytestmark = pytest.mark.filterwarnings("ignore:`.*` is deprecated")


def count_words(pipe) -> None:
    """Let diffusers count a prompt's tokens rightly (method.md N8), so that its masks can be compared with ours."""

    class Counting:
        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        def __call__(self, text, **options):
            out = self.tokenizer(text, **options)
            out["length"] = out["attention_mask"].sum(1)
            return out

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

    for name in ("tokenizer", "tokenizer_2"):
        if getattr(pipe, name, None) is not None:
            setattr(pipe, name, Counting(getattr(pipe, name)))
    pipe.maybe_convert_prompt = lambda prompt, tokenizer: prompt


EDITS = {
    "editing_prompt": ["cat", "red heart"], "edit_guidance_scale": [4.0, 6.0], "edit_threshold": [0.7, 0.8],
    "edit_warmup_steps": [0, 3], "edit_cooldown_steps": [15, 20], "reverse_editing_direction": [True, False],
}  # fmt: skip
MASKS = {
    "off": {"use_cross_attn_mask": False, "use_intersect_mask": False},
    "attention": {"use_cross_attn_mask": True, "use_intersect_mask": False},
    "intersect": {"use_intersect_mask": True},
}


@pairs
@pytest.mark.parametrize("mask", MASKS)
def test_parity_with_diffusers_where_it_is_right(theirs, ours, mask):
    """Its scheduler with final_sigmas_type "sigma_min", batch 1, empty source prompt: latents, noise maps, edits."""
    a, b, xl = tiny(theirs, scheduler()), tiny(ours, scheduler()), theirs is DiffusersXL
    count_words(a)
    zero = {"num_zero_noise_steps": 0} if xl else {}
    # Two networks that add in another order differ by 1e-5. Of this picture no value of a mask is closer than 5e-4 to
    # its threshold. One within 1e-5 falls on either side of it, by how many threads add.
    image = picture(75, width=64, height=32)
    if xl:
        image = picture()  # off the square diffusers swaps height and width (row 10)
    a.invert(image=image, num_inversion_steps=20, generator=seeded(), **zero)
    inversion = b.invert(image=image, num_inversion_steps=20, generator=seeded(), timesteps="diffusers", **zero)
    assert (a.init_latents - inversion.init_latents).abs().max() <= 1e-4
    assert relative(inversion.zs, a.zs) <= 1e-4
    options = {**EDITS, **MASKS[mask], "output_type": "latent"}
    edited = a(**options).images
    ours_edited = b(**options, mask_upsampling="nearest", noise_mask_below=None if xl else 800).images
    print(f"{theirs.__name__} {mask}: {relative(ours_edited, edited):.1e}")
    assert relative(ours_edited, edited) <= 1e-4
    assert relative(ours_edited, inversion.inversion.x[-1]) > 0.1


def diffusers_pictures() -> list[Image.Image]:
    """The two pictures of diffusers' own fast tests of these pipelines."""
    rng = random.Random(0)
    values = torch.tensor([rng.random() for _ in range(2 * 3 * 32 * 32)]).view(2, 3, 32, 32).permute(0, 2, 3, 1)
    return [Image.fromarray(np.uint8(255 * value.numpy())) for value in values]


def diffusers_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=[32, 64], in_channels=3, out_channels=3, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    )  # fmt: skip


@both
def test_diffusers_fast_tests_inversion(ours):
    """The numbers that diffusers 0.42 pins for its initial latents, alone and in a batch of two."""
    parts = (random_xl_parts() if ours is OursXL else random_parts(levels=3)) | {"vae": diffusers_vae()}
    # diffusers' SD pipeline writes steps_offset = 1 into the scheduler that its test makes without.
    offset = 0 if ours is OursXL else 1
    pipe = tiny(ours, DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", steps_offset=offset), parts)
    given = {"num_inversion_steps": 20, "skip": 0.15, "source_prompt": "", "timesteps": "diffusers"}
    pictures = diffusers_pictures()
    pipe.invert(image=pictures[0], generator=seeded(), **given)
    assert pipe.init_latents.shape == (1, 4, 32 // pipe.vae_scale_factor, 32 // pipe.vae_scale_factor)
    pinned = [-0.9084, -0.0367, 0.2940, 0.0839, 0.6890, 0.2651, -0.7104, 2.1090, -0.7822]
    assert (pipe.init_latents[0, -1, -3:, -3:].flatten() - torch.tensor(pinned)).abs().max() < 1e-3
    pipe.invert(image=pictures, generator=seeded(), **given)
    assert pipe.init_latents.shape == (2, 4, 16, 16)
    for k, pinned in enumerate((
        [0.2528, 0.1458, -0.2166, 0.4565, -0.5657, -1.0286, -0.9961, 0.5933, 1.1173],
        [-0.0796, 2.0583, 0.5501, 0.5358, 0.0282, -0.2803, -1.0470, 0.7023, -0.0072],
    )):  # fmt: skip
        assert (pipe.init_latents[k, -1, -3:, -3:].flatten() - torch.tensor(pinned)).abs().max() < 1e-3


@both
def test_diffusers_fast_tests_warm_up_and_callback(ours):
    """All its warm-up combinations, on a batch of two where its SDXL pipeline has to be given one."""
    pipe = tiny(ours, DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", solver_order=2))
    pipe.invert(image=diffusers_pictures(), num_inversion_steps=20, generator=seeded())
    edits = {
        "editing_prompt": ["a red heart", "snow"], "reverse_editing_direction": [False, True],
        "edit_guidance_scale": [10.0, 5.0], "output_type": "pt",
    }  # fmt: skip
    found = [pipe(**edits, edit_warmup_steps=warmup).images for warmup in ([0, 5], [5, 0], [5, 10], [10, 5])]
    assert all(relative(a, b) > 1e-4 for i, a in enumerate(found) for b in found[:i])

    def see(pipe, i, t, tensors):
        assert set(tensors) == set(pipe._callback_tensor_inputs)
        seen.append((i, int(t)))
        return tensors

    seen: list[tuple[int, int]] = []
    again = pipe(
        **edits, edit_warmup_steps=[0, 5], callback_on_step_end=see,
        callback_on_step_end_tensor_inputs=pipe._callback_tensor_inputs,
    ).images  # fmt: skip
    assert [i for i, _ in seen] == list(range(20))
    assert [t for _, t in seen] == sorted((t for _, t in seen), reverse=True)
    assert relative(again, found[0]) < 1e-5


SCHEDULERS = {
    "dpm": {}, "dpm zero": {"final_sigmas_type": "zero"}, "dpm order 1": {"solver_order": 1},
    "linspace": {"timestep_spacing": "linspace"}, "leading": {"timestep_spacing": "leading"},
    "trailing": {"timestep_spacing": "trailing"}, "karras": {"use_karras_sigmas": True},
    "karras zero": {"use_karras_sigmas": True, "final_sigmas_type": "zero"},
    "flow": {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    "flow zero": {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "final_sigmas_type": "zero"},
    "ddim": {}, "ddim to one": {"set_alpha_to_one": True}, "ddim trailing": {"timestep_spacing": "trailing"},
}  # fmt: skip


@both
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_exactness_over_schedulers_and_precisions(ours, kind, prediction):
    """An edit of scale 0 asks the network again at every level: fp32 <= 1e-5, half-precision networks <= 1e-2."""
    config = {"prediction_type": prediction} | SCHEDULERS[kind]
    if config["prediction_type"] != prediction and prediction != "epsilon":
        pytest.skip("a flow scheduler has its own prediction type")
    parts = random_xl_parts() if ours is OursXL else random_parts(levels=3)
    found = {}
    for dtype, bound in ((torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 1e-2)):
        pipe = tiny(ours, scheduler(kind.split()[0], **config), parts).to(dtype)
        before = dict(pipe.scheduler.config)
        # bf16 rounds the autoencoder's mean itself; the latents are the picture here.
        inversion = pipe.invert(image=picture(), num_inversion_steps=6, skip=0.15, generator=seeded())
        latents = pipe(editing_prompt="cat", edit_guidance_scale=0.0, output_type="latent").images
        found[dtype] = relative(latents, inversion.inversion.x[-1])
        assert dict(pipe.scheduler.config) == before
        assert found[dtype] <= bound
    print(ours.__name__, kind, config["prediction_type"], {str(k): f"{v:.1e}" for k, v in found.items()})


@pytest.mark.parametrize("negative", [None, "snow"])
@both
def test_exactness_with_source_and_negative_prompts(ours, negative):
    pipe = tiny(ours, scheduler())
    inversion = pipe.invert(
        image=picture(), source_prompt="a cat", negative_prompt=negative, num_inversion_steps=8, generator=seeded()
    )
    latents = pipe(editing_prompt="dog", edit_guidance_scale=0.0, output_type="latent").images
    assert relative(latents, inversion.inversion.x[-1]) <= 1e-5


@both
def test_what_a_call_tells_the_network_otherwise_is_exact_too(ours):
    """A negative prompt that inversion did not have: the path is predicted again, not left."""
    pipe = tiny(ours, scheduler())
    inversion = pipe.invert(image=picture(), num_inversion_steps=6, generator=seeded())
    x0 = inversion.inversion.x[-1]
    # Next to nothing is asked for: a scale of 0 would ask the network for nothing.
    out = pipe(editing_prompt="dog", edit_guidance_scale=1e-9, negative_prompt="snow", output_type="latent")
    assert relative(out.images, x0) <= 1e-5
    assert out.network_evaluations == 6 + 2 * 6 - 1
    told = pipe.invert(image=picture(), num_inversion_steps=6, generator=seeded(), negative_prompt="snow")
    first = pipe(editing_prompt="dog", inversion=told, output_type="latent").images
    late = pipe(editing_prompt="dog", inversion=inversion, negative_prompt="snow", output_type="latent").images
    assert relative(late, first) <= 1e-4
    if ours is OursXL:
        for other in ({"target_size": (64, 64)}, {"crops_coords_top_left": (8, 0)}):
            latents = pipe(editing_prompt="dog", edit_guidance_scale=0.0, **other, output_type="latent").images
            assert relative(latents, told.inversion.x[-1]) <= 1e-5


@both
def test_the_examples_of_diffusers_documentation(ours, tmp_path):
    """With the import and the checkpoint's path changed, on a checkpoint of the plain pipeline in the real layout."""
    from diffusers import EulerDiscreteScheduler, PNDMScheduler

    path = str(tmp_path / "checkpoint")
    if ours is OursXL:
        StableDiffusionXLPipeline(
            **random_xl_parts(), scheduler=EulerDiscreteScheduler(**SCHEDULER), add_watermarker=False
        ).save_pretrained(path)
        pipe = OursXL.from_pretrained(path, torch_dtype=torch.float32)
        image = picture(width=64, height=64).resize((64, 64))
        _ = pipe.invert(image=image, num_inversion_steps=50, skip=0.2)
        edited_image = pipe(
            editing_prompt=["cat", "red apple"],
            reverse_editing_direction=[True, False],
            edit_guidance_scale=[5.0, 10.0],
            edit_threshold=[0.9, 0.85],
        ).images[0]
    else:
        StableDiffusionPipeline(
            **random_parts(levels=3), scheduler=PNDMScheduler(**SCHEDULER), safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
        ).save_pretrained(path)  # fmt: skip
        pipe = OursSD.from_pretrained(path, torch_dtype=torch.float32)
        pipe.vae.enable_tiling()
        image = picture(width=64, height=64).resize((64, 64))
        _ = pipe.invert(image=image, num_inversion_steps=50, skip=0.1)
        edited_image = pipe(
            editing_prompt=["tree"], edit_guidance_scale=10.0, edit_threshold=0.75
        ).images[0]  # fmt: skip
    assert edited_image.size == (64, 64)
    assert isinstance(pipe.scheduler, DPMSolverMultistepScheduler)


@both
def test_a_batch_equals_its_pictures_one_by_one(ours):
    """Own prompts and generators, two edits; pictures of mixed sizes are padded to one and cropped back."""
    pipe = tiny(ours, scheduler())
    pictures = [picture(1), picture(2), picture(3)]
    prompts, words = ["a cat", "a dog", ""], ["owl", "red heart", "snow"]
    options = {"edit_guidance_scale": [4.0, -3.0], "edit_threshold": 0.75, "output_type": "pt"}
    masks = MASKS["off"]
    pipe.invert(image=pictures, source_prompt=prompts, num_inversion_steps=8, generator=[seeded(k) for k in range(3)])
    together = pipe(editing_prompt=[words, "hat"], **options, **masks).images
    for k in range(3):
        source = {} if k == 2 else {"source_prompt": prompts[k]}
        pipe.invert(image=pictures[k], num_inversion_steps=8, generator=seeded(k), **source)
        alone = pipe(editing_prompt=[words[k], "hat"], **options, **masks).images
        assert relative(together[k], alone[0]) < (1e-4 if k < 2 else 1e-3)
    pipe.invert(image=[picture(1), picture(2, 50, 40)], num_inversion_steps=3, generator=seeded())
    assert [im.size for im in pipe(editing_prompt="cat").images] == [(32, 32), (50, 40)]
    assert [im.size for im in pipe.inversion.vae_reconstruction_images] == [(32, 32), (50, 40)]


@both
def test_eight_threads_get_eight_right_answers(ours):
    """One pipeline, eight inversions, edited at the same time."""
    pipe = tiny(ours, scheduler())
    inversions = [pipe.invert(image=picture(k), num_inversion_steps=4, generator=seeded(k)) for k in range(8)]

    def edit(k: int):
        words = ["cat", "a red heart", "snow"][k % 3]
        return pipe(editing_prompt=words, inversion=inversions[k], use_intersect_mask=True, output_type="latent").images

    alone, found = [edit(k) for k in range(8)], {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: edit(k)})) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(relative(found[k], alone[k]) < 1e-4 for k in range(8))
    assert not any(layer._forward_hooks for layer in pipe.unet.modules())


@both
def test_outputs(ours):
    pipe = tiny(ours, scheduler())
    inversion = pipe.invert(image=picture(width=40, height=36), num_inversion_steps=4, generator=seeded())
    assert inversion.images[0].size == inversion.vae_reconstruction_images[0].size == (40, 36)
    call = {"editing_prompt": ["cat", "dog"], "edit_warmup_steps": [1, 2], "use_cross_attn_mask": True}
    call["edit_threshold"] = 0.5
    out = {kind: pipe(**call, output_type=kind) for kind in ("pil", "np", "pt", "latent")}
    assert isinstance(out["pil"], ledits.LEditsPPDiffusionPipelineOutput)
    assert out["np"].images.shape == (1, 36, 40, 3)
    assert out["pt"].images.shape == (1, 3, 36, 40)
    assert out["latent"].images.shape == inversion.init_latents.shape
    assert np.abs(np.asarray(out["pil"].images[0]) / 255 - out["np"].images[0]).max() <= 0.51 / 255
    assert np.allclose(out["np"].images.transpose(0, 3, 1, 2), out["pt"].images.numpy())
    assert out["pil"].nsfw_content_detected is None
    assert out["pil"].masks.shape == (4, 2, 1, *inversion.init_latents.shape[2:])
    assert [bool(m.any()) for m in out["pil"].masks[:, 0]] == [False, True, True, True]
    plain = pipe(**call, return_dict=False)
    assert isinstance(plain, tuple)
    assert plain[0][0].size == (40, 36)
    none = pipe()
    assert none.network_evaluations == 0
    assert relative(pipe(output_type="latent").images, inversion.inversion.x[-1]) == 0


@both
def test_recorded_guidance_repeats_an_edit_without_its_concepts(ours):
    pipe = tiny(ours, scheduler(prediction_type="v_prediction"))
    pipe.invert(image=picture(), num_inversion_steps=6, generator=seeded())
    first = pipe(editing_prompt="cat", output_type="latent")
    again = pipe(sem_guidance=first.sem_guidance, output_type="latent")
    assert relative(again.images, first.images) < 1e-4
    assert again.network_evaluations == 5


@both
def test_attention_maps_of_the_steps_asked_for(ours):
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(width=64), num_inversion_steps=5, generator=seeded())
    call = {"editing_prompt": ["cat", "dog"], "use_cross_attn_mask": True, "attn_store_steps": [1, 3]}
    every = pipe(**call, store_averaged_over_steps=False).attention_maps
    assert [m.shape for m in every] == [(2, 1, 4, 8)] * 2
    mean = pipe(**call).attention_maps
    assert torch.allclose(mean, (every[0] + every[1]) / 2, atol=1e-6)
    assert pipe(editing_prompt="cat").attention_maps is None


@both
def test_a_callback_changes_what_comes_next(ours):
    """Latents and embeddings that it returns take effect, and neither the inversion nor the next call sees them."""
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(), num_inversion_steps=5, generator=seeded())
    call = {"editing_prompt": "cat", "output_type": "latent"}
    plain = pipe(**call).images
    halved = pipe(
        **call, callback_on_step_end=lambda p, i, t, k: {"latents": k["latents"] / 2 if i == 4 else k["latents"]}
    )
    assert torch.allclose(halved.images, plain / 2, atol=1e-6)
    names = ["negative_prompt_embeds"]
    swapped = pipe(
        **call, callback_on_step_end=lambda p, i, t, k: {names[0]: k[names[0]] + 1},
        callback_on_step_end_tensor_inputs=names,
    )  # fmt: skip
    assert relative(swapped.images, plain) > 1e-3
    assert torch.equal(pipe(**call).images, plain)


@both
def test_user_masks_in_every_form(ours):
    """PIL, array, tensor, soft, one for all or one an edit, at the picture's or the latents' size."""
    pipe = tiny(ours, scheduler())
    inversion = pipe.invert(image=picture(), num_inversion_steps=4, generator=seeded())
    left = np.zeros((32, 32), np.uint8)
    left[:, :16] = 255
    call = {
        "editing_prompt": ["cat", "dog"],
        "edit_warmup_steps": 3,
        "use_intersect_mask": False,
        "output_type": "latent",
    }
    soft, latent = left / 255, torch.from_numpy(left[::2, ::2] / 255)
    for mask in (Image.fromarray(left), left, left > 0, soft, torch.from_numpy(soft), latent, latent[None, None]):
        out = pipe(**call, user_mask=mask)
        assert out.masks[..., 8:].max() == 0
        assert out.masks[3, ..., :8].max() == 1
        x0 = inversion.inversion.x[-1]
        assert torch.equal(out.images[..., 8:], x0[..., 8:])
        assert not torch.equal(out.images[..., :8], x0[..., :8])
    each = pipe(**call, user_mask=[left, 255 - left]).masks[3]
    assert each[0, ..., 8:].max() == each[1, ..., :8].max() == 0
    half = pipe(**call, user_mask=soft / 2).masks[3]
    assert half.max() == 0.5


@both
def test_save_load_from_pipe_and_offload(ours, tmp_path):
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    expected = pipe(editing_prompt="cat", output_type="latent").images
    pipe.save_pretrained(tmp_path / "saved")
    plain = StableDiffusionXLPipeline if ours is OursXL else StableDiffusionPipeline
    loaded = [ours.from_pretrained(tmp_path / "saved"), ours.from_pipe(pipe), ours.from_pipe(tiny(plain, scheduler()))]
    offloaded = ours.from_pretrained(tmp_path / "saved")
    offloaded.enable_model_cpu_offload(device="cpu")
    for other in [*loaded, offloaded]:
        other.set_progress_bar_config(disable=True)
        other.invert(image=picture(), num_inversion_steps=3, generator=seeded())
        latents = other(editing_prompt="cat", output_type="latent").images
        assert relative(latents, expected) < 1e-5
    assert ledits.load(str(tmp_path / "saved"), device="cpu").name.endswith("saved")


def offload_sequentially(pipe) -> None:
    """What enable_sequential_cpu_offload does, with the CPU in an accelerator's place (accelerate can't do that): a
    layer has its weights inside its own forward, and none at any other time.
    """
    cpu = torch.device("cpu")
    for part in pipe.components.values():
        for layer in part.modules() if isinstance(part, torch.nn.Module) else ():
            own = dict(layer._parameters)
            layer._hf_hook = SimpleNamespace(execution_device=cpu)
            empty = {n: None if v is None else torch.nn.Parameter(v.to("meta"), False) for n, v in own.items()}
            layer.register_forward_pre_hook(lambda layer, _, own=own: layer._parameters.update(own))
            layer.register_forward_hook(lambda layer, _, __, empty=empty: layer._parameters.update(empty))
            layer._parameters.update(empty)


@both
def test_sequential_offload_finds_weights_where_they_are(ours):
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    call = {"editing_prompt": "cat", "use_intersect_mask": True, "output_type": "pt"}
    expected = pipe(**call).images
    offload_sequentially(pipe)
    assert pipe.unet.device.type == "meta"
    pipe.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    assert relative(pipe(**call).images, expected) < 1e-5


@both
def test_vae_tiling_and_slicing_reach_the_autoencoder(ours):
    pipe = tiny(ours, scheduler(), (random_xl_parts() if ours is OursXL else random_parts(3)) | {"vae": random_vae()})
    pipe.vae.enable_tiling()
    pipe.vae.enable_slicing()
    pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = 32, 16
    pipe.invert(image=[picture(k, 64, 64) for k in range(2)], num_inversion_steps=2, generator=seeded())
    assert len(pipe(editing_prompt="cat").images) == 2


@both
def test_what_diffusers_pipelines_do_to_their_autoencoder_they_do_here(ours):
    """Later versions of diffusers moved these to the autoencoder; whoever calls them on the pipeline still can."""
    parts = (random_xl_parts() if ours is OursXL else random_parts(3)) | {"vae": random_vae()}
    pipe = tiny(ours, scheduler(), parts)
    for name in ("tiling", "slicing"):
        getattr(pipe, f"enable_vae_{name}")()
        assert getattr(pipe.vae, f"use_{name}")
        getattr(pipe, f"disable_vae_{name}")()
        assert not getattr(pipe.vae, f"use_{name}")
    if ours is OursXL:
        pipe.vae.to(torch.float16)
        pipe.upcast_vae()
        assert {weight.dtype for weight in pipe.vae.parameters()} == {torch.float32}


def lora(pipe, folder) -> None:
    """A LoRA file for the UNet's and the text encoder's query projections, with visible weights."""
    torch.manual_seed(5)
    weights = {}
    for part, prefix in ((pipe.unet, "unet"), (pipe.text_encoder, "text_encoder")):
        for name, layer in part.named_modules():
            if name.endswith(("to_q", "q_proj")):
                key = (
                    f"{prefix}.text_model.{name}"
                    if prefix == "text_encoder" and "text_model" not in name
                    else f"{prefix}.{name}"
                )
                weights[f"{key}.lora_A.weight"] = torch.randn(2, layer.in_features)
                weights[f"{key}.lora_B.weight"] = torch.randn(layer.out_features, 2)
    folder.mkdir()
    save_file(weights, folder / "pytorch_lora_weights.safetensors")


@both
def test_a_lora_changes_the_edit_and_its_scale_0_does_not(ours, tmp_path):
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(), num_inversion_steps=4, generator=seeded())
    plain = pipe(editing_prompt="cat", output_type="latent").images
    lora(pipe, tmp_path / "lora")
    pipe.load_lora_weights(tmp_path / "lora")
    found = {}
    for scale in (0.0, 0.5, 1.0):
        pipe.invert(image=picture(), num_inversion_steps=4, generator=seeded(), cross_attention_kwargs={"scale": scale})
        found[scale] = pipe(editing_prompt="cat", output_type="latent").images
        late = pipe.invert(image=picture(), num_inversion_steps=4, generator=seeded())
        late = pipe(editing_prompt="cat", cross_attention_kwargs={"scale": scale}, output_type="latent").images
        assert relative(late, found[scale]) < 1e-4
    assert relative(found[0.0], plain) < 1e-4
    assert relative(found[1.0], plain) > 1e-3
    assert relative(found[0.5], found[1.0]) > 1e-4
    pipe.unload_lora_weights()
    pipe.invert(image=picture(), num_inversion_steps=4, generator=seeded())
    assert relative(pipe(editing_prompt="cat", output_type="latent").images, plain) < 1e-4


@both
def test_a_loras_scale_holds_in_every_thread(ours, tmp_path):
    """diffusers scales the shared layers inside the network's forward: side by side, passes saw each other's scale."""
    pipe = tiny(ours, scheduler())
    lora(pipe, tmp_path / "lora")
    pipe.load_lora_weights(tmp_path / "lora")
    given = [None, {"scale": 0.5}, {"scale": 0.1}, {"scale": 0.5}]
    inversion = pipe.invert(image=picture(), num_inversion_steps=6, generator=seeded())

    def edit(k: int) -> torch.Tensor:
        options = {"cross_attention_kwargs": given[k % 4], "output_type": "latent"}
        return pipe(editing_prompt="cat", inversion=inversion, **options).images

    alone, found = [edit(k) for k in range(4)], {}
    assert relative(alone[0], alone[1]) > 1e-4
    threads = [threading.Thread(target=lambda k=k: found.update({k: edit(k)})) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(relative(found[k], alone[k % 4]) for k in range(12)) < 1e-5


@both
def test_a_textual_inversion_of_three_vectors_gets_all_three_in_its_mask(ours):
    pipe = tiny(ours, scheduler())
    torch.manual_seed(3)
    pairs = [(pipe.tokenizer, pipe.text_encoder)]
    if ours is OursXL:
        pipe.tokenizer_2 = type(pipe.tokenizer).from_pretrained(pipe.tokenizer.name_or_path)
        pairs.append((pipe.tokenizer_2, pipe.text_encoder_2))
    for tokenizer, encoder in pairs:
        pipe.load_textual_inversion(torch.randn(3, 16), token="<mine>", tokenizer=tokenizer, text_encoder=encoder)
    pipe.invert(image=picture(), num_inversion_steps=2, generator=seeded())
    backbone = pipe._backbone(pipe.inversion.conditioning)
    text = pipe._embed(backbone.prompts, "a <mine> cat", None, None)
    assert text.words.sum() == 5
    call = {"use_cross_attn_mask": True, "attn_store_steps": [0], "output_type": "latent"}
    whole = pipe(editing_prompt="<mine>", **call).attention_maps
    assert (whole > pipe(editing_prompt="cat", **call).attention_maps).float().mean() > 0.9


def test_an_ip_adapter_guides_every_edit():
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16,
        projection_dim=16,
    )  # fmt: skip
    extra = {
        "image_encoder": CLIPVisionModelWithProjection(vision).eval(),
        "feature_extractor": CLIPImageProcessor(size=32, crop_size=32),
    }
    pipe = tiny(OursXL, scheduler(), random_xl_parts() | extra)
    pipe.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    with pytest.raises(ValueError, match="load_ip_adapter"):
        pipe(editing_prompt="cat", ip_adapter_image=picture())
    pipe.unet._load_ip_adapter_weights([ip_adapter(pipe.unet)])
    inversion = pipe.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    call = {"editing_prompt": "cat", "use_intersect_mask": True, "output_type": "latent"}
    found = [pipe(**call, ip_adapter_image=image).images for image in (None, picture(7), picture(8))]
    assert relative(found[0], found[1]) > 1e-3
    assert relative(found[1], found[2]) > 1e-4
    still = pipe(**call, ip_adapter_image=picture(7), edit_guidance_scale=0.0).images
    assert relative(still, inversion.inversion.x[-1]) <= 1e-5


def test_the_safety_checker_blackens_and_says_so():
    class Checker(torch.nn.Module):
        dtype, device = torch.float32, torch.device("cpu")

        def forward(self, images, clip_input):
            assert clip_input.shape[0] == len(images) == 2
            return images * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1), [False, True]

    pipe = tiny(OursSD, scheduler())
    pipe.safety_checker = Checker()
    pipe.feature_extractor = lambda pictures, return_tensors: type(
        "Seen", (), {"pixel_values": torch.zeros(2, 3, 4, 4)}
    )
    pipe.invert(image=[picture(1), picture(2)], num_inversion_steps=2, generator=seeded())
    out = pipe(editing_prompt="cat", output_type="np")
    assert out.nsfw_content_detected == [False, True]
    assert out.images[0].max() > 0
    assert out.images[1].max() == 0


def test_a_watermark_is_applied_once_to_whole_pictures():
    pipe = tiny(OursXL, scheduler())
    seen = []
    pipe.watermark = type("Mark", (), {"apply_watermark": lambda self, x: seen.append(x.shape) or x * 0})()
    pipe.invert(image=picture(), num_inversion_steps=2, generator=seeded())
    assert (pipe(editing_prompt="cat", output_type="pt").images == 0.5).all()
    assert seen == [(1, 3, 32, 32)]


def test_denoising_end_stops_early():
    pipe = tiny(OursXL, scheduler())
    inversion = pipe.invert(image=picture(), num_inversion_steps=10, generator=seeded())
    late = pipe(editing_prompt="cat", denoising_end=0.5, output_type="latent")
    steps = sum(t >= 500 for t in inversion.inversion.schedule.t)
    assert 0 < steps < 10
    assert len(late.masks) == steps
    assert late.network_evaluations == 2 * steps - 1


def test_clip_skip_takes_an_earlier_layer():
    pipe = tiny(OursSD, scheduler())
    pipe.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    a, b = (pipe(editing_prompt="cat", clip_skip=skip, output_type="latent").images for skip in (None, 1))
    assert relative(a, b) > 1e-4


@both
def test_arguments_are_those_of_diffusers(ours):
    """Every argument with its name, and its default but for those that docs/migration.md lists."""
    import inspect

    theirs = DiffusersXL if ours is OursXL else DiffusersSD
    changed = {"num_zero_noise_steps", "attn_store_steps", "callback_on_step_end_tensor_inputs"}
    for name in ("invert", "__call__"):
        a, b = (inspect.signature(getattr(pipeline, name)).parameters for pipeline in (theirs, ours))
        expected = [p for p in a if p not in ("kwargs", "self")]
        assert [p for p in b if p != "self"][: len(expected)] == expected
        for p in set(expected) - changed:
            assert b[p].default == a[p].default, p
        assert all(v.kind == v.KEYWORD_ONLY for v in list(b.values())[len(expected) + 1 :])


CAT = {"editing_prompt": "cat"}
WRONG = {
    "scales of another length": ({"editing_prompt": ["a", "b"], "edit_guidance_scale": [1.0]}, "2 edits"),
    "thresholds of another length": (CAT | {"edit_threshold": (0.1, 0.2)}, "1 edits"),
    "warm-up past the end": (CAT | {"edit_warmup_steps": 99}, "past the end"),
    "threshold of 2": (CAT | {"edit_threshold": 2}, "between 0 and 1"),
    "an unknown callback tensor": (CAT | {"callback_on_step_end_tensor_inputs": ["noise"]}, "accepted"),
    "a mask of rank 5": (CAT | {"user_mask": np.ones((1, 1, 1, 4, 4))}, "user_mask of shape"),
    "a mask of rank 1": (CAT | {"user_mask": np.ones(4)}, "user_mask of shape"),
    "a mask out of range": (CAT | {"user_mask": np.full((4, 4), 7.0)}, "from 7 to 7"),
    "masks of another length": (CAT | {"user_mask": [np.ones((4, 4))] * 2}, "1 edits"),
    "a mask for other pictures": (CAT | {"user_mask": np.ones((3, 4, 4))}, "3 pictures"),
    "negative prompts of another length": ({"negative_prompt": ["a", "b"]}, "2 texts for 1 pictures"),
    "a prompt too long": ({"editing_prompt": "cat " * 99}, "shorten it"),
}


@both
@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_are_one_sentence(ours, case):
    call, says = WRONG[case]
    pipe = tiny(ours, scheduler())
    with pytest.raises(ValueError, match="invert"):
        pipe(**CAT)
    pipe.invert(image=picture(), num_inversion_steps=2, generator=seeded())
    with pytest.raises(ValueError, match=says) as caught:
        pipe(**call)
    assert "\n" not in str(caught.value)


@both
def test_embeddings_in_place_of_texts(ours):
    """The same edit, if the tokens are counted; without counts only where no attention mask needs them."""
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    backbone = pipe._backbone(pipe.inversion.conditioning)
    texts = [pipe._embed(backbone.prompts, text, None, None) for text in ("cat", "a red heart", "snow")]
    embeds = torch.stack([text.states for text in texts])
    xl = ours is OursXL
    given = {"editing_prompt_embeddings" if xl else "editing_prompt_embeds": embeds[:2]}
    negative = {"negative_prompt_embeds": embeds[2:]}
    if xl:
        pooled = torch.stack([text.pooled for text in texts])
        with pytest.raises(ValueError, match="editing_pooled_prompt_embeds"):
            pipe(**given)
        with pytest.raises(ValueError, match="negative_pooled_prompt_embeds"):
            pipe(**negative)
        given["editing_pooled_prompt_embeds"] = pooled[:2]
        negative["negative_pooled_prompt_embeds"] = pooled[2:]
    call = {"use_intersect_mask": True, "edit_threshold": 0.6, "output_type": "latent"}
    expected = pipe(editing_prompt=["cat", "a red heart"], negative_prompt="snow", **call).images
    found = pipe(**given, **negative, editing_prompt_token_counts=[1, 3], **call).images
    assert relative(found, expected) < 1e-4
    with pytest.raises(ValueError, match="editing_prompt_token_counts"):
        pipe(**given, **call)
    with pytest.raises(ValueError, match="1 values for 2"):
        pipe(**given, editing_prompt_token_counts=[1], **call)
    with pytest.raises(ValueError, match="both given"):
        pipe(editing_prompt="cat", **given, use_intersect_mask=False)
    with pytest.raises(ValueError, match="both given"):
        pipe(negative_prompt="cat", **negative)
    assert pipe(**given, use_intersect_mask=False).images[0].size == (32, 32)


@both
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"image": []}, "no image"),
        ({"image": 3}, "type int"),
        ({"image": picture(0, 4, 32)}, "4x32 pixels"),
        ({"image": torch.zeros(1, 1, 32, 32)}, "three colours"),
        ({"image": picture(), "num_inversion_steps": 0}, "at least 1"),
        ({"image": picture(), "num_inversion_steps": 2000}, "use fewer"),
        ({"image": picture(), "skip": 1.0}, "below 1"),
        ({"image": picture(), "skip": -0.1}, "below 1"),
        ({"image": picture(), "source_prompt": ["a", "b"]}, "2 texts for 1 pictures"),
        ({"image": picture(), "generator": [seeded(), seeded()]}, "2 generators for 1 pictures"),
    ],
)
def test_wrong_inversions_are_one_sentence(ours, given, says):
    with pytest.raises(ValueError, match=says) as caught:
        tiny(ours, scheduler()).invert(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"algorithm_type": "dpmsolver++"}, "algorithm_type is 'dpmsolver\\+\\+'"),
        ({"solver_order": 3}, "solver_order is 3"),
        ({"solver_type": "heun"}, "solver_type is 'heun'"),
    ],
)
@both
def test_a_foreign_scheduler_is_one_sentence(ours, config, says):
    pipe = tiny(ours, scheduler(**config))
    with pytest.raises(ValueError, match=says):
        pipe.invert(image=picture(), num_inversion_steps=3)
    from diffusers import EulerDiscreteScheduler

    pipe.scheduler = EulerDiscreteScheduler(**SCHEDULER)
    with pytest.raises(ValueError, match="EulerDiscreteScheduler"):
        pipe.invert(image=picture(), num_inversion_steps=3)


@both
def test_sequences_of_any_kind_and_numpy_scalars(ours):
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(), num_inversion_steps=4, generator=seeded())
    call = {"editing_prompt": ["cat", "dog"], "output_type": "latent"}
    lists = {"edit_guidance_scale": [4.0, 5.0], "edit_threshold": [0.6, 0.7], "edit_warmup_steps": [0, 1]}
    expected = pipe(**call, **lists).images
    for kind in (tuple, np.array, torch.tensor):
        assert torch.equal(pipe(**call, **{k: kind(v) for k, v in lists.items()}).images, expected)
    a = pipe(
        editing_prompt="cat", edit_guidance_scale=np.float32(4), edit_warmup_steps=np.int64(1), output_type="latent"
    )
    b = pipe(editing_prompt=("cat",), edit_guidance_scale=4.0, edit_warmup_steps=1, output_type="latent")
    assert torch.equal(a.images, b.images)
