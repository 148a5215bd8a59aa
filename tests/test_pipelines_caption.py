"""Captioned edits through the pipelines: the same as `method.caption` by hand, and told apart from keyword edits."""

import pytest
import torch

from ledits import LEditsPPPipelineStableDiffusion as OursSD
from ledits import LEditsPPPipelineStableDiffusionXL as OursXL
from ledits.method import caption
from ledits.method import regions as finding
from ledits.method.core import Concept

from conftest import picture, relative, scheduler, seeded, tiny

both = pytest.mark.parametrize("ours", [OursSD, OursXL], ids=["sd", "xl"])
DOG = {"editing_prompt": "a dog on a beach", "output_type": "latent"}


def inverted(ours, image=None, **options):
    pipe = tiny(ours, scheduler())
    given = {"caption": "a cat on a beach", "num_inversion_steps": 5, "generator": seeded(), **options}
    return pipe, pipe.invert(image=picture() if image is None else image, **given)


@both
@pytest.mark.parametrize("threshold", [None, 0.7])
def test_a_captioned_edit_is_that_of_the_method(ours, threshold):
    pipe, inversion = inverted(ours)
    out = pipe(**DOG, edit_guidance_scale=4.0, region_threshold=threshold)
    backbone, path = pipe._backbone(inversion.conditioning), inversion.inversion
    dog = (pipe._embed(backbone.prompts, "a dog on a beach", None, None),)
    with torch.inference_mode(), backbone.denoiser(path.schedule, maps=False) as denoise:
        steps = list(caption.edit(denoise, path, [Concept(dog, 4.0, threshold)]))
        located = finding.find(denoise, path, [Concept(dog, 4.0, threshold)])
    assert relative(out.images, steps[-1].x) < 1e-6
    assert torch.equal(out.masks[-1, 0], located[0].region[:, 0])
    assert out.network_evaluations == 3 + 2 * 5 - 1


@both
def test_nothing_changes_outside_the_region_that_was_found(ours):
    pipe, inversion = inverted(ours)
    out = pipe(**DOG, region_threshold=0.8)
    outside = (out.masks[-1, 0] == 0)[:, None].expand_as(out.images)
    x0 = inversion.inversion.x[-1]
    assert torch.equal(out.images[outside], x0[outside])
    assert not torch.equal(out.images[~outside], x0[~outside])
    assert torch.equal(pipe(output_type="latent").images, x0)


@both
def test_each_picture_of_a_batch_has_its_caption(ours):
    pictures, captions, edited = [picture(1), picture(2)], ["a cat", "snow"], ["a dog", "a beach"]
    pipe, _ = inverted(ours, pictures, caption=captions, generator=[seeded(1), seeded(2)])
    together = pipe(editing_prompt=[edited], output_type="latent", region_threshold=0.6).images
    for k in range(2):
        pipe.invert(image=pictures[k], caption=captions[k], num_inversion_steps=5, generator=seeded(k + 1))
        alone = pipe(editing_prompt=edited[k], output_type="latent", region_threshold=0.6).images
        assert relative(together[k], alone[0]) < 1e-4


@both
def test_a_user_mask_bounds_a_captioned_edit(ours):
    pipe, _ = inverted(ours)
    left = torch.zeros(32, 32)
    left[:, :16] = 1
    masks = pipe(**DOG, user_mask=left).masks
    assert masks[..., 8:].max() == 0
    assert masks[..., :8].max() == 1


@both
def test_a_callback_changes_a_captioned_edit(ours):
    pipe, _ = inverted(ours)
    plain = pipe(**DOG).images
    halved = pipe(**DOG, callback_on_step_end=lambda p, i, t, k: {"latents": k["latents"] / (1 + (i == 4))})
    assert torch.allclose(halved.images, plain / 2, atol=1e-6)


@both
def test_a_caption_and_a_source_prompt_are_two_things(ours):
    """A source prompt guides the path and its replay; a caption is what edits start from, and is asked for alone."""
    pipe, captioned = inverted(ours)
    guided = pipe.invert(image=picture(), source_prompt="a cat on a beach", num_inversion_steps=5, generator=seeded())
    assert (captioned.network_evaluations, guided.network_evaluations) == (5, 10)
    assert [text.name for text in captioned.inversion.base_prompt] == ["a cat on a beach"]
    assert captioned.inversion.source == ""
    assert [text.name for text in guided.inversion.base_prompt] == [""]
    assert [text.name for text in guided.inversion.source] == ["a cat on a beach"]


@both
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"caption": ""}, "caption is empty"),
        ({"caption": "a cat", "source_prompt": "a cat"}, "neither source_prompt nor negative_prompt"),
        ({"caption": "a cat", "negative_prompt": "dark"}, "neither source_prompt nor negative_prompt"),
        ({"caption": ["a", "b"]}, "2 texts for 1 pictures"),
    ],
)
def test_a_caption_with_what_it_replaces_is_one_sentence(ours, given, says):
    with pytest.raises(ValueError, match=says):
        tiny(ours, scheduler()).invert(image=picture(), num_inversion_steps=2, **given)


def test_a_caption_keeps_the_noise():
    with pytest.raises(ValueError, match="num_zero_noise_steps"):
        inverted(OursXL, num_zero_noise_steps=3)


@both
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"edit_threshold": 0.8}, "edit_threshold: not with a caption"),
        ({"use_cross_attn_mask": True, "use_intersect_mask": False}, "use_cross_attn_mask"),
        ({"guidance_rescale": 0.5}, "guidance_rescale"),
        ({"noise_mask_below": 800}, "noise_mask_below"),
        ({"negative_prompt": "dark"}, "neither source_prompt nor negative_prompt"),
    ],
)
def test_what_belongs_to_keyword_edits_is_one_sentence(ours, given, says):
    pipe, _ = inverted(ours)
    with pytest.raises(ValueError, match=says):
        pipe(**DOG, **given)


@both
def test_what_belongs_to_captioned_edits_is_one_sentence(ours):
    pipe = tiny(ours, scheduler())
    pipe.invert(image=picture(), num_inversion_steps=2)
    with pytest.raises(ValueError, match="region_threshold is for a picture inverted with a caption"):
        pipe(**DOG, region_threshold=0.8)
    with pytest.raises(ValueError, match="needs a threshold|edit_threshold"):
        pipe(**DOG, edit_threshold=None)
