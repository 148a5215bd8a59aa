"""What changes between an inversion and its edits: callbacks, adapters, devices, pickling, other conditionings."""

import copy
import pickle

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from ledits import LEditsPPPipelineStableDiffusion as OursSD
from ledits import LEditsPPPipelineStableDiffusionXL as OursXL
from ledits.method import core
from ledits.pipelines import moving
from ledits.pipelines.outputs import Conditioning

from conftest import ip_adapter, picture, random_xl_parts, relative, scheduler, seeded, tiny

both = pytest.mark.parametrize("ours", [OursSD, OursXL], ids=["sd", "xl"])
CALL = {"editing_prompt": "cat", "output_type": "latent"}


def inverted(ours, steps: int = 5, **options):
    pipe = tiny(ours, scheduler())
    return pipe, pipe.invert(image=picture(), num_inversion_steps=steps, generator=seeded(), **options)


@both
@pytest.mark.parametrize("returned", [True, False])
def test_latents_that_a_callback_changes_in_place_are_used(ours, returned):
    pipe, inversion = inverted(ours)
    stored = inversion.inversion.x.clone()

    def halve(_pipe, i, _t, tensors):
        if i == 4:
            tensors["latents"].mul_(0.5)
        return tensors if returned else {}

    for options in (CALL, {"output_type": "latent"}):  # an edit, and a replay on the path itself
        plain = pipe(**options).images
        assert torch.allclose(pipe(**options, callback_on_step_end=halve).images, plain / 2, atol=1e-6)
        assert torch.equal(inversion.inversion.x, stored)


@both
@pytest.mark.parametrize("in_place", [True, False])
def test_embeddings_that_a_callback_changes_while_on_the_path_are_used(ours, in_place):
    """Before the first edit acts the network is not asked; a changed base prompt has to be."""
    pipe, _ = inverted(ours)
    name = "negative_prompt_embeds"

    def change(_pipe, i, _t, tensors):
        if i == 0 and in_place:
            tensors[name].add_(1)
        return {name: tensors[name] + (i == 0 and not in_place)}

    options = {**CALL, "edit_warmup_steps": 3}
    plain = pipe(**options)
    changed = pipe(**options, callback_on_step_end=change, callback_on_step_end_tensor_inputs=[name])
    assert relative(changed.images, plain.images) > 1e-3
    assert changed.network_evaluations == plain.network_evaluations + 3  # steps 1 to 3, for the base prompt alone
    assert torch.equal(pipe(**options).images, plain.images)


@both
def test_a_callback_that_changes_nothing_costs_nothing(ours):
    """Copies of what was handed out count as unchanged: contents are compared."""
    pipe, _ = inverted(ours)
    names = pipe._callback_tensor_inputs
    options = {**CALL, "edit_warmup_steps": 2}
    plain = pipe(**options)
    same = pipe(
        **options, callback_on_step_end=lambda p, i, t, k: {name: value.clone() for name, value in k.items()},
        callback_on_step_end_tensor_inputs=names,
    )  # fmt: skip
    assert torch.equal(same.images, plain.images)
    assert same.network_evaluations == plain.network_evaluations


def test_sizes_that_a_callback_changes_are_refused():
    pipe, _ = inverted(OursXL)

    def change(_pipe, _i, _t, tensors):
        tensors["add_time_ids"] += 1

    with pytest.raises(ValueError, match="add_time_ids"):
        pipe(**CALL, callback_on_step_end=change, callback_on_step_end_tensor_inputs=["add_time_ids"])


@pytest.fixture
def adapted():
    """An SDXL pipeline that can take IP-Adapters, without one."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16,
        projection_dim=16,
    )  # fmt: skip
    extra = {
        "image_encoder": CLIPVisionModelWithProjection(vision).eval(),
        "feature_extractor": CLIPImageProcessor(size=32, crop_size=32),
    }
    return tiny(OursXL, scheduler(), random_xl_parts() | extra)


def test_an_ip_adapter_takes_arrays_and_tensors(adapted):
    adapted.unet._load_ip_adapter_weights([ip_adapter(adapted.unet)])
    adapted.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    shown = picture(7)
    forms = (shown, [shown], np.asarray(shown), torch.from_numpy(np.asarray(shown).copy()).permute(2, 0, 1))
    found = [adapted(**CALL, ip_adapter_image=form).images for form in forms]
    assert all(relative(each, found[0]) < 1e-5 for each in found)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([picture(1), picture(2)], "2 pictures for 1 adapters"),
        ([[picture(1), picture(2)]], "type list"),
        ("cat.png", "type str"),
        (np.zeros((2, 32, 32, 3), np.uint8), "shape (2, 32, 32, 3)"),
    ],
)
def test_what_no_ip_adapter_can_take_is_one_sentence(adapted, given, says):
    adapted.unet._load_ip_adapter_weights([ip_adapter(adapted.unet)])
    adapted.invert(image=picture(), num_inversion_steps=2, generator=seeded())
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        adapted(**CALL, ip_adapter_image=given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_ip_adapter_that_is_younger_than_the_inversion_has_the_path_predicted_again(adapted):
    inversion = adapted.invert(image=picture(), num_inversion_steps=3, generator=seeded())
    adapted.unet._load_ip_adapter_weights([ip_adapter(adapted.unet)])
    still = adapted(**CALL, ip_adapter_image=picture(7), edit_guidance_scale=1e-9)
    assert still.network_evaluations == 3 + 2 * 3 - 1
    assert relative(still.images, inversion.inversion.x[-1]) <= 1e-5


def test_other_ip_adapter_masks_at_the_call_are_compared_by_content(adapted):
    """Equal masks are the same conditioning; other ones have the path predicted again, and the replay stays exact."""
    adapted.unet._load_ip_adapter_weights([ip_adapter(adapted.unet)])
    masks = [torch.ones(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)]
    masks[1][..., :16] = 1
    given = [{"ip_adapter_masks": [mask]} for mask in masks]
    inversion = adapted.invert(
        image=picture(), num_inversion_steps=4, generator=seeded(), cross_attention_kwargs=given[0]
    )
    still = {**CALL, "ip_adapter_image": picture(7), "edit_guidance_scale": 1e-9}
    same = adapted(**still, cross_attention_kwargs={"ip_adapter_masks": [masks[0].clone()]})
    other = adapted(**still, cross_attention_kwargs=given[1])
    assert same.network_evaluations == 2 * 4 - 1
    assert other.network_evaluations == 4 + 2 * 4 - 1
    for out in (same, other):
        assert relative(out.images, inversion.inversion.x[-1]) <= 1e-5


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_inversion_follows_the_pipeline_to_another_precision(ours, dtype):
    """The path is predicted again as the network computes now: the replay stays exact to its precision."""
    pipe, inversion = inverted(ours, steps=4)
    pipe.to(dtype)
    out = pipe(**CALL, edit_guidance_scale=1e-9, use_intersect_mask=False, inversion=inversion)
    assert relative(out.images, inversion.inversion.x[-1]) <= 1e-2
    assert out.network_evaluations == 4 + 2 * 4 - 1


@both
def test_an_inversion_follows_the_pipeline_to_another_device(ours):
    _, inversion = inverted(ours, source_prompt="a cat")
    given, meta = inversion.inversion, torch.device("meta")
    there = moving.moved(given, meta, torch.float16)
    texts = [*there.base_prompt, *there.source]
    tensors = [there.x, there.denoised, there.base_denoised, *(text.states for text in texts)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert {text.states.dtype for text in texts} == {torch.float16}
    assert there.base_denoised is not there.denoised
    plain = core.Inversion(given.schedule, given.x, given.denoised, given.denoised)
    there = moving.moved(plain, meta, torch.float16)
    assert there.base_denoised is there.denoised
    assert given.x.device.type == "cpu"


@both
def test_results_can_be_pickled(ours):
    pipe, inversion = inverted(ours, source_prompt="a cat")
    out = pipe(editing_prompt="cat")
    back = pickle.loads(pickle.dumps(out))
    assert torch.equal(back.masks, out.masks)
    assert np.array_equal(np.asarray(back.images[0]), np.asarray(out.images[0]))
    for other in (pickle.loads(pickle.dumps(inversion)), copy.deepcopy(inversion)):
        assert torch.equal(pipe(**CALL, inversion=other).images, pipe(**CALL, inversion=inversion).images)
        assert other.conditioning == inversion.conditioning
        with pytest.raises(ValueError, match="pickled without its pipeline"):
            _ = other.vae_reconstruction_images
    shown = inversion.vae_reconstruction_images
    assert len(pickle.loads(pickle.dumps(inversion)).vae_reconstruction_images) == len(shown) == 1


@both
def test_an_edit_takes_a_generator_and_draws_nothing(ours):
    """diffusers accepts it, and its own tests pass it."""
    pipe, _ = inverted(ours)
    generator = seeded(3)
    state = generator.get_state()
    assert torch.equal(pipe(**CALL, generator=generator).images, pipe(**CALL).images)
    assert torch.equal(generator.get_state(), state)


@both
def test_a_network_that_is_not_finite_gives_no_picture(ours):
    pipe, _ = inverted(ours, steps=2)
    pipe.unet.conv_out.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        pipe(editing_prompt="cat")


def test_conditionings_differ_by_content():
    a = Conditioning(attention={"scale": 0.5, "masks": [torch.ones(2)]}, source=["a", "b"])
    assert moving.equal(a, Conditioning(attention={"scale": 0.5, "masks": [torch.ones(2)]}, source=["a", "b"]))
    for other in (
        Conditioning(attention={"scale": 0.5, "masks": [torch.zeros(2)]}, source=["a", "b"]),
        Conditioning(attention={"scale": 0.5}, source=["a", "b"]),
        Conditioning(attention={"scale": 0.5, "masks": [torch.ones(2)]}, source=["a", "c"]),
        Conditioning(attention=None, source=["a", "b"]),
    ):
        assert not moving.equal(a, other)
