"""The authors' names and calls, on tiny checkpoints in the three layouts."""

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_families
from ledits.backbones.schedule import from_config
from leditspp import IFDiffusion_LEDITS, StableDiffusionPipeline_LEDITS, StableDiffusionPipelineXL_LEDITS
from leditspp.scheduling_dpmsolver_multistep_inject import DPMSolverMultistepSchedulerInject

from conftest import picture, scheduler, seeded, tiny

KINDS = {"sd": StableDiffusionPipeline_LEDITS, "xl": StableDiffusionPipelineXL_LEDITS, "if": IFDiffusion_LEDITS}
STEPS = 6


@pytest.fixture(scope="module", params=KINDS)
def pipe(request, tmp_path_factory):
    """A pipeline read from a folder in diffusers' layout, as their notebook reads one."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "if":
        tiny_families.make("deepfloyd_if").save_pretrained(folder)
        given = {"safety_checker": None, "watermarker": None}
    else:
        tiny(KINDS[request.param].__base__, scheduler()).save_pretrained(folder)
        given = {"safety_checker": None} if request.param == "sd" else {}
    pipe = KINDS[request.param].from_pretrained(folder, **given)
    pipe.scheduler = DPMSolverMultistepSchedulerInject.from_pretrained(
        folder, subfolder="scheduler", algorithm_type="sde-dpmsolver++", solver_order=2
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edited(pipe, **given) -> torch.Tensor:
    out = pipe(**{"editing_prompt": ["cat"], "edit_warmup_steps": 0, "output_type": "pt", **given})
    return out.images


def inverted(pipe, image=None, **given):
    image = np.asarray(picture(2)) if image is None else image
    return pipe.invert(image, **{"num_inversion_steps": STEPS, "generator": seeded(3), **given})


def test_invert_answers_as_theirs_and_the_path_ends_in_the_picture(pipe):
    zs, xts, *rebuilt = inverted(pipe, skip=0.15)
    assert zs.shape[0] == STEPS
    assert xts.shape == (STEPS + 1, *zs.shape[1:])
    assert torch.equal(xts[0].reshape(-1), pipe.inversion.inversion.x[-1].reshape(-1))
    # Eq. 6 at the authors' times, in the authors' order: their noisiest level is the last one.
    s = from_config(pipe.scheduler.config, STEPS, 0.15)
    assert pipe.inversion.inversion.schedule == s
    noise = (xts[-1] - s.alpha[0] * xts[0]) / s.sigma[0]
    assert noise.std().item() == pytest.approx(1, abs=0.15)
    assert bool(rebuilt) == (pipe.unet.config.in_channels == 4)


def test_without_an_edit_the_picture_comes_back(pipe):
    _, xts, *rebuilt = inverted(pipe, source_prompt="a cat")
    if rebuilt:
        assert np.array_equal(np.asarray(pipe().images[0]), np.asarray(rebuilt[0][0]))
    else:
        assert torch.equal(pipe(output_type="pt").images, xts[0].clamp(-1, 1))


def test_an_edit_changes_it_and_goes_as_its_weight_and_its_direction_say(pipe):
    inverted(pipe)
    once = edited(pipe, edit_guidance_scale=[6.0])
    assert not torch.equal(once, edited(pipe, edit_guidance_scale=[0.0]))
    assert torch.equal(once, edited(pipe, edit_guidance_scale=2.0, edit_weights=[3.0]))
    away = edited(pipe, edit_guidance_scale=[6.0], reverse_editing_direction=[True])
    assert torch.equal(away, edited(pipe, edit_guidance_scale=[-6.0]))


def test_masks_are_theirs(pipe):
    """The noise mask alone by default, and an attention mask whose edges are those of the maps' cells."""
    inverted(pipe)
    plain = pipe(editing_prompt=["cat"], edit_warmup_steps=0).masks
    assert plain[0].mean().item() == pytest.approx(0.1, abs=0.02)
    mask = pipe(editing_prompt=["cat"], edit_warmup_steps=0, edit_threshold=0.5, use_cross_attn_mask=True).masks[
        0, 0, 0
    ]
    backbone = pipe._backbone(pipe.inversion.conditioning)
    rows, columns = backbone.map_grid(*mask.shape)
    high, wide = mask.shape[0] // rows, mask.shape[1] // columns
    assert high > 1 or backbone.map_scale == 1
    cells = mask.unfold(0, high, high).unfold(1, wide, wide).flatten(2)
    assert torch.equal(cells.amin(2), cells.amax(2))


def test_callbacks_are_called_as_they_were(pipe):
    inverted(pipe)
    seen = list[tuple[int, int, tuple[int, ...]]]()
    pipe(
        editing_prompt="cat", edit_warmup_steps=0, callback_steps=4,
        callback=lambda i, t, x: seen.append((i, int(t), tuple(x.shape))),
    )  # fmt: skip
    s = pipe.inversion.inversion.schedule
    assert seen == [(i, int(s.t[i]), tuple(pipe.inversion.inversion.x.shape[1:])) for i in (0, 4)]
    with pytest.raises(ValueError, match="callback_steps 0"):
        pipe(editing_prompt="cat", callback=lambda *_: None, callback_steps=0)


def test_a_prompt_of_the_call_guides_and_keeps_the_picture(pipe):
    if isinstance(pipe, StableDiffusionPipeline_LEDITS):
        pytest.skip("their Stable Diffusion takes none")
    _, xts, *_ = inverted(pipe)
    plain = edited(pipe)
    guided = edited(pipe, prompt="a cat", guidance_scale=4.0)
    assert not torch.equal(plain, guided)
    kept = pipe(prompt="a cat", output_type="pt" if pipe.unet.config.in_channels == 3 else "latent").images
    wanted = xts[0].reshape(kept.shape)
    assert torch.equal(kept, wanted.clamp(-1, 1) if pipe.unet.config.in_channels == 3 else wanted)


def test_pictures_are_brought_to_the_sizes_they_have_in_theirs(pipe):
    side = pipe.unet.config.sample_size * (1 if isinstance(pipe, IFDiffusion_LEDITS) else pipe.vae_scale_factor)
    tall = Image.fromarray(np.tile(np.asarray(picture(1, 60, 60)), (2, 1, 1)))
    inverted(pipe, tall)
    wanted = {StableDiffusionPipeline_LEDITS: (side * 3 // 2, side)}.get(type(pipe), (side, side))
    assert pipe.inversion.sizes == [wanted]
    inverted(pipe, picture(1, 60, 50))
    assert pipe.inversion.sizes == [(side, side)]
    if isinstance(pipe, IFDiffusion_LEDITS):
        inverted(pipe, tall)
        square = tall.crop((0, 30, 60, 90)).resize((side, side))
        assert np.array_equal(np.asarray(pipe.inversion.images[0]), np.asarray(square))


def test_a_file_and_both_names_of_the_picture(pipe, tmp_path):
    picture(2).save(tmp_path / "a.png")
    one = inverted(pipe, str(tmp_path / "a.png"))[0]
    assert torch.equal(one, pipe.invert(image=picture(2), num_inversion_steps=STEPS, generator=seeded(3))[0])
    assert torch.equal(
        one, pipe.invert(image_path=np.asarray(picture(2)), num_inversion_steps=STEPS, generator=seeded(3))[0]
    )
    for given in ({}, {"image": picture(2), "image_path": picture(2)}):
        with pytest.raises(ValueError, match="two names"):
            pipe.invert(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"eta": 0.5}, "eta 0.5"), ({"source_promt": "a"}, "did you mean 'source_prompt'")],
    ids=["eta", "misspelt"],
)
def test_what_is_not_taken_is_said(pipe, given, said):
    with pytest.raises((ValueError, TypeError), match=said):
        inverted(pipe, **given)


def test_weights_of_another_number_than_the_edits_are_refused(pipe):
    inverted(pipe)
    with pytest.raises(ValueError, match="edit_weights has 3 values for 1 scales"):
        edited(pipe, edit_guidance_scale=[1.0], edit_weights=[1.0, 2.0, 3.0])


def test_the_bar_is_silent_for_one_call_alone(pipe, capsys):
    if isinstance(pipe, IFDiffusion_LEDITS):
        pytest.skip("theirs has no verbose")
    inverted(pipe)
    pipe.set_progress_bar_config(disable=False)
    edited(pipe, verbose=False)
    assert "it/s" not in capsys.readouterr().err
    edited(pipe)
    assert f"{STEPS}/{STEPS}" in capsys.readouterr().err
    pipe.set_progress_bar_config(disable=True)


def test_what_the_sdxl_pipeline_can_not_carry_out_is_refused():
    pipe = tiny(StableDiffusionPipelineXL_LEDITS, scheduler())
    for given, said in (
        ({"source_prompt": "a cat", "source_prompt_2": "a dog"}, "source_prompt_2 differs"),
        ({"original_size": (8, 8)}, "original_size"),
        ({"image_path": [picture(), picture(1)]}, "2 pictures"),
    ):
        with pytest.raises(ValueError, match=said):
            pipe.invert(**{"image_path": picture(), "num_inversion_steps": STEPS, **given})
    inverted(pipe)
    with pytest.raises(ValueError, match="prompt_2 differs"):
        pipe(prompt="a cat", prompt_2="a dog")


def test_the_first_stage_hands_on_what_the_second_takes():
    pipe = tiny_families.make("deepfloyd_if")
    pipe = IFDiffusion_LEDITS(**pipe.components)
    pipe.set_progress_bar_config(disable=True)
    inverted(pipe)
    pixels = edited(pipe)
    assert pixels.min() >= -1
    assert pixels.min() < -0.5
    assert np.allclose(pipe(editing_prompt=["cat"], edit_warmup_steps=0, output_type="np").images,
                       pixels.permute(0, 2, 3, 1) / 2 + 0.5, atol=1e-6)  # fmt: skip
    with pytest.raises(ValueError, match="there is no momentum here"):
        edited(pipe, edit_momentum_scale=0.1)
    given, negative, *rest = pipe.encode_prompt("a cat")
    assert given.shape == negative.shape == (1, 77, 32)
    assert rest == [None, None]
    images, nsfw, watermark = pipe(editing_prompt=["cat"], edit_warmup_steps=0, return_dict=False)
    assert (images[0].size, nsfw, watermark) == ((32, 32), None, None)


def test_a_saved_pipeline_is_read_by_its_own_name(tmp_path):
    pipe = tiny(StableDiffusionPipeline_LEDITS, scheduler())
    pipe.scheduler = DPMSolverMultistepSchedulerInject.from_config(pipe.scheduler.config)
    pipe.save_pretrained(tmp_path)
    again = StableDiffusionPipeline_LEDITS.from_pretrained(tmp_path, safety_checker=None)
    assert again.scheduler.config.algorithm_type == "sde-dpmsolver++"
