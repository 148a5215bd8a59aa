"""One test for each known defect of diffusers 0.42's LEDITS++ pipelines, named as in docs/migration.md.

Where diffusers can be run it is run, and both figures are printed (`pytest -s`); what is asserted is ours.
"""

import copy
import dataclasses
import inspect
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image

import ledits
from ledits import LEditsPPPipelineStableDiffusion as OursSD
from ledits import LEditsPPPipelineStableDiffusionXL as OursXL
from ledits.files import checkpoints
from ledits.method import core

from conftest import SCHEDULER, picture, random_parts, random_xl_parts, relative, scheduler, seeded, tiny

TheirsSD, TheirsXL = diffusers.LEditsPPPipelineStableDiffusion, diffusers.LEditsPPPipelineStableDiffusionXL
THEIRS = {OursSD: TheirsSD, OursXL: TheirsXL}
both = pytest.mark.parametrize("ours", [OursSD, OursXL], ids=["sd", "xl"])
STILL = {"editing_prompt": "cat", "edit_guidance_scale": 0.0, "output_type": "latent"}


def outcome(run) -> str:
    """What diffusers did: "ran", or the error it raised."""
    try:
        run()
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0][:90]
        print("diffusers:", said)
        return said
    print("diffusers: ran")
    return "ran"


def seen_by(unet, run) -> list[dict]:
    """The rows, text states and keyword arguments of every pass through the network during `run`."""
    seen = []

    def hook(_module, args, kwargs):
        states = kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[2]
        seen.append({"rows": len(args[0]), "states": states.clone(), **kwargs})

    handle = unet.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        run()
    finally:
        handle.remove()
    return seen


@both
@pytest.mark.parametrize("steps", [10, 20, 50])
def test_row_1_inversion_is_exact_with_the_default_last_sigma(ours, steps):
    """diffusers leaves the last noise map at 0 where the last sigma is 0, and lowers the order only in replay."""
    theirs, mine = (tiny(c, scheduler(final_sigmas_type="zero")) for c in (THEIRS[ours], ours))
    zero = {"num_zero_noise_steps": 0} if ours is OursXL else {}
    encoded = mine.invert(image=picture(), num_inversion_steps=steps, generator=seeded()).inversion.x[-1]
    error = relative(mine(**STILL).images, encoded)
    theirs.invert(image=picture(), num_inversion_steps=steps, generator=seeded(), **zero)
    print(f"diffusers {relative(theirs(output_type='latent').images, encoded):.2g}, ours {error:.2g}")
    assert error <= 1e-5


@both
def test_row_1_few_steps_keep_their_order(ours):
    """Below 15 steps diffusers' scheduler lowers the last step's order and its inversion does not."""
    theirs, mine = (tiny(c, scheduler()) for c in (THEIRS[ours], ours))
    zero = {"num_zero_noise_steps": 0} if ours is OursXL else {}
    encoded = mine.invert(image=picture(), num_inversion_steps=8, generator=seeded()).inversion.x[-1]
    theirs.invert(image=picture(), num_inversion_steps=8, generator=seeded(), **zero)
    error = relative(mine(**STILL).images, encoded)
    print(f"diffusers {relative(theirs(output_type='latent').images, encoded):.2g}, ours {error:.2g}")
    assert error <= 1e-5


def test_n1_row_2_the_source_prompt_is_not_taken_for_the_empty_one():
    """diffusers' SD pipeline unpacks (edit, negative) as (empty, text) and guides away from the source prompt."""
    for cls in (TheirsSD, OursSD):
        pipe = tiny(cls, scheduler())
        ids = pipe.tokenizer("", padding="max_length", return_tensors="pt").input_ids
        empty = pipe.text_encoder(ids).last_hidden_state[0].detach()
        run = lambda pipe=pipe: pipe.invert(image=picture(), source_prompt="a cat", num_inversion_steps=20)  # noqa: E731
        with torch.no_grad():
            first = seen_by(pipe.unet, run)[0]["states"][0]
        told = torch.allclose(first, empty, atol=1e-5)
        print(cls.__module__.split(".")[0], "asks for the empty prompt first:", told)
    assert told


@both
def test_n2_row_6_a_source_scale_of_1_is_a_scale(ours):
    theirs, mine = (tiny(c, scheduler()) for c in (THEIRS[ours], ours))
    given = {"image": picture(), "source_prompt": "a cat", "source_guidance_scale": 1.0, "num_inversion_steps": 20}
    outcome(lambda: theirs.invert(**given))
    inverted = mine.invert(**given)
    assert relative(mine(**STILL).images, inverted.inversion.x[-1]) <= 1e-5
    plain = mine.invert(image=picture(), num_inversion_steps=20, generator=seeded()).inversion
    guided = mine.invert(**given, generator=seeded()).inversion
    assert relative(guided.base_denoised, plain.denoised) < 1e-4
    assert relative(guided.denoised, plain.denoised) > 1e-4


@both
def test_n3_row_5_guidance_rescale_works(ours):
    theirs, mine = (tiny(c, scheduler()) for c in (THEIRS[ours], ours))
    for pipe in (theirs, mine):
        pipe.invert(image=picture(), num_inversion_steps=20, generator=seeded())
    call = {"editing_prompt": "cat", "edit_guidance_scale": 12.0, "output_type": "latent"}
    outcome(lambda: theirs(**call, guidance_rescale=0.7))
    found = [mine(**call, guidance_rescale=rescale).images for rescale in (0.0, 0.35, 0.7)]
    assert all(torch.isfinite(x).all() for x in found)
    assert relative(found[1], found[0]) > 1e-4
    assert relative(found[2], found[0]) > relative(found[1], found[0])


@both
def test_n4_embedded_editing_prompts_work_with_the_default_masks(ours):
    theirs, mine = (tiny(c, scheduler()) for c in (THEIRS[ours], ours))
    xl = ours is OursXL
    states = torch.randn(1, 24, 32 if xl else 16, generator=seeded())
    given = {"editing_prompt_embeddings" if xl else "editing_prompt_embeds": states}
    if xl:
        given["editing_pooled_prompt_embeds"] = torch.randn(1, 16, generator=seeded(1))
    for pipe in (theirs, mine):
        pipe.invert(image=picture(), num_inversion_steps=20, generator=seeded())
    outcome(lambda: theirs(**given))
    assert mine(**given, editing_prompt_token_counts=[2]).masks.any()


@both
def test_n5_n6_rows_3_and_4_a_batch_keeps_its_pictures_apart(ours):
    """diffusers' SDXL crashes; its SD splits heads as if they were pictures, and mixes their maps and token counts."""
    mine = tiny(ours, scheduler())
    theirs = tiny(THEIRS[ours], scheduler())
    call = {"editing_prompt": ["a red heart", "cat"], "use_cross_attn_mask": True, "edit_threshold": 0.6}
    pictures = [picture(1), Image.new("RGB", (32, 32), "white")]
    theirs.invert(image=pictures, num_inversion_steps=20, generator=seeded())
    outcome(lambda: theirs(**call))
    generators = [seeded(1), seeded(2)]
    together = mine.invert(image=pictures, num_inversion_steps=4, generator=generators)
    both_masks = mine(**call, inversion=together).masks
    for k in range(2):
        alone = mine.invert(image=pictures[k], num_inversion_steps=4, generator=seeded(k + 1))
        assert (mine(**call, inversion=alone).masks[0, :, 0] != both_masks[0, :, k]).float().mean() <= 0.02
    assert (both_masks[0, :, 0] != both_masks[0, :, 1]).float().mean() > 0.05


@both
def test_n7_one_negative_prompt_for_two_pictures_and_one_source_prompt_each(ours):
    theirs, mine = (tiny(c, scheduler()) for c in (THEIRS[ours], ours))
    given = {"image": [picture(1), picture(2)], "num_inversion_steps": 20}
    outcome(lambda: theirs.invert(**given, source_prompt=["a cat", "a dog"]))
    outcome(lambda: (theirs.invert(**given), theirs(negative_prompt="snow", editing_prompt="cat")))
    inverted = mine.invert(**given, source_prompt=["a cat", "a dog"])
    assert relative(mine(**STILL, negative_prompt="snow").images, inverted.inversion.x[-1]) <= 1e-5


def test_n8_padding_is_no_word():
    """With transformers 5 `length` counts padding: diffusers' mask is that of the padding."""
    pipe = tiny(OursSD, scheduler())
    counted = pipe.tokenizer("cat", padding="max_length", return_length=True, return_tensors="pt").length
    print(f"the tokenizer's length says {int(counted[0]) - 2} words, ours 1")
    pipe.invert(image=picture(), num_inversion_steps=3)
    backbone = pipe._backbone(pipe.inversion.conditioning)
    assert pipe._embed(backbone.prompts, "cat", None, None).words.nonzero().tolist() == [[1]]
    assert pipe._embed(backbone.prompts, "a red heart", None, None).words.sum() == 3


def test_n9_the_autoencoder_keeps_its_precision():
    """In fp16 with force_upcast diffusers casts the autoencoder in `invert`, never back, and crashes at the end."""
    made = {}
    for cls in (TheirsXL, OursXL):
        parts = random_xl_parts()
        parts["vae"].register_to_config(force_upcast=True)
        made[cls] = tiny(cls, scheduler(), parts).to(torch.float16)
    theirs, mine = made.values()

    def run():
        theirs.invert(image=picture(), num_inversion_steps=20)
        print("diffusers leaves the autoencoder in", theirs.vae.dtype)
        theirs(editing_prompt="cat")

    outcome(run)
    for _ in range(2):
        mine.invert(image=picture(), num_inversion_steps=3)
        assert mine.vae.dtype == torch.float16
        assert mine(editing_prompt="cat").images[0].size == (32, 32)
        assert mine.vae.dtype == torch.float16


def test_n10_an_image_prompt_is_a_known_argument_with_its_own_encoder():
    """diffusers hands it to the method that encodes pictures into latents. Used in test_pipelines."""
    theirs = tiny(TheirsXL, scheduler())
    theirs.invert(image=picture(), num_inversion_steps=20)
    outcome(lambda: theirs(editing_prompt="cat", ip_adapter_image=picture()))
    mine = tiny(OursXL, scheduler())
    mine.invert(image=picture(), num_inversion_steps=3)
    with pytest.raises(ValueError, match="load_ip_adapter"):
        mine(editing_prompt="cat", ip_adapter_image=picture())


@both
def test_n11_n13_row_9_unet_and_scheduler_are_left_as_they_were(ours):
    for cls in (THEIRS[ours], ours):
        pipe = tiny(cls, scheduler(timestep_spacing="linspace"))
        processors, config = dict(pipe.unet.attn_processors), copy.deepcopy(dict(vars(pipe.scheduler.config)))
        pipe.invert(image=picture(), num_inversion_steps=20)
        pipe(editing_prompt="cat", use_cross_attn_mask=True)
        same = pipe.unet.attn_processors == processors
        unchanged = dict(vars(pipe.scheduler.config)) == config
        hooks = any(layer._forward_hooks for layer in pipe.unet.modules())
        print(cls.__module__.split(".")[0], f"processors kept: {same}, scheduler kept: {unchanged}")
    assert same
    assert unchanged
    assert not hooks


@both
def test_n11_attention_is_restored_after_an_exception(ours):
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(), num_inversion_steps=3)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe(editing_prompt="cat", use_cross_attn_mask=True, callback_on_step_end=stop)
    assert not any(layer._forward_hooks for layer in pipe.unet.modules())


@both
def test_n12_attention_stays_fused(ours):
    for cls in (THEIRS[ours], ours):
        pipe = tiny(cls, scheduler())
        pipe.invert(image=picture(), num_inversion_steps=20)
        during = set()
        handle = pipe.unet.register_forward_pre_hook(
            lambda unet, _, during=during: during.update(type(p).__name__ for p in unet.attn_processors.values())
        )
        pipe(editing_prompt="cat", use_cross_attn_mask=True)
        handle.remove()
        print(cls.__module__.split(".")[0], sorted(during))
    assert during == {AttnProcessor2_0.__name__}


@both
def test_n14_a_misspelt_argument_is_refused(ours):
    theirs, mine = (tiny(c, scheduler()) for c in (THEIRS[ours], ours))
    for pipe in (theirs, mine):
        pipe.invert(image=picture(), num_inversion_steps=20)
    outcome(lambda: theirs(editing_prompt="cat", edit_guidence_scale=3))
    with pytest.raises(TypeError, match="did you mean 'edit_guidance_scale'"):
        mine(editing_prompt="cat", edit_guidence_scale=3)
    with pytest.raises(TypeError, match="did you mean 'num_inversion_steps'"):
        mine.invert(image=picture(), num_inference_steps=3)


@both
def test_n15_cross_attention_kwargs_reach_the_network(ours):
    for cls in (THEIRS[ours], ours):
        pipe = tiny(cls, scheduler())
        pipe.invert(image=picture(), num_inversion_steps=20)
        given = {"cross_attention_kwargs": {"scale": 0.5}}
        seen = seen_by(pipe.unet, lambda pipe=pipe, given=given: pipe(editing_prompt="cat", **given))
        reached = all((each.get("cross_attention_kwargs") or {}).get("scale") == 0.5 for each in seen)
        print(cls.__module__.split(".")[0], "scale reaches the UNet:", reached)
    assert reached


def test_n16_every_vector_of_a_textual_inversion_is_in_the_edit():
    for cls in (TheirsSD, OursSD):
        pipe = tiny(cls, scheduler())
        pipe.load_textual_inversion(torch.randn(3, 16, generator=seeded()), token="<mine>")
        pipe.invert(image=picture(), num_inversion_steps=20)
        ids = []
        handle = pipe.text_encoder.register_forward_pre_hook(lambda _, args, ids=ids: ids.append(args[0]))
        pipe(editing_prompt="<mine>")
        handle.remove()
        added = pipe.tokenizer.convert_tokens_to_ids(["<mine>", "<mine>_1", "<mine>_2"])
        count = max(int(torch.isin(each, torch.tensor(added)).sum()) for each in ids)
        print(cls.__module__.split(".")[0], f"{count} of 3 vectors reach the text encoder")
    assert count == 3


@both
def test_n17_tensors_go_where_the_networks_run(ours):
    """Offloaded networks lie elsewhere than they run: test_pipelines runs them with their weights on "meta"."""
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(), num_inversion_steps=2)
    for part in (part for part in pipe.components.values() if isinstance(part, torch.nn.Module)):
        for layer in part.modules():
            layer._hf_hook = SimpleNamespace(execution_device=torch.device("meta"))
    assert pipe._backbone(pipe.inversion.conditioning).device.type == "meta"


@both
def test_n18_a_mask_at_the_pictures_size(ours):
    theirs, mine = (tiny(c, scheduler()) for c in (THEIRS[ours], ours))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    for pipe in (theirs, mine):
        pipe.invert(image=picture(), num_inversion_steps=20)
    outcome(lambda: theirs(editing_prompt="cat", user_mask=mask))
    masks = mine(editing_prompt="cat", edit_threshold=0.5, user_mask=mask).masks
    assert masks[..., 8:].max() == 0
    assert masks[..., :8].max() == 1


@both
@pytest.mark.parametrize(("width", "height"), [(50, 37), (100, 41)])
def test_n19_any_size_comes_back_at_its_size(ours, width, height):
    theirs, mine = (tiny(c, scheduler()) for c in (THEIRS[ours], ours))
    outcome(lambda: theirs.invert(image=picture(0, width, height), num_inversion_steps=20))
    mine.invert(image=picture(0, width, height), num_inversion_steps=3)
    assert mine(editing_prompt="cat", use_cross_attn_mask=True).images[0].size == (width, height)


@both
def test_n20_tuples_work_and_lengths_are_checked(ours):
    theirs, mine = (tiny(c, scheduler()) for c in (THEIRS[ours], ours))
    for pipe in (theirs, mine):
        pipe.invert(image=picture(), num_inversion_steps=20)
    two = {"editing_prompt": ["cat", "dog"]}
    outcome(lambda: theirs(**two, edit_guidance_scale=(3.0, 4.0)))
    outcome(lambda: theirs(**two, edit_guidance_scale=[3.0, 4.0, 5.0]))
    assert mine(**two, edit_guidance_scale=(3.0, 4.0)).masks.any()
    with pytest.raises(ValueError, match="3 values for 2 edits"):
        mine(**two, edit_guidance_scale=[3.0, 4.0, 5.0])


@both
def test_n21_row_9_an_inversion_outlives_the_next(ours):
    """diffusers keeps one inversion on the pipeline, and asks for it by way of an obscure error."""
    outcome(lambda: tiny(THEIRS[ours], scheduler())(editing_prompt="cat"))
    pipe = tiny(ours, scheduler())
    with pytest.raises(ValueError, match="call invert"):
        pipe(editing_prompt="cat")
    first = pipe.invert(image=picture(1), num_inversion_steps=3, generator=seeded())
    expected = pipe(editing_prompt="cat", output_type="latent").images
    pipe.invert(image=picture(2), num_inversion_steps=5, generator=seeded())
    assert torch.equal(pipe(editing_prompt="cat", inversion=first, output_type="latent").images, expected)
    assert len(pipe.zs) == 5
    assert torch.equal(pipe.init_latents, pipe.inversion.init_latents)


@both
def test_n22_the_pipelines_hold_no_method(ours, monkeypatch):
    """What they return is what the method's functions say, whatever that is: nothing is computed beside them."""
    given = torch.arange(6.0).view(6, 1, 1, 1, 1).expand(6, 1, 4, 16, 16)
    schedule = core.Schedule((900.0,) * 5, (0.5,) * 6, (0.5,) * 6)
    made = core.Inversion(schedule, given, given[1:], given[1:], base_prompt=())

    def invert(denoise, schedule, x0, noise, *, base_prompt, source, source_scale):
        return dataclasses.replace(made, base_prompt=base_prompt)

    def predict(denoise, schedule, path, *, base_prompt, source, source_scale):
        assert torch.equal(path, given)
        return dataclasses.replace(made, base_prompt=base_prompt, denoised=given[1:] + 1)

    def edit(denoise, inversion, concepts, *_, **__):
        replayed.append(inversion)
        masks = torch.full((len(concepts), 1, 16, 16), 0.25)
        for i in range(5):
            yield core.Step(i, given[i] + 10, given[i], given[i] + 20, masks, None)

    replayed: list[core.Inversion] = []
    monkeypatch.setattr(core, "invert", invert)
    monkeypatch.setattr(core, "predict", predict)
    monkeypatch.setattr(core, "edit", edit)
    pipe = tiny(ours, scheduler())
    inverted = pipe.invert(image=picture(), num_inversion_steps=5)
    assert torch.equal(inverted.inversion.x, given)
    out = pipe(editing_prompt="cat", output_type="latent")
    assert torch.equal(out.images, given[4] + 10)
    assert set(out.masks.unique().tolist()) == {0.25}
    assert torch.equal(replayed[-1].denoised, given[1:])
    pipe(editing_prompt="cat", negative_prompt="snow", output_type="latent")
    assert torch.equal(replayed[-1].denoised, given[1:] + 1)


@both
def test_n23_row_12_the_noise_mask_takes_part_at_every_step_unless_asked(ours):
    """Only diffusers' SD leaves M2 out above t = 800, where it acts as if intersect were off."""
    pipe = tiny(ours, scheduler())
    inversion = pipe.invert(image=picture(), num_inversion_steps=20, skip=0.0, generator=seeded())
    early = [t > 800 for t in inversion.inversion.schedule.t]
    assert any(early)
    call = {"editing_prompt": "cat", "edit_threshold": 0.6, "edit_guidance_scale": 0.01}
    both_masks = pipe(**call, use_intersect_mask=True).masks.mean((1, 2, 3, 4))
    gated = pipe(**call, use_intersect_mask=True, noise_mask_below=800).masks.mean((1, 2, 3, 4))
    assert (both_masks < 0.35).all()
    assert all((share > 0.37) == first for share, first in zip(gated.tolist(), early, strict=True))


@both
def test_n24_recorded_guidance_asks_no_concept(ours):
    found = {}
    for cls in (THEIRS[ours], ours):
        pipe = tiny(cls, scheduler())
        pipe.invert(image=picture(), num_inversion_steps=20, generator=seeded())
        out = pipe(editing_prompt="cat", output_type="latent")
        recorded = list(pipe.sem_guidance) if cls is not ours else out.sem_guidance
        given = {"editing_prompt": "cat", "sem_guidance": recorded}
        seen = seen_by(pipe.unet, lambda pipe=pipe, given=given: pipe(**given))
        found[cls] = sum(each["rows"] for each in seen)
        print(cls.__module__.split(".")[0], found[cls], "evaluations")
    assert found[ours] == 19


def test_row_7_sd_inverts_with_ddim():
    """A scheduler that diffusers documents: its SD pipeline looks a float timestep up and fails."""
    theirs, mine = (tiny(c, scheduler("ddim")) for c in (TheirsSD, OursSD))
    outcome(lambda: theirs.invert(image=picture(), num_inversion_steps=20))
    inverted = mine.invert(image=picture(), num_inversion_steps=20)
    assert inverted.inversion.schedule.order == 1
    assert relative(mine(**STILL).images, inverted.inversion.x[-1]) <= 1e-5


def test_row_8_a_network_without_attention_at_a_quarter():
    """Maps come from the nearest level that attends to text; where there is none, one sentence says so."""

    def unet(*kinds):
        torch.manual_seed(0)
        up = [kind.replace("Down", "Up") for kind in reversed(kinds)]
        return UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 16), layers_per_block=1,
            down_block_types=kinds, up_block_types=up, cross_attention_dim=16, attention_head_dim=2, norm_num_groups=8,
            mid_block_type=None,
        ).eval()  # fmt: skip

    call = {"editing_prompt": "cat", "use_cross_attn_mask": True, "edit_threshold": 0.6}
    for kinds in (("DownBlock2D", "CrossAttnDownBlock2D"), ("DownBlock2D", "DownBlock2D")):
        made = [tiny(c, scheduler(), random_parts() | {"unet": unet(*kinds)}) for c in (TheirsSD, OursSD)]
        for pipe in made:
            pipe.invert(image=picture(), num_inversion_steps=20)
        outcome(lambda made=made: made[0](**call))
        if kinds[1].startswith("Cross"):
            assert made[1](**call).masks.any()
        else:
            with pytest.raises(ValueError, match="attends to text in no layer"):
                made[1](**call)


@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 96)])
def test_row_10_sdxl_is_told_height_then_width(width, height):
    """diffusers calls shape[2] the width; the time ids are (height, width, top, left, height, width)."""
    for cls in (TheirsXL, OursXL):
        pipe = tiny(cls, scheduler())
        seen = seen_by(pipe.unet, lambda p=pipe: p.invert(image=picture(0, width, height), num_inversion_steps=20))
        told = seen[0]["added_cond_kwargs"]["time_ids"][0].tolist()
        print(cls.__module__.split(".")[0], told)
    assert told == [height, width, 0, 0, height, width]


def test_row_10_both_outputs_are_exported():
    print("diffusers:", hasattr(diffusers, "LEditsPPInversionPipelineOutput"))
    for name in ("LEditsPPDiffusionPipelineOutput", "LEditsPPInversionPipelineOutput"):
        assert name in ledits.__all__
        assert inspect.isclass(getattr(ledits, name))


def test_row_11_the_smoothing_is_the_published_codes():
    """exp(-(d / (2 std))^2) makes of "sigma 0.5" one of 0.71: kept, for masks that compare."""
    from diffusers.pipelines.ledits_pp.pipeline_leditspp_stable_diffusion import LeditsGaussianSmoothing

    spot = torch.zeros(1, 1, 5, 5)
    spot[..., 2, 2] = 1
    kernel = core.smooth(spot)[0, 0, 1:4, 1:4]
    assert torch.allclose(kernel, LeditsGaussianSmoothing("cpu").weight[0, 0], atol=1e-6)
    assert kernel[1].sum() == pytest.approx(0.576, abs=1e-3)


def test_row_12_latents_of_any_width():
    """diffusers repeats masks to 4 channels; the bundled model's latents have 8."""
    folder = checkpoints.find("scenes")
    made = []
    for cls in (TheirsSD, OursSD):
        extra = {"map_scale": 1} if cls is OursSD else {}
        made.append(cls.from_pretrained(folder, safety_checker=None, requires_safety_checker=False, **extra))
        made[-1].scheduler = DPMSolverMultistepScheduler(
            **SCHEDULER, prediction_type="v_prediction", algorithm_type="sde-dpmsolver++"
        )
    image = Image.open(Path(__file__).parent.parent / "examples/pictures/cat.png").convert("RGB")
    theirs, mine = made
    outcome(lambda: (theirs.invert(image=image), theirs(editing_prompt="dog")))
    mine.invert(image=image, num_inversion_steps=3, generator=seeded())
    out = mine(editing_prompt="dog", edit_threshold=0.7)
    assert out.masks.shape == (3, 1, 1, 16, 16)
    assert out.images[0].size == (128, 128)
