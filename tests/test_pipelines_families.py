"""Pipelines of other families, named as diffusers names them: exact, the same as the editor, every argument."""

import numpy as np
import pytest
import torch
from diffusers import IFSuperResolutionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file

import ledits
import tiny_families
from ledits import (
    Editor,
    LEditsPPPipelineFlux,
    LEditsPPPipelineIF,
    LEditsPPPipelineQwenImage,
    LEditsPPPipelineStableDiffusion3,
)

from conftest import picture, relative, seeded

OURS = {
    "sd3": LEditsPPPipelineStableDiffusion3, "flux": LEditsPPPipelineFlux, "deepfloyd_if": LEditsPPPipelineIF,
    "qwen_image": LEditsPPPipelineQwenImage,
}  # fmt: skip
EDIT = {"editing_prompt": ["a dog", "cat"], "edit_guidance_scale": [5.0, 3.0], "edit_threshold": [0.7, 0.8],
        "reverse_editing_direction": [False, True], "output_type": "latent"}  # fmt: skip


def make(name):
    pipe = OURS[name](**tiny_families.make(name).components, **IF_OPTIONS.get(name, {}))
    pipe.set_progress_bar_config(disable=True)
    return pipe


IF_OPTIONS = {"deepfloyd_if": {"requires_safety_checker": False}}


@pytest.fixture(scope="module")
def made():
    kept = {}
    return lambda name: kept.get(name) or kept.setdefault(name, make(name))


@pytest.fixture(params=OURS)
def name(request):
    return request.param


@pytest.fixture
def pipe(name, made):
    return made(name)


def inverted(pipe, image=None, steps=4, **options):
    image = picture(width=48, height=32) if image is None else image
    return pipe.invert(image=image, num_inversion_steps=steps, skip=0.15, generator=seeded(), **options)


@pytest.mark.parametrize("caption", [None, "a cat"])
def test_pictures_of_any_size_are_reconstructed_and_edited_alike_alone_and_in_a_batch(pipe, caption):
    pictures = [picture(1, 48, 32), picture(2, 41, 30), picture(3, 32, 32)]
    given = {"num_inversion_steps": 4, "skip": 0.15, "caption": caption, "height": None}
    inversion = pipe.invert(image=pictures, generator=[seeded(k) for k in range(3)], **given)
    x0 = inversion.inversion.x[-1]
    assert torch.equal(pipe(output_type="latent").images, x0)
    still = pipe(editing_prompt="a dog", edit_guidance_scale=0, edit_warmup_steps=0, output_type="latent").images
    assert torch.equal(still, x0)
    call = {"editing_prompt": "a dog", "output_type": "latent", "edit_guidance_scale": 2.0}
    if caption:
        call |= {"region_threshold": 0.5}
    together = pipe(**call).images
    assert relative(together, x0) > 1e-3
    pipe.invert(image=pictures[0], generator=seeded(0), **given)
    assert relative(pipe(**call).images, together[:1]) < 1e-4
    shown = pipe(inversion=inversion, editing_prompt="a dog").images
    assert [each.size for each in shown] == [each.size for each in pictures]


@pytest.mark.parametrize("caption", [None, "a cat"])
def test_it_is_the_editor_by_another_name(name, pipe, caption):
    """The same noise, levels, prompts and masks; the same bytes."""
    image = picture(width=48, height=32)
    inversion = pipe.invert(image=image, num_inversion_steps=4, skip=0.25, generator=seeded(3), caption=caption)
    editor = Editor.from_pipe(pipe)
    theirs = editor.invert(image, steps=4, skip=0.25, seed=3, source=caption, size=64)
    assert relative(inversion.inversion.x, theirs.path.x) < 1e-6
    call = {"edit_guidance_scale": 5.0, "edit_warmup_steps": 0}
    if caption:
        out, edited = pipe(editing_prompt="a dog", region_threshold=0.6, **call), theirs.edit("->a dog:5@0.6[0..4]")
    else:
        out, edited = pipe(editing_prompt="dog", edit_threshold=0.8, **call), theirs.edit("+dog:5@0.8[0..4]")
    difference = np.abs(np.asarray(out.images[0], np.int16) - edited.rgb.astype(np.int16))
    assert difference.max() <= 1  # the pipeline rounds as diffusers does
    assert np.abs(np.asarray(out.images[0], np.int16) - np.asarray(image, np.int16)).max() > 1


def test_the_models_own_steps_and_skip_are_the_defaults(made):
    inversion = made("sd3").invert(image=picture(), generator=seeded())
    assert len(inversion.inversion.schedule) == 28
    assert inversion.inversion.schedule.sigma[0] == pytest.approx(3 * 0.68 / (1 + 2 * 0.68))


def test_results_say_where_and_how_much(pipe):
    inverted(pipe)
    out = pipe(**EDIT, attn_store_steps=[0, 2])
    assert out.masks.shape == (4, 2, 1, *out.images.shape[2:])
    assert [float(out.masks[1, k].mean()) for k in (0, 1)] < [0.31, 0.21]
    assert len(out.sem_guidance) == 4
    assert out.attention_maps.shape[:2] == (2, 1)
    again = pipe(**EDIT, sem_guidance=out.sem_guidance).images
    assert relative(again, out.images) < 1e-5
    left = torch.zeros(32, 48)
    left[:, :16] = 1
    masks = pipe(**EDIT, user_mask=left).masks
    cut = 16 * masks.shape[-1] // 48
    assert masks[..., cut:].max() == 0
    assert masks[..., :cut].amax((-2, -1)).min() == 1
    assert relative(pipe(**EDIT, guidance_rescale=0.7).images, out.images) > 1e-4


def test_callbacks_change_latents_and_embeddings(name, pipe):
    inversion = inverted(pipe)
    plain, seen = pipe(**EDIT).images, []

    def halve(_pipe, i, t, tensors):
        seen.append(float(t))
        return {"latents": tensors["latents"] / 2} if i == 3 else {}

    assert torch.allclose(pipe(**EDIT, callback_on_step_end=halve).images, plain / 2, atol=1e-6)
    assert seen == pytest.approx(inversion.inversion.schedule.t)
    for each in pipe._callback_tensor_inputs[1:]:

        def change(_pipe, i, _t, tensors, each=each):
            return {each: tensors[each].flip(-1) if i == 0 else tensors[each]}

        options = {"callback_on_step_end": change, "callback_on_step_end_tensor_inputs": [each]}
        assert relative(pipe(**EDIT, **options).images, plain) > 1e-5, each
    with pytest.raises(ValueError, match="add_time_ids"):
        pipe(**EDIT, callback_on_step_end_tensor_inputs=["add_time_ids"])
    assert torch.equal(pipe(**EDIT).images, plain)


def test_saved_loaded_taken_over_and_offloaded_it_is_the_same(name, pipe, tmp_path):
    inverted(pipe, steps=2)
    expected = pipe(**EDIT).images
    pipe.save_pretrained(tmp_path / "ours")
    tiny_families.make(name).save_pretrained(tmp_path / "theirs")
    offloaded = OURS[name].from_pretrained(tmp_path / "ours")
    offloaded.enable_model_cpu_offload(device="cpu")
    others = [
        OURS[name].from_pretrained(tmp_path / "theirs"),
        OURS[name].from_pipe(tiny_families.make(name)),
        offloaded,
    ]
    for other in others:
        other.set_progress_bar_config(disable=True)
        inverted(other, steps=2)
        assert relative(other(**EDIT).images, expected) < 1e-5
    found = ledits.load(str(tmp_path / "ours"), device="cpu")
    x = found.encode(torch.zeros(1, 3, 32, 48))
    with found.denoiser(found.schedule(2, 0.15, 32, 48), maps=False) as denoise:
        assert denoise(x[None], [1], ["a cat"])[0].isfinite().all()


# Its real tokenizer has the 34 tokens before the words that are cut off; the tiny one has more.
NOT_AT_START = ("sd3", "qwen_image")
# Of one length where a family does not fill them up.
TEXTS = {"qwen_image": ("a dog", "a cat", "snowy")}


def test_embedded_prompts_are_as_good_as_texts(name, pipe):
    inverted(pipe, steps=2)
    prompts = pipe._backbone(pipe.inversion.conditioning).prompts
    texts = [prompts.embed(text) for text in TEXTS.get(name, ("a dog", "cat", "snow"))]
    if name == "sd3":  # counts are of CLIP's tokens; T5's are words too in a text
        for text in texts:
            text.words[24:] = False
    states = torch.stack([text.states for text in texts])
    edit = {"editing_prompt_embeds": states[:2], "negative_prompt_embeds": states[2:]}
    if name not in ("deepfloyd_if", "qwen_image"):
        pooled = torch.stack([text.pooled for text in texts])
        with pytest.raises(ValueError, match="editing_pooled_prompt_embeds"):
            pipe(**edit)
        edit |= {"editing_pooled_prompt_embeds": pooled[:2], "negative_pooled_prompt_embeds": pooled[2:]}
    rule = {"use_intersect_mask": name not in NOT_AT_START}
    plain = {**EDIT, **rule, "editing_prompt": [text.name for text in texts[:2]]}
    expected = pipe(**plain, negative_prompt=texts[2].name).images
    counts = [int(text.words.sum()) for text in texts[:2]]
    call = {**plain, "editing_prompt": None, "editing_prompt_token_counts": counts}
    assert relative(pipe(**call, **edit).images, expected) < 1e-4
    with pytest.raises(ValueError, match="editing_prompt_token_counts"):
        pipe(**{**call, "editing_prompt_token_counts": None, "use_intersect_mask": True}, **edit)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_loras_scale_reaches_the_transformer(name, tmp_path):
    pipe = make(name)
    inverted(pipe, steps=2)
    plain = pipe(**EDIT).images
    torch.manual_seed(5)
    weights = {}
    for key, layer in pipe.transformer.named_modules():
        if key.endswith("to_q"):
            weights[f"transformer.{key}.lora_A.weight"] = torch.randn(2, layer.in_features)
            weights[f"transformer.{key}.lora_B.weight"] = torch.randn(layer.out_features, 2)
    save_file(weights, tmp_path / "pytorch_lora_weights.safetensors")
    pipe.load_lora_weights(tmp_path)
    found = {}
    for scale in (0.0, 0.5, 1.0):
        inverted(pipe, steps=2, joint_attention_kwargs={"scale": scale})
        found[scale] = pipe(**EDIT).images
    assert relative(found[0.0], plain) < 1e-4
    assert relative(found[1.0], plain) > 1e-4
    assert relative(found[0.5], found[1.0]) > 1e-5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"image": []}, "no image"),
        ({"image": 3}, "type int"),
        ({"num_inversion_steps": 0}, "at least 1"),
        ({"skip": 1.0}, "below 1"),
        ({"source_prompt": ["a", "b"]}, "2 texts for 1 pictures"),
        ({"generator": [seeded(), seeded()]}, "2 generators for 1 pictures"),
        ({"caption": "a cat", "source_prompt": "a cat"}, "caption goes with neither"),
        ({"source_prompt": "a cat " * 400}, "shorten it"),
    ],
)
def test_wrong_inversions_are_one_sentence(pipe, given, says):
    with pytest.raises(ValueError, match=says) as caught:
        pipe.invert(**{"image": picture(), "num_inversion_steps": 2, "skip": 0.15, **given})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"edit_guidance_scale": [1.0, 2.0]}, "2 values for 1 edits"),
        ({"edit_threshold": 1.5}, "between 0 and 1"),
        ({"edit_warmup_steps": 2}, "past the end"),
        ({"region_threshold": 0.5}, "edit_threshold is meant"),
    ],
)
def test_wrong_edits_are_one_sentence(pipe, given, says):
    inverted(pipe, steps=2)
    with pytest.raises(ValueError, match=says):
        pipe(editing_prompt="a dog", **given)
    with pytest.raises(TypeError, match="did you mean 'edit_threshold'"):
        pipe(editing_prompt="a dog", edit_treshold=0.5)
    with pytest.raises(TypeError, match="clip_skip"):
        pipe.invert(image=picture(), clip_skip=1)


def test_without_an_inversion_it_says_what_to_do(name):
    with pytest.raises(ValueError, match="call invert"):
        make(name)(editing_prompt="a dog")


def test_deepfloyds_safety_checker_and_watermark_are_asked(made):
    pipe = made("deepfloyd_if")
    images, asked = [picture(0, 64, 64), picture(1, 64, 64)], []

    class Checker(torch.nn.Module):
        device, dtype = torch.device("cpu"), torch.float32

        def forward(self, images, clip_input):
            asked.append(clip_input.shape)
            images[1] = 0
            return images, [False, True], [False, False]

    class Mark:
        def apply_watermark(self, images, size):
            return [Image.new("RGB", each.size, "red") if k == 0 else each for k, each in enumerate(images)]

    class Features:
        def __call__(self, images, return_tensors):
            return type("Seen", (), {"pixel_values": torch.zeros(len(images), 3, 8, 8)})

    inverted(pipe, images, steps=2)
    try:
        pipe.safety_checker, pipe.feature_extractor, pipe.watermarker = Checker(), Features(), Mark()
        out = pipe(editing_prompt="a dog")
    finally:
        pipe.safety_checker = pipe.feature_extractor = pipe.watermarker = None
    assert out.nsfw_content_detected == [False, True]
    assert np.asarray(out.images[1]).max() == 0
    assert out.images[0].getpixel((0, 0)) == (255, 0, 0)
    assert asked == [(2, 3, 8, 8)]
    with pytest.raises(ValueError, match="feature_extractor"):
        LEditsPPPipelineIF(**{**pipe.components, "safety_checker": Checker()})


def test_deepfloyds_second_stage_enlarges_what_was_edited(made):
    """diffusers' own, as any picture of the first stage; docs/families.md says so."""
    pipe = made("deepfloyd_if")
    inverted(pipe, picture(0, 32, 32), steps=2)
    edited = pipe(editing_prompt="a dog").images
    config = {**pipe.unet.config, "in_channels": 6, "sample_size": 64, "class_embed_type": "timestep"}
    torch.manual_seed(0)
    second = IFSuperResolutionPipeline(
        unet=UNet2DConditionModel.from_config(config).eval(), tokenizer=pipe.tokenizer, text_encoder=pipe.text_encoder,
        scheduler=pipe.scheduler, image_noising_scheduler=pipe.scheduler, safety_checker=None, feature_extractor=None,
        watermarker=None, requires_safety_checker=False,
    )  # fmt: skip
    second.set_progress_bar_config(disable=True)
    large = second(prompt="a dog", image=edited, num_inference_steps=2, clean_caption=False).images
    assert large[0].size == (64, 64)
